//! Padding and cropping of D, H and W.

use super::indices;
use crate::tensor::{HostTensor, Shape};

/// What new voxels hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// This value.
    Constant(f64),
    /// The image mirrored at the centres of its outermost voxels.
    Mirror,
    /// The nearest voxel of the image.
    Replicate,
}

/// The voxel that the padded position `at - before` comes from along an axis of `size`; `None` in a constant border.
fn source(fill: Fill, at: usize, before: usize, size: usize) -> Option<usize> {
    let last = size as i64 - 1;
    let mut i = at as i64 - before as i64;
    match fill {
        Fill::Constant(_) if !(0..=last).contains(&i) => return None,
        Fill::Constant(_) => {}
        Fill::Replicate => i = i.clamp(0, last),
        Fill::Mirror => {
            i = i.abs();
            i = last - (last - i).abs();
        }
    }
    usize::try_from(i).ok()
}

/// The voxel of x behind `o` of the padded image.
fn origin(x: Shape, before: [usize; 3], fill: Fill, o: [usize; 5]) -> Option<[usize; 5]> {
    let along = |a: usize| source(fill, o[a + 2], before[a], x.spatial()[a]);
    Some([o[0], o[1], along(0)?, along(1)?, along(2)?])
}

/// y (N, C, before + (D, H, W) + after) = x with a border.
pub fn pad(
    x: &HostTensor<f64>,
    before: [usize; 3],
    after: [usize; 3],
    fill: Fill,
) -> HostTensor<f64> {
    let [d, h, w] = [0, 1, 2].map(|a| before[a] + x.shape.spatial()[a] + after[a]);
    let mut y = HostTensor::zeros(x.shape.with_spatial([d, h, w]));
    for o in indices(y.shape) {
        *y.at_mut(o) = match (origin(x.shape, before, fill, o), fill) {
            (Some(i), _) => x.at(i),
            (None, Fill::Constant(value)) => value,
            (None, _) => f64::NAN,
        };
    }
    y
}

/// dx (N, C, size) of [`pad`].
pub fn pad_backward(
    dy: &HostTensor<f64>,
    before: [usize; 3],
    size: [usize; 3],
    fill: Fill,
) -> HostTensor<f64> {
    let mut dx = HostTensor::zeros(dy.shape.with_spatial(size));
    for o in indices(dy.shape) {
        if let Some(i) = origin(dx.shape, before, fill, o) {
            *dx.at_mut(i) += dy.at(o);
        }
    }
    dx
}

/// y (N, C, size) = x from `start` on.
pub fn crop(x: &HostTensor<f64>, start: [usize; 3], size: [usize; 3]) -> HostTensor<f64> {
    let mut y = HostTensor::zeros(x.shape.with_spatial(size));
    for o in indices(y.shape) {
        let [n, c, z, h, w] = o;
        *y.at_mut(o) = x.at([n, c, z + start[0], h + start[1], w + start[2]]);
    }
    y
}
