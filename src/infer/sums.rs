//! Gaussian-weighted means of overlapping windows, of which only the slices that windows still reach are held.

use std::collections::VecDeque;

use super::tiling::gaussian_window;
use crate::graph::GraphError;

/// Logits (channels, H, W) of one slice across D.
pub type Slice = Vec<f32>;

/// Weighted sums of logits over a padded volume, added up window by window in the order of their first slices.
///
/// No more slices than a window has are in memory: what later windows do not reach is handed out at once.
pub(super) struct Sums {
    channels: usize,
    extent: [usize; 3],
    patch: [usize; 3],
    gaussian: Vec<f32>,
    /// The slices from number `first` on.
    open: VecDeque<OpenSlice>,
    first: usize,
}

struct OpenSlice {
    /// Sums of weighted logits, (channels, H, W).
    logits: Slice,
    /// Sums of the weights, (H, W).
    weights: Vec<f32>,
}

/// A part of the padded volume along H and W.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    /// First row and column.
    pub start: [usize; 2],
    /// Rows and columns.
    pub extent: [usize; 2],
}

impl Sums {
    pub fn new(channels: usize, extent: [usize; 3], patch: [usize; 3]) -> Self {
        Self {
            channels,
            extent,
            patch,
            gaussian: gaussian_window(patch),
            open: VecDeque::new(),
            first: 0,
        }
    }

    /// Adds the logits (channels, D, H, W of the patch) of the window at `start`, not before that of the last window
    /// along D.
    ///
    /// # Errors
    /// [`GraphError::HostMemory`].
    pub fn add(&mut self, logits: &[f32], start: [usize; 3]) -> Result<(), GraphError> {
        let skipped = start[0] - self.first;
        while self.open.len() < skipped + self.patch[0] {
            let slice = self.empty_slice()?;
            self.open.push_back(slice);
        }
        let [_, h, w] = self.extent;
        let width = self.patch[2];
        for (row, weights) in self.gaussian.chunks_exact(width).enumerate() {
            let (y, z) = (row % self.patch[1], row / self.patch[1]);
            let slice = &mut self.open[skipped + z];
            let at = (start[1] + y) * w + start[2];
            for (sum, weight) in slice.weights[at..at + width].iter_mut().zip(weights) {
                *sum += weight;
            }
            for c in 0..self.channels {
                let from = &logits[c * self.gaussian.len() + row * width..][..width];
                let to = &mut slice.logits[c * h * w + at..][..width];
                for ((sum, value), weight) in to.iter_mut().zip(from).zip(weights) {
                    *sum += value * weight;
                }
            }
        }
        Ok(())
    }

    /// The means of the slices before number `end`, `inner` of each, for which all windows have been added.
    pub fn take(&mut self, end: usize, inner: Inner) -> Vec<Slice> {
        let count = end.saturating_sub(self.first).min(self.open.len());
        self.first += count;
        let [_, h, w] = self.extent;
        let whole = inner.extent == [h, w];
        let finished = self.open.drain(..count);
        finished
            .map(
                |OpenSlice {
                     mut logits,
                     weights,
                 }| {
                    for channel in logits.chunks_exact_mut(h * w) {
                        for (sum, weight) in channel.iter_mut().zip(&weights) {
                            *sum /= weight;
                        }
                    }
                    if !whole {
                        cut_out(&mut logits, [h, w], inner);
                    }
                    logits
                },
            )
            .collect()
    }

    fn empty_slice(&self) -> Result<OpenSlice, GraphError> {
        let [_, h, w] = self.extent;
        let plane = h.checked_mul(w);
        Ok(OpenSlice {
            logits: self.zeros(plane.and_then(|p| p.checked_mul(self.channels)))?,
            weights: self.zeros(plane)?,
        })
    }

    fn zeros(&self, len: Option<usize>) -> Result<Vec<f32>, GraphError> {
        let slices = self.patch[0];
        let bytes = |len: usize| {
            let held = len.saturating_mul(slices);
            held.saturating_mul(size_of::<f32>()) as u64
        };
        zeros(len.unwrap_or(usize::MAX)).ok_or_else(|| GraphError::HostMemory {
            what: format!("logits of {slices} slices of {} classes", self.channels),
            bytes: bytes(len.unwrap_or(usize::MAX)),
        })
    }
}

/// `len` zeros; `None` where the system has not as much memory.
pub(super) fn zeros(len: usize) -> Option<Vec<f32>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).ok()?;
    values.resize(len, 0.0);
    Some(values)
}

/// Moves `inner` of every channel of `logits` (channels, h, w) to the front.
fn cut_out(logits: &mut Slice, [h, w]: [usize; 2], inner: Inner) {
    let ([top, left], [rows, columns]) = (inner.start, inner.extent);
    let channels = logits.len() / (h * w);
    for row in 0..channels * rows {
        let from = (row / rows * h + top + row % rows) * w + left;
        logits.copy_within(from..from + columns, row * columns);
    }
    logits.truncate(channels * rows * columns);
}

#[cfg(test)]
mod tests {
    use super::super::tiling::window_starts;
    use super::*;

    /// A value for each voxel, so that no two are alike.
    fn volume(channels: usize, [d, h, w]: [usize; 3]) -> Vec<f32> {
        (0..channels * d * h * w).map(|v| v as f32).collect()
    }

    fn window(
        volume: &[f32],
        extent: [usize; 3],
        start: [usize; 3],
        patch: [usize; 3],
    ) -> Vec<f32> {
        let [d, h, w] = extent;
        let channels = volume.len() / (d * h * w);
        let index = |c: usize, z: usize, y: usize, x: usize| {
            ((c * d + start[0] + z) * h + start[1] + y) * w + start[2] + x
        };
        let mut cut = Vec::new();
        for c in 0..channels {
            for z in 0..patch[0] {
                for y in 0..patch[1] {
                    cut.extend((0..patch[2]).map(|x| volume[index(c, z, y, x)]));
                }
            }
        }
        cut
    }

    #[test]
    fn windows_put_together_give_back_the_volume_and_hold_no_more_slices_than_one() {
        let (extent, patch) = ([23, 9, 7], [8, 4, 6]);
        let volume = volume(2, extent);
        let inner = Inner {
            start: [1, 2],
            extent: [7, 4],
        };
        let mut sums = Sums::new(2, extent, patch);
        let mut slices = Vec::new();
        for start in window_starts(extent, patch, 0.5) {
            slices.extend(sums.take(start[0], inner));
            sums.add(&window(&volume, extent, start, patch), start)
                .unwrap();
            assert!(sums.open.len() <= patch[0]);
        }
        slices.extend(sums.take(extent[0], inner));
        assert_eq!(slices.len(), extent[0]);
        for (z, slice) in slices.iter().enumerate() {
            let expected = window(&volume, extent, [z, 1, 2], [1, 7, 4]);
            assert_eq!(slice.len(), expected.len());
            for (a, b) in expected.iter().zip(slice) {
                assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn slices_beyond_all_memory_are_refused() {
        for extent in [[8, 1 << 30, 1 << 29], [8, usize::MAX, 2]] {
            let mut sums = Sums::new(3, extent, [2, 1, 1]);
            let error = sums.add(&[0.0; 6], [0; 3]).unwrap_err();
            assert!(error.is_users_fault());
            let message = error.to_string();
            assert!(
                message.contains("bytes") && message.contains("3 classes"),
                "{message}"
            );
        }
    }
}
