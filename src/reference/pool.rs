//! Pooling. Windows are given by kernel, stride and padding, each (D, H, W).

use super::indices;
use crate::tensor::{HostTensor, Shape};

/// Extent, step and padding of a window, each (D, H, W).
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Extent.
    pub kernel: [usize; 3],
    /// Step.
    pub stride: [usize; 3],
    /// Padding on both sides.
    pub padding: [usize; 3],
}

impl Window {
    fn output(&self, x: Shape) -> Shape {
        let extent =
            |a: usize| (x.spatial()[a] + 2 * self.padding[a] - self.kernel[a]) / self.stride[a] + 1;
        x.with_spatial([extent(0), extent(1), extent(2)])
    }

    /// The voxels of x, in scan order, that the output at `o` covers.
    fn covered(&self, x: Shape, o: [usize; 5]) -> Vec<[usize; 5]> {
        let range = |a: usize| {
            let start = o[a + 2] * self.stride[a];
            (start..start + self.kernel[a])
                .filter_map(move |i| i.checked_sub(self.padding[a]))
                .filter(move |&i| i < x.spatial()[a])
        };
        let mut found = Vec::new();
        for z in range(0) {
            for y in range(1) {
                found.extend(range(2).map(|w| [o[0], o[1], z, y, w]));
            }
        }
        found
    }

    fn divisor(&self, covered: usize, count_include_pad: bool) -> f64 {
        match count_include_pad {
            true => self.kernel.iter().product::<usize>() as f64,
            false => covered as f64,
        }
    }
}

fn first_largest(x: &HostTensor<f64>, covered: &[[usize; 5]]) -> [usize; 5] {
    let mut best = covered[0];
    for &i in covered {
        if x.at(i) > x.at(best) {
            best = i;
        }
    }
    best
}

/// y = max over each window of x (N, C, D, H, W).
pub fn max_pool(x: &HostTensor<f64>, window: Window) -> HostTensor<f64> {
    let mut y = HostTensor::zeros(window.output(x.shape));
    for o in indices(y.shape) {
        *y.at_mut(o) = x.at(first_largest(x, &window.covered(x.shape, o)));
    }
    y
}

/// dx of [`max_pool`]: dy goes to the first largest voxel of its window.
pub fn max_pool_backward(
    x: &HostTensor<f64>,
    dy: &HostTensor<f64>,
    window: Window,
) -> HostTensor<f64> {
    let mut dx = HostTensor::zeros(x.shape);
    for o in indices(dy.shape) {
        *dx.at_mut(first_largest(x, &window.covered(x.shape, o))) += dy.at(o);
    }
    dx
}

/// y = mean over each window of x (N, C, D, H, W).
pub fn avg_pool(x: &HostTensor<f64>, window: Window, count_include_pad: bool) -> HostTensor<f64> {
    let mut y = HostTensor::zeros(window.output(x.shape));
    for o in indices(y.shape) {
        let covered = window.covered(x.shape, o);
        let sum: f64 = covered.iter().map(|&i| x.at(i)).sum();
        *y.at_mut(o) = sum / window.divisor(covered.len(), count_include_pad);
    }
    y
}

/// dx of [`avg_pool`] for x of shape `x`.
pub fn avg_pool_backward(
    x: Shape,
    dy: &HostTensor<f64>,
    window: Window,
    count_include_pad: bool,
) -> HostTensor<f64> {
    let mut dx = HostTensor::zeros(x);
    for o in indices(dy.shape) {
        let covered = window.covered(x, o);
        let share = dy.at(o) / window.divisor(covered.len(), count_include_pad);
        for i in covered {
            *dx.at_mut(i) += share;
        }
    }
    dx
}

/// y (N, C, 1, 1, 1) = mean of each channel of x (N, C, D, H, W).
pub fn global_avg_pool(x: &HostTensor<f64>) -> HostTensor<f64> {
    avg_pool(x, whole(x.shape), false)
}

/// dx of [`global_avg_pool`] for x of shape `x`.
pub fn global_avg_pool_backward(x: Shape, dy: &HostTensor<f64>) -> HostTensor<f64> {
    avg_pool_backward(x, dy, whole(x), false)
}

fn whole(x: Shape) -> Window {
    Window {
        kernel: x.spatial(),
        stride: [1; 3],
        padding: [0; 3],
    }
}
