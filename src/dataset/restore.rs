//! The way back: from the network's grid to that of the file.
//!
//! Logits come slice by slice and are resampled slice by slice of the output, so that never more of them are held than a
//! few slices, whatever the number of classes.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::error::DatasetError;
use super::labels::Labels;
use super::preprocess::CropAndResample;
use super::resample::Taps;

impl CropAndResample {
    /// The labels of one slice of the box (H, W); `values(class, out)` writes the logits of a class there.
    fn decide(&self, labels: &Labels, values: impl Fn(usize, &mut [f32])) -> Vec<u32> {
        let plane = self.bounds.extent[1] * self.bounds.extent[2];
        let mut found = vec![0; plane];
        let mut best = vec![f32::NEG_INFINITY; plane];
        let mut logits = vec![0.0; plane];
        for class in 0..labels.classes() {
            values(class, &mut logits);
            match &labels.region_order {
                Some(order) => paint_region(&logits, order[class], &mut found),
                None => keep_larger(&logits, class as u32, &mut best, &mut found),
            }
        }
        found
    }

    /// Puts one slice of the box into the slice `out` of the file.
    fn paste<T: Copy>(&self, values: &[T], out: &mut [T]) {
        let [_, top, left] = self.bounds.start;
        let width = self.bounds.extent[2];
        for (h, row) in values.chunks_exact(width).enumerate() {
            let start = (top + h) * self.original_shape[2] + left;
            out[start..start + width].copy_from_slice(row);
        }
    }
}

/// The segmentation that logits mean, which come slice by slice on the network's grid. They are resampled linearly; then
/// each voxel gets the class of the largest, or with regions every region above 0 paints its label in the order of
/// `region_order`. What was cropped away is background.
#[derive(Debug)]
pub struct RestoredLabels<'a> {
    record: CropAndResample,
    labels: &'a Labels,
    slices: Slices,
    /// Logits (C, H, W) of the slices from number `first` on.
    held: VecDeque<Vec<f32>>,
    first: usize,
    /// Slices of the box that are done.
    done: usize,
    out: Vec<u32>,
}

impl<'a> RestoredLabels<'a> {
    /// Begins with no slice.
    pub fn new(record: CropAndResample, labels: &'a Labels) -> Self {
        Self {
            record,
            labels,
            slices: Slices::new(&record),
            held: VecDeque::new(),
            first: 0,
            done: 0,
            out: vec![0; record.original_shape.iter().product()],
        }
    }

    /// Takes the next slices across D of the network's grid, logits (C, H, W) each, and does all of the result that
    /// they decide. Slices of another size are counted as missing by [`RestoredLabels::finish`].
    pub fn add(&mut self, slices: Vec<Vec<f32>>) {
        let [_, height, width] = self.record.resampled_shape;
        let expected = self.labels.classes() * height * width;
        self.held
            .extend(slices.into_iter().filter(|slice| slice.len() == expected));
        let (done, received) = (self.done, self.first + self.held.len());
        let taps = &self.slices.taps[0];
        let ready = taps[done..].iter();
        let ready = ready.take_while(|tap| tap.first + tap.weights.len() <= received);
        let end = done + ready.count();
        let slice = self.record.original_shape[1] * self.record.original_shape[2];
        let out = self.out.par_chunks_mut(slice);
        let out = out
            .skip(self.record.bounds.start[0] + done)
            .take(end - done);
        out.enumerate().for_each(|(i, out)| {
            let values = |class: usize, out: &mut [f32]| {
                let plane = |z: usize| &self.held[z - self.first][class * height * width..];
                self.slices.resample(done + i, plane, out);
            };
            self.record
                .paste(&self.record.decide(self.labels, values), out);
        });
        self.done = end;
        let needed = taps.get(end).map_or(received, |tap| tap.first);
        while self.first < needed && self.held.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// The labels (D, H, W of the file); what was cropped away is background.
    ///
    /// # Errors
    /// [`DatasetError::Size`] where slices are missing.
    pub fn finish(self) -> Result<Vec<u32>, DatasetError> {
        let (expected, found) = (self.slices.taps[0].len(), self.done);
        match found == expected {
            true => Ok(self.out),
            false => Err(DatasetError::Size {
                what: "slices of logits",
                expected,
                found,
            }),
        }
    }
}

/// Resamples single slices of single classes.
#[derive(Debug)]
struct Slices {
    /// Columns of the network's grid.
    width: usize,
    taps: [Vec<Taps>; 3],
}

impl Slices {
    fn new(record: &CropAndResample) -> Self {
        let resampling = record.resampling().inverse();
        Self {
            width: resampling.from[2],
            taps: resampling.linear_taps(),
        }
    }

    /// Slice `d` of the output for one class into `out` (H, W); `plane(z)` begins with slice z of its logits (H, W).
    fn resample<'l>(&self, d: usize, plane: impl Fn(usize) -> &'l [f32], out: &mut [f32]) {
        let width = self.width;
        let tap_d = &self.taps[0][d];
        let mut row = vec![0.0f32; width];
        let rows = out.chunks_exact_mut(self.taps[2].len());
        for (tap_h, out) in self.taps[1].iter().zip(rows) {
            row.fill(0.0);
            for (i, wd) in tap_d.weights.iter().enumerate() {
                let plane = plane(tap_d.first + i);
                for (j, wh) in tap_h.weights.iter().enumerate() {
                    let start = (tap_h.first + j) * width;
                    let weight = (wd * wh) as f32;
                    for (sum, value) in row.iter_mut().zip(&plane[start..start + width]) {
                        *sum += weight * value;
                    }
                }
            }
            for (tap_w, out) in self.taps[2].iter().zip(out) {
                let products = row[tap_w.first..].iter().zip(&tap_w.weights);
                *out = products.map(|(value, &weight)| value * weight as f32).sum();
            }
        }
    }
}

fn keep_larger(values: &[f32], class: u32, best: &mut [f32], found: &mut [u32]) {
    for ((value, best), found) in values.iter().zip(best).zip(found) {
        if value > best {
            (*best, *found) = (*value, class);
        }
    }
}

fn paint_region(values: &[f32], label: u32, found: &mut [u32]) {
    for (value, found) in values.iter().zip(found) {
        // A probability of one half is a logit of 0.
        if *value > 0.0 {
            *found = label;
        }
    }
}
