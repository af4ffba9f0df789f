//! Exact Euclidean distance to the nearest source voxel, with a spacing per axis.
//!
//! Separable squared distances: two sweeps along the depth axis, then the lower envelope of
//! parabolas along H and along W (Felzenszwalb and Huttenlocher, Distance Transforms of Sampled
//! Functions, Theory of Computing 8, 2012), in f64. Only the depth sweep is kept for the whole
//! volume, as u16 slice counts; the planes after it live one per thread. A full f64 map of 512³
//! voxels would take 1 GiB, this takes 256 MiB.

use rayon::prelude::*;

use super::{Grid, MetricsError};

/// No source in this column.
const NONE: u16 = u16::MAX;

/// Distance in mm from each voxel that `queries` marks, in memory order, to the nearest voxel that
/// `sources` marks; infinite where `sources` marks none. Both arrays hold D·H·W flags.
///
/// # Errors
/// [`MetricsError::Length`] where an array does not fit the grid.
pub fn distances(
    sources: &[bool],
    queries: &[bool],
    grid: &Grid,
) -> Result<Vec<f64>, MetricsError> {
    grid.check_len("sources of the distance transform", sources.len())?;
    grid.check_len("queries of the distance transform", queries.len())?;
    let [_, height, width] = grid.shape();
    let plane = height * width;
    let steps = depth_steps(sources, plane);
    let by_slice: Vec<Vec<f64>> = steps
        .par_chunks(plane)
        .zip(queries.par_chunks(plane))
        .map_init(
            || Plane::new(height, width),
            |scratch, (steps, queries)| scratch.distances(steps, queries, grid.spacing()),
        )
        .collect();
    Ok(by_slice.concat())
}

/// Number of slices from each voxel to the nearest source in its own column along D.
fn depth_steps(sources: &[bool], plane: usize) -> Vec<u16> {
    let mut steps: Vec<u16> = sources
        .iter()
        .map(|&source| if source { 0 } else { NONE })
        .collect();
    let slices = steps.len() / plane;
    for d in 1..slices {
        let (before, here) = steps.split_at_mut(d * plane);
        relax(&before[(d - 1) * plane..], &mut here[..plane]);
    }
    for d in (1..slices).rev() {
        let (here, after) = steps.split_at_mut(d * plane);
        relax(&after[..plane], &mut here[(d - 1) * plane..]);
    }
    steps
}

fn relax(neighbour: &[u16], here: &mut [u16]) {
    for (step, &n) in here.iter_mut().zip(neighbour) {
        *step = (*step).min(n.saturating_add(1));
    }
}

/// Scratch of one slice: squared distances in mm², H·W.
struct Plane {
    width: usize,
    squared: Vec<f64>,
    line: Vec<f64>,
    envelope: Envelope,
}

impl Plane {
    fn new(height: usize, width: usize) -> Self {
        Self {
            width,
            squared: vec![0.0; height * width],
            line: vec![0.0; height.max(width)],
            envelope: Envelope::default(),
        }
    }

    fn distances(&mut self, steps: &[u16], queries: &[bool], spacing: [f64; 3]) -> Vec<f64> {
        if !queries.contains(&true) {
            return Vec::new();
        }
        for (squared, &n) in self.squared.iter_mut().zip(steps) {
            *squared = if n == NONE {
                f64::INFINITY
            } else {
                (f64::from(n) * spacing[0]).powi(2)
            };
        }
        self.along_height(spacing[1]);
        self.along_width(queries, spacing[2])
    }

    fn along_height(&mut self, spacing: f64) {
        let height = self.squared.len() / self.width;
        for w in 0..self.width {
            let line = &mut self.line[..height];
            for (value, squared) in line
                .iter_mut()
                .zip(self.squared[w..].iter().step_by(self.width))
            {
                *value = *squared;
            }
            self.envelope.build(line, spacing);
            let column = self.squared[w..].iter_mut().step_by(self.width);
            self.envelope.walk(line, spacing, column);
        }
    }

    fn along_width(&mut self, queries: &[bool], spacing: f64) -> Vec<f64> {
        let mut found = Vec::new();
        let rows = self
            .squared
            .chunks(self.width)
            .zip(queries.chunks(self.width));
        for (row, queries) in rows.filter(|(_, queries)| queries.contains(&true)) {
            let line = &mut self.line[..self.width];
            self.envelope.build(row, spacing);
            self.envelope.walk(row, spacing, line.iter_mut());
            let hits = line.iter().zip(queries).filter(|(_, query)| **query);
            found.extend(hits.map(|(squared, _)| squared.sqrt()));
        }
        found
    }
}

/// Lower envelope of the parabolas `f(p) + spacing²·(x − p)²`: the sites that are lowest somewhere,
/// and from which x on each of them is.
#[derive(Default)]
struct Envelope {
    sites: Vec<usize>,
    starts: Vec<f64>,
}

impl Envelope {
    fn build(&mut self, f: &[f64], spacing: f64) {
        self.sites.clear();
        self.starts.clear();
        for q in (0..f.len()).filter(|&q| f[q].is_finite()) {
            let mut start = f64::NEG_INFINITY;
            while let (Some(&p), Some(&p_start)) = (self.sites.last(), self.starts.last()) {
                let lift = (f[q] - f[p]) / (spacing * spacing);
                let crossing = (lift / (q - p) as f64 + (q + p) as f64) / 2.0;
                if crossing > p_start {
                    start = crossing;
                    break;
                }
                self.sites.pop();
                self.starts.pop();
            }
            self.sites.push(q);
            self.starts.push(start);
        }
    }

    /// Writes the envelope's height at x = 0, 1, 2, … to `out`.
    fn walk<'a>(&self, f: &[f64], spacing: f64, out: impl Iterator<Item = &'a mut f64>) {
        let mut k = 0;
        for (x, value) in out.enumerate() {
            while self
                .starts
                .get(k + 1)
                .is_some_and(|&start| start < x as f64)
            {
                k += 1;
            }
            *value = match self.sites.get(k) {
                Some(&p) => f[p] + (x.abs_diff(p) as f64 * spacing).powi(2),
                None => f64::INFINITY,
            };
        }
    }
}
