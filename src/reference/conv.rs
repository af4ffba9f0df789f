//! Convolution in f64. The three directions share one loop over all (output, tap, input) triples that touch.

use crate::tensor::{HostTensor, Shape};

/// Stride, padding before, dilation (each D, H, W) and groups; the window's extents are those of the weight.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Voxels of x from one voxel of y to the next.
    pub stride: [usize; 3],
    /// Zeros before x.
    pub padding: [usize; 3],
    /// Voxels of x from one tap to the next.
    pub dilation: [usize; 3],
    /// Groups of channels.
    pub groups: usize,
}

/// Calls `touch(x index, w index, y index)` for every product of the convolution from shape `x` by `w` to `y`.
fn for_each_product(
    window: &Window,
    x: Shape,
    w: Shape,
    y: Shape,
    mut touch: impl FnMut(usize, usize, usize),
) {
    let [n, c_out, d, h, width] = y.0;
    let [_, group_in, kd, kh, kw] = w.0;
    let group_out = c_out / window.groups;
    let place = |axis: usize, out: usize, tap: usize| {
        (out * window.stride[axis] + tap * window.dilation[axis])
            .checked_sub(window.padding[axis])
            .filter(|&i| i < x.spatial()[axis])
    };
    for (n, o) in pairs(n, c_out) {
        for (c, tap) in pairs(group_in, kd * kh * kw) {
            let (tz, ty, tx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
            let channel = n * x.c() + o / group_out * group_in + c;
            let w_index = (o * group_in + c) * kd * kh * kw + tap;
            for (z, row) in pairs(d, h) {
                let (Some(iz), Some(iy)) = (place(0, z, tz), place(1, row, ty)) else {
                    continue;
                };
                let x_row =
                    ((channel * x.spatial()[0] + iz) * x.spatial()[1] + iy) * x.spatial()[2];
                let y_row = (((n * c_out + o) * d + z) * h + row) * width;
                for v in 0..width {
                    if let Some(ix) = place(2, v, tx) {
                        touch(x_row + ix, w_index, y_row + v);
                    }
                }
            }
        }
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)))
}

fn add_bias(t: &mut HostTensor<f64>, bias: Option<&HostTensor<f64>>) {
    let Some(bias) = bias else { return };
    let (voxels, channels) = (t.shape.voxels(), t.shape.c());
    for (i, v) in t.data.iter_mut().enumerate() {
        *v += bias.data[i / voxels % channels];
    }
}

/// y (N, C_out, `size`) = conv(x, w) + bias.
pub fn forward(
    window: &Window,
    x: &HostTensor<f64>,
    w: &HostTensor<f64>,
    bias: Option<&HostTensor<f64>>,
    size: [usize; 3],
) -> HostTensor<f64> {
    let mut y = HostTensor::zeros(x.shape.with_c(w.shape.n()).with_spatial(size));
    for_each_product(window, x.shape, w.shape, y.shape, |i, k, o| {
        y.data[o] += w.data[k] * x.data[i]
    });
    add_bias(&mut y, bias);
    y
}

/// dx (N, C_in, `size`) from dy and w, + bias: the input gradient, and transposed convolution.
pub fn input_grad(
    window: &Window,
    dy: &HostTensor<f64>,
    w: &HostTensor<f64>,
    bias: Option<&HostTensor<f64>>,
    size: [usize; 3],
) -> HostTensor<f64> {
    let mut dx = HostTensor::zeros(
        dy.shape
            .with_c(w.shape.c() * window.groups)
            .with_spatial(size),
    );
    for_each_product(window, dx.shape, w.shape, dy.shape, |i, k, o| {
        dx.data[i] += w.data[k] * dy.data[o]
    });
    add_bias(&mut dx, bias);
    dx
}

/// dw (the shape `w`) from x and dy.
pub fn weight_grad(
    window: &Window,
    x: &HostTensor<f64>,
    dy: &HostTensor<f64>,
    w: Shape,
) -> HostTensor<f64> {
    let mut dw = HostTensor::zeros(w);
    for_each_product(window, x.shape, w, dy.shape, |i, k, o| {
        dw.data[k] += x.data[i] * dy.data[o]
    });
    dw
}

/// db (C): the sum of each channel of dy.
pub fn bias_grad(dy: &HostTensor<f64>) -> HostTensor<f64> {
    let mut db = HostTensor::zeros(Shape::vector(dy.shape.c()));
    let (voxels, channels) = (dy.shape.voxels(), dy.shape.c());
    for (i, v) in dy.data.iter().enumerate() {
        db.data[i / voxels % channels] += v;
    }
    db
}
