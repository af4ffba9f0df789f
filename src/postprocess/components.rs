//! Connected components by union-find over runs of voxels along W.
//!
//! A run is joined to the runs that it touches in the rows before it, so work and memory grow with
//! the runs of the mask and not with the voxels of the image.

use super::PostprocessError;

/// Which voxels are neighbours. In a 2D image 6 means 4 neighbours, 18 and 26 mean 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// 6: voxels that share a face.
    Faces,
    /// 18: voxels that share a face or an edge.
    Edges,
    /// 26: voxels that share a face, an edge or a corner.
    Corners,
}

impl TryFrom<u32> for Connectivity {
    type Error = PostprocessError;

    /// From the number of neighbours: 6, 18 or 26.
    fn try_from(neighbours: u32) -> Result<Self, PostprocessError> {
        match neighbours {
            6 => Ok(Self::Faces),
            18 => Ok(Self::Edges),
            26 => Ok(Self::Corners),
            found => Err(PostprocessError::Connectivity { found }),
        }
    }
}

impl Connectivity {
    /// How far along W two runs may be apart and still touch, where their rows differ by one in
    /// `steps` of the axes D and H; `None` where such rows do not touch at all.
    fn reach(self, steps: usize) -> Option<usize> {
        match (self, steps) {
            (Self::Faces, 1) | (Self::Edges, 2) => Some(0),
            (Self::Edges, 1) | (Self::Corners, _) => Some(1),
            _ => None,
        }
    }
}

/// Voxels `start..end` along W in row `row` = d·H + h.
#[derive(Debug, Clone, Copy)]
struct Run {
    row: usize,
    start: usize,
    end: usize,
}

/// The components of a mask, numbered from 0 in the order of their first voxels.
#[derive(Debug, Clone)]
pub struct Components {
    width: usize,
    runs: Vec<Run>,
    component_of: Vec<usize>,
    sizes: Vec<usize>,
}

impl Components {
    /// Voxels of each component.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Number of the largest component, the first of equals; `None` for an empty mask.
    pub fn largest(&self) -> Option<usize> {
        let reversed = self.sizes.iter().enumerate().rev();
        reversed.max_by_key(|(_, size)| **size).map(|(i, _)| i)
    }

    /// Ranges of linear voxel indices, each with the number of its component, in memory order.
    pub fn ranges(&self) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> + '_ {
        self.runs.iter().zip(&self.component_of).map(|(run, &id)| {
            let row = run.row * self.width;
            (row + run.start..row + run.end, id)
        })
    }
}

/// Finds the connected components of a mask of `shape` `[D, H, W]`.
///
/// # Errors
/// [`PostprocessError::Length`] where `mask` does not hold D·H·W flags.
pub fn connected_components(
    mask: &[bool],
    shape: [usize; 3],
    connectivity: Connectivity,
) -> Result<Components, PostprocessError> {
    check_len(mask.len(), shape)?;
    let [_, height, width] = shape;
    let (runs, row_starts) = runs_of(mask, width);
    let mut sets = Sets((0..runs.len()).collect());
    for row in 0..row_starts.len().saturating_sub(1) {
        let here = row_starts[row]..row_starts[row + 1];
        for (before, steps) in rows_before(row, height) {
            if let Some(reach) = connectivity.reach(steps) {
                let there = row_starts[before]..row_starts[before + 1];
                join_rows(&runs, there, here.clone(), reach, &mut sets);
            }
        }
    }
    Ok(number(runs, sets, width))
}

fn check_len(found: usize, shape: [usize; 3]) -> Result<(), PostprocessError> {
    let expected = shape
        .iter()
        .try_fold(1usize, |n, &axis| n.checked_mul(axis));
    if expected == Some(found) {
        return Ok(());
    }
    Err(PostprocessError::Length {
        shape,
        expected,
        found,
    })
}

/// All runs in memory order, and for each row the index of its first run (with a final end).
fn runs_of(mask: &[bool], width: usize) -> (Vec<Run>, Vec<usize>) {
    let mut runs = Vec::new();
    let mut row_starts = vec![0];
    // A mask without voxels has no rows either; `max` only keeps `chunks` from refusing width 0.
    for (row, flags) in mask.chunks(width.max(1)).enumerate() {
        let mut w = 0;
        for run in flags.chunk_by(|a, b| a == b) {
            if run[0] {
                runs.push(Run {
                    row,
                    start: w,
                    end: w + run.len(),
                });
            }
            w += run.len();
        }
        row_starts.push(runs.len());
    }
    (runs, row_starts)
}

/// The neighbouring rows that come earlier in memory, each with the number of axes it differs in.
fn rows_before(row: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    let (d, h) = (row / height, row % height);
    let beside = (h > 0).then(|| (row - 1, 1));
    let above = (d > 0).then(|| row - height);
    beside
        .into_iter()
        .chain(above.map(|row| (row, 1)))
        .chain(above.filter(|_| h > 0).map(|row| (row - 1, 2)))
        .chain(above.filter(|_| h + 1 < height).map(|row| (row + 1, 2)))
}

/// Joins the runs of two rows that overlap or come within `reach` voxels; both are ascending.
fn join_rows(
    runs: &[Run],
    there: std::ops::Range<usize>,
    here: std::ops::Range<usize>,
    reach: usize,
    sets: &mut Sets,
) {
    let (mut i, mut j) = (there.start, here.start);
    while i < there.end && j < here.end {
        let (a, b) = (runs[i], runs[j]);
        if a.start < b.end + reach && b.start < a.end + reach {
            sets.join(i, j);
        }
        if a.end < b.end {
            i += 1;
        } else {
            j += 1;
        }
    }
}

/// Disjoint sets of runs. The root of a set is its earliest run, so that components are numbered by
/// their first voxel whatever the order of the joins.
struct Sets(Vec<usize>);

impl Sets {
    fn root(&mut self, mut run: usize) -> usize {
        while self.0[run] != run {
            self.0[run] = self.0[self.0[run]];
            run = self.0[run];
        }
        run
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

fn number(runs: Vec<Run>, mut sets: Sets, width: usize) -> Components {
    let mut component_of: Vec<usize> = Vec::with_capacity(runs.len());
    let mut sizes = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        let root = sets.root(i);
        let id = if root == i {
            sizes.push(0);
            sizes.len() - 1
        } else {
            component_of[root]
        };
        component_of.push(id);
        sizes[id] += run.end - run.start;
    }
    Components {
        width,
        runs,
        component_of,
        sizes,
    }
}
