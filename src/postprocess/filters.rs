//! Filters on label arrays that are built from connected components.

use super::{Connectivity, PostprocessError, connected_components};

/// Keeps the largest component of the voxels whose label is in `members` and sets the others to
/// background (0); of several largest, the first in memory order. Returns the number of voxels
/// removed. `labels` is D·H·W; other labels stay as they are.
///
/// With all foreground labels this is nnU-Net's first postprocessing step, with one label its
/// second.
///
/// # Errors
/// [`PostprocessError::Length`] where `labels` does not fit `shape`.
pub fn keep_largest(
    labels: &mut [u32],
    shape: [usize; 3],
    members: &[u32],
    connectivity: Connectivity,
) -> Result<usize, PostprocessError> {
    let mask: Vec<bool> = labels.iter().map(|label| members.contains(label)).collect();
    let components = connected_components(&mask, shape, connectivity)?;
    let mut removed = 0;
    for (range, id) in components.ranges() {
        if Some(id) != components.largest() {
            removed += range.len();
            labels[range].fill(0);
        }
    }
    Ok(removed)
}

/// Fills the holes of one label and returns the number of voxels filled.
///
/// A hole is a face-connected component of background (0) that does not reach the border of the
/// image and whose face neighbours all have `label`; background enclosed by several labels stays,
/// because nothing says whose it is. In a 2D image (D = 1) the depth axis is no border.
///
/// # Errors
/// [`PostprocessError::Length`] where `labels` does not fit `shape`.
pub fn fill_holes(
    labels: &mut [u32],
    shape: [usize; 3],
    label: u32,
) -> Result<usize, PostprocessError> {
    let background: Vec<bool> = labels.iter().map(|&found| found == 0).collect();
    let components = connected_components(&background, shape, Connectivity::Faces)?;
    let mut is_hole = vec![true; components.sizes().len()];
    for (range, id) in components.ranges() {
        let mut voxels = range.into_iter();
        is_hole[id] = is_hole[id] && voxels.all(|i| is_enclosed(labels, i, shape, label));
    }
    let mut filled = 0;
    for (range, _) in components.ranges().filter(|(_, id)| is_hole[*id]) {
        filled += range.len();
        labels[range].fill(label);
    }
    Ok(filled)
}

/// Whether background voxel `i` is off the border and has only `label` and background beside it.
fn is_enclosed(labels: &[u32], i: usize, [depth, height, width]: [usize; 3], label: u32) -> bool {
    let plane = height * width;
    let axes = [
        (i / plane, depth, plane),
        (i / width % height, height, width),
        (i % width, width, 1),
    ];
    let skipped = usize::from(depth == 1);
    axes[skipped..].iter().all(|&(at, len, stride)| {
        let fits = |neighbour: u32| neighbour == 0 || neighbour == label;
        at > 0 && at + 1 < len && fits(labels[i - stride]) && fits(labels[i + stride])
    })
}
