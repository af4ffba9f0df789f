//! Changing the spacing of images and label maps.
//!
//! Every method works axis by axis: a value of the output is a weighted sum of neighbours along each
//! axis, and what differs is the weights alone (cubic B-spline, linear, nearest). The centre of
//! output voxel `o` lies at `(o + 0.5) * from / to - 0.5` in the input, whose border voxels go on for
//! ever. The results are those of scikit-image's `resize` (mode `edge`, no smoothing), which nnU-Net uses.

use rayon::prelude::*;

/// Spacings whose ratio is above this are anisotropic: no interpolation across the coarse axis.
pub const ANISOTROPY_THRESHOLD: f64 = 3.0;

/// The pole of the cubic B-spline's inverse filter (Unser 1999), sqrt(3) - 2.
const POLE: f64 = -0.267_949_192_431_122_7;

/// Neighbours on either side that the inverse filter reaches: `POLE`^14 is 1e-8, below what `f32` holds.
const REACH: isize = 14;

/// Voxels (D, H, W) after a change of spacing from `spacing` to `target` (mm): rounded, at least 1.
pub fn resampled_shape(shape: [usize; 3], spacing: [f64; 3], target: [f64; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| {
        let exact = spacing[axis] / target[axis] * shape[axis] as f64;
        (exact.round_ties_even() as usize).max(1)
    })
}

/// The axis across which nothing is interpolated: the coarsest, where `spacing` or else `target` is
/// anisotropic and no second axis is as coarse.
pub fn coarse_axis(spacing: [f64; 3], target: [f64; 3]) -> Option<usize> {
    let is_anisotropic = |s: &[f64; 3]| largest(s) / smallest(s) > ANISOTROPY_THRESHOLD;
    let anisotropic = [spacing, target].into_iter().find(is_anisotropic)?;
    let coarsest = largest(&anisotropic);
    let mut axes = (0..3).filter(|&axis| anisotropic[axis] == coarsest);
    let axis = axes.next()?;
    axes.next().is_none().then_some(axis)
}

fn largest(values: &[f64; 3]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn smallest(values: &[f64; 3]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The neighbours along one axis that make up one output value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taps {
    /// The first of them.
    pub first: usize,
    /// Their weights, which add up to 1.
    pub weights: Vec<f64>,
}

impl Taps {
    fn nearest(from: usize, to: usize) -> Vec<Self> {
        let last = from.saturating_sub(1) as f64;
        centres(from, to)
            .map(|x| Self {
                first: (x + 0.5).floor().clamp(0.0, last) as usize,
                weights: vec![1.0],
            })
            .collect()
    }

    fn linear(from: usize, to: usize) -> Vec<Self> {
        let last = from.saturating_sub(1) as f64;
        centres(from, to)
            .map(|x| {
                let x = x.clamp(0.0, last);
                let share = x.fract();
                Self {
                    first: x as usize,
                    weights: if share == 0.0 {
                        vec![1.0]
                    } else {
                        vec![1.0 - share, share]
                    },
                }
            })
            .collect()
    }

    /// Linear interpolation; where it shrinks, the triangle is as much wider, so that every input value counts.
    fn triangle(from: usize, to: usize) -> Vec<Self> {
        let reach = (from as f64 / to.max(1) as f64).max(1.0);
        centres(from, to)
            .map(|x| {
                let first = (x - reach).ceil().max(0.0) as usize;
                let end = ((x + reach).floor() as usize + 1).min(from);
                let height = |i: usize| (1.0 - (i as f64 - x).abs() / reach).max(0.0);
                let weights: Vec<f64> = (first..end).map(height).collect();
                let sum: f64 = weights.iter().sum();
                Self {
                    first,
                    weights: weights.into_iter().map(|w| w / sum).collect(),
                }
            })
            .collect()
    }

    /// Cubic B-spline interpolation: the inverse filter and the spline, as one row of weights.
    fn cubic(from: usize, to: usize) -> Vec<Self> {
        let gain = -6.0 * POLE / (1.0 - POLE * POLE);
        let last = from.saturating_sub(1) as isize;
        centres(from, to)
            .map(|x| {
                let base = x.floor() as isize;
                let low = (base - 1 - REACH).clamp(0, last);
                let high = (base + 2 + REACH).clamp(0, last);
                let mut weights = vec![0.0; (high - low + 1) as usize];
                for knot in base - 1..=base + 2 {
                    let spline = cubic_spline(x - knot as f64);
                    for step in -REACH..=REACH {
                        let at = (knot + step).clamp(0, last) - low;
                        let inverse = gain * POLE.powi(step.unsigned_abs() as i32);
                        weights[at as usize] += spline * inverse;
                    }
                }
                Self {
                    first: low as usize,
                    weights,
                }
            })
            .collect()
    }
}

/// Where the centres of `to` voxels lie among `from` voxels of the same length in all.
fn centres(from: usize, to: usize) -> impl Iterator<Item = f64> {
    let scale = from as f64 / to.max(1) as f64;
    (0..to).map(move |o| (o as f64 + 0.5) * scale - 0.5)
}

/// The cubic B-spline at distance `t` from its centre.
fn cubic_spline(t: f64) -> f64 {
    let t = t.abs();
    if t < 1.0 {
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    } else if t < 2.0 {
        (2.0 - t).powi(3) / 6.0
    } else {
        0.0
    }
}

/// Resamples a channel (D, H, W) from the extent `from` to `to` linearly, averaging over what is left out where it shrinks
/// (PyTorch's bilinear interpolation with `antialias`).
pub fn antialiased(channel: &[f32], from: [usize; 3], to: [usize; 3]) -> Vec<f32> {
    let (mut shape, mut data) = (from, channel.to_vec());
    for axis in [2, 1, 0] {
        if shape[axis] != to[axis] {
            let taps = Taps::triangle(shape[axis], to[axis]);
            data = along(&data, shape, axis, &taps);
            shape[axis] = to[axis];
        }
    }
    data
}

/// A change from one grid to another over the same space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resampling {
    /// Voxels (D, H, W) of the input.
    pub from: [usize; 3],
    /// Voxels (D, H, W) of the output.
    pub to: [usize; 3],
    /// The axis along which the nearest voxel is taken, see [`coarse_axis`].
    pub coarse_axis: Option<usize>,
}

impl Resampling {
    /// The inverse change.
    pub fn inverse(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            coarse_axis: self.coarse_axis,
        }
    }

    /// Resamples an image `channel` (D, H, W) by cubic B-splines, and by the nearest voxel along the
    /// coarse axis. The result keeps within the range of the input, or of its slice where there is a
    /// coarse axis.
    pub fn image(&self, channel: &[f32]) -> Vec<f32> {
        let mut shape = self.from;
        let mut data = channel.to_vec();
        for axis in [2, 1, 0] {
            if shape[axis] == self.to[axis] || Some(axis) == self.coarse_axis {
                continue;
            }
            data = along(&data, shape, axis, &Taps::cubic(shape[axis], self.to[axis]));
            shape[axis] = self.to[axis];
        }
        if shape != self.from {
            self.clip_overshoot(&mut data, shape, channel);
        }
        if let Some(axis) = self.coarse_axis
            && shape[axis] != self.to[axis]
        {
            data = along(
                &data,
                shape,
                axis,
                &Taps::nearest(shape[axis], self.to[axis]),
            );
        }
        data
    }

    /// Resamples a label map (D, H, W): the label whose mask, interpolated linearly, reaches one
    /// half, the higher of two that both do; 0 where none does.
    pub fn labels(&self, labels: &[u32]) -> Vec<u32> {
        if self.from == self.to {
            return labels.to_vec();
        }
        let taps = self.linear_taps();
        let [_, height, width] = self.from;
        let mut out = vec![0; self.to.iter().product()];
        let row_of = |(row, out): (usize, &mut [u32])| {
            let (d, h) = (row / self.to[1], row % self.to[1]);
            for (tap_w, out) in taps[2].iter().zip(out) {
                let mut votes = Votes::default();
                for (i, wd) in taps[0][d].weights.iter().enumerate() {
                    for (j, wh) in taps[1][h].weights.iter().enumerate() {
                        let slice = (taps[0][d].first + i) * height;
                        let start = (slice + taps[1][h].first + j) * width + tap_w.first;
                        for (k, ww) in tap_w.weights.iter().enumerate() {
                            votes.add(labels[start + k], wd * wh * ww);
                        }
                    }
                }
                *out = votes.winner();
            }
        };
        out.par_chunks_mut(self.to[2]).enumerate().for_each(row_of);
        out
    }

    /// Linear weights along D, H, W; the nearest voxel along the coarse axis.
    pub(super) fn linear_taps(&self) -> [Vec<Taps>; 3] {
        std::array::from_fn(|axis| {
            if Some(axis) == self.coarse_axis {
                Taps::nearest(self.from[axis], self.to[axis])
            } else {
                Taps::linear(self.from[axis], self.to[axis])
            }
        })
    }

    /// Splines overshoot at edges; `data` has `shape`, still with the slices of the input.
    fn clip_overshoot(&self, data: &mut [f32], shape: [usize; 3], input: &[f32]) {
        let Some(axis) = self.coarse_axis else {
            let (low, high) = range(input.iter());
            data.par_iter_mut().for_each(|v| *v = v.clamp(low, high));
            return;
        };
        let ranges: Vec<(f32, f32)> = (0..self.from[axis])
            .map(|slice| range(slice_of(input, self.from, axis, slice)))
            .collect();
        let inner: usize = shape[axis + 1..].iter().product();
        for (row, values) in data.chunks_exact_mut(inner).enumerate() {
            let (low, high) = ranges[row % shape[axis]];
            values.iter_mut().for_each(|v| *v = v.clamp(low, high));
        }
    }
}

/// All voxels of slice number `slice` across `axis`.
fn slice_of(
    data: &[f32],
    shape: [usize; 3],
    axis: usize,
    slice: usize,
) -> impl Iterator<Item = &f32> {
    let inner: usize = shape[axis + 1..].iter().product();
    let chunks = data.chunks_exact(inner).skip(slice);
    chunks.step_by(shape[axis]).flatten()
}

fn range<'a>(values: impl Iterator<Item = &'a f32>) -> (f32, f32) {
    values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| {
        (low.min(v), high.max(v))
    })
}

/// Applies one row of weights per output voxel along `axis` of `data` (D, H, W = `shape`).
fn along(data: &[f32], shape: [usize; 3], axis: usize, taps: &[Taps]) -> Vec<f32> {
    let (from, to) = (shape[axis], taps.len());
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut out = vec![0.0f32; outer * to * inner];
    if inner == 1 {
        let rows = out.par_chunks_mut(to).zip(data.par_chunks(from));
        rows.for_each(|(out, row)| {
            for (out, tap) in out.iter_mut().zip(taps) {
                let window = &row[tap.first..];
                let products = window.iter().zip(&tap.weights);
                *out = products.map(|(&v, &w)| f64::from(v) * w).sum::<f64>() as f32;
            }
        });
    } else {
        out.par_chunks_mut(inner).enumerate().for_each(|(i, out)| {
            let (block, tap) = (i / to, &taps[i % to]);
            for (k, &weight) in tap.weights.iter().enumerate() {
                let start = (block * from + tap.first + k) * inner;
                for (out, &value) in out.iter_mut().zip(&data[start..start + inner]) {
                    *out += weight as f32 * value;
                }
            }
        });
    }
    out
}

/// The weight of each label among the eight neighbours at most.
#[derive(Default)]
struct Votes {
    labels: [u32; 8],
    weights: [f64; 8],
    count: usize,
}

impl Votes {
    fn add(&mut self, label: u32, weight: f64) {
        let known = self.labels[..self.count].iter().position(|&l| l == label);
        let at = known.unwrap_or(self.count);
        self.labels[at] = label;
        self.weights[at] += weight;
        self.count = self.count.max(at + 1);
    }

    fn winner(&self) -> u32 {
        // Eight products of thirds do not add up to exactly one; half of them must still be a half.
        const HALF: f64 = 0.5 - 1e-9;
        let votes = self.labels.iter().zip(&self.weights).take(self.count);
        let elected = votes.filter(|(_, weight)| **weight >= HALF);
        elected.map(|(&label, _)| label).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one() {
        for (from, to) in [(1, 4), (7, 7), (7, 11), (30, 11), (5, 40)] {
            for taps in [Taps::nearest, Taps::linear, Taps::triangle, Taps::cubic] {
                for tap in taps(from, to) {
                    assert!(tap.first + tap.weights.len() <= from);
                    let sum: f64 = tap.weights.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-7, "{from} to {to}: {sum}");
                }
            }
        }
    }

    #[test]
    fn a_coarse_axis_stands_alone() {
        let fine = [1.0; 3];
        assert_eq!(coarse_axis([1.0, 5.0, 1.0], fine), Some(1));
        assert_eq!(coarse_axis(fine, [4.0, 1.0, 1.0]), Some(0));
        assert_eq!(coarse_axis([3.0, 1.0, 1.0], fine), None);
        assert_eq!(coarse_axis([0.2, 1.25, 1.25], fine), None);
        assert_eq!(coarse_axis(fine, fine), None);
    }
}
