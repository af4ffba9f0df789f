//! Resampling by size, straight from the definitions of the positions.

use super::indices;
use crate::tensor::{HostTensor, Shape};

/// How a voxel of the output is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Linear along each axis, the borders of the images coincide.
    LinearBorders,
    /// Linear along each axis, the centres of the corner voxels coincide.
    LinearCorners,
    /// Voxel floor(o in / out).
    Nearest,
    /// Voxel floor((o + 1/2) in / out).
    NearestExact,
}

/// The input voxels of output `o` along one axis, with their weights.
fn taps(mode: Mode, input: usize, output: usize, o: usize) -> Vec<(usize, f64)> {
    let (n, m, o) = (input as f64, output as f64, o as f64);
    let position = match mode {
        Mode::Nearest => return vec![((o * n / m).floor() as usize, 1.0)],
        Mode::NearestExact => return vec![(((o + 0.5) * n / m).floor() as usize, 1.0)],
        Mode::LinearBorders => ((o + 0.5) * n / m - 0.5).max(0.0),
        Mode::LinearCorners if output == 1 => 0.0,
        Mode::LinearCorners => o * (n - 1.0) / (m - 1.0),
    };
    let low = position.floor() as usize;
    let weight = position - low as f64;
    vec![(low, 1.0 - weight), ((low + 1).min(input - 1), weight)]
}

/// The input voxels of the output voxel `o`, with their weights.
fn stencil(mode: Mode, x: Shape, y: Shape, o: [usize; 5]) -> Vec<([usize; 5], f64)> {
    let along = |a: usize| taps(mode, x.spatial()[a], y.spatial()[a], o[a + 2]);
    let mut found = Vec::new();
    for (z, wz) in along(0) {
        for (y, wy) in along(1) {
            for (x, wx) in along(2) {
                found.push(([o[0], o[1], z, y, x], wz * wy * wx));
            }
        }
    }
    found
}

/// y (N, C, size) from x (N, C, D, H, W).
pub fn resample(x: &HostTensor<f64>, size: [usize; 3], mode: Mode) -> HostTensor<f64> {
    let mut y = HostTensor::zeros(x.shape.with_spatial(size));
    for o in indices(y.shape) {
        *y.at_mut(o) = stencil(mode, x.shape, y.shape, o)
            .into_iter()
            .map(|(i, w)| w * x.at(i))
            .sum();
    }
    y
}

/// dx of [`resample`] for x of the spatial extents `input`.
pub fn resample_backward(dy: &HostTensor<f64>, input: [usize; 3], mode: Mode) -> HostTensor<f64> {
    let mut dx = HostTensor::zeros(dy.shape.with_spatial(input));
    for o in indices(dy.shape) {
        for (i, w) in stencil(mode, dx.shape, dy.shape, o) {
            *dx.at_mut(i) += w * dy.at(o);
        }
    }
    dx
}
