//! The way back: from the network's grid to that of the file.
//!
//! Logits are resampled slice by slice of the output, so that beside the logits themselves and the
//! result no more than a few slices are held, whatever the number of classes.

use rayon::prelude::*;

use super::error::DatasetError;
use super::labels::Labels;
use super::preprocess::CropAndResample;
use super::resample::Taps;

impl CropAndResample {
    /// The segmentation (D, H, W of the file) that `logits` mean.
    ///
    /// `logits` is C, D, H, W on the network's grid with C = [`Labels::classes`]. They are resampled
    /// linearly; then each voxel gets the largest, or with regions every region above 0 paints its
    /// label in the order of `region_order`. What was cropped away is background.
    ///
    /// # Errors
    /// [`DatasetError::Size`] where the number of logits does not fit.
    pub fn restore_labels(
        &self,
        logits: &[f32],
        labels: &Labels,
    ) -> Result<Vec<u32>, DatasetError> {
        let slices = Slices::new(self, logits, labels.classes())?;
        let mut out = vec![0; self.original_shape.iter().product()];
        self.each_slice(&mut out, |d, out| {
            let plane = self.bounds.extent[1] * self.bounds.extent[2];
            let mut found = vec![0; plane];
            let mut best = vec![f32::NEG_INFINITY; plane];
            let mut values = vec![0.0; plane];
            for class in 0..labels.classes() {
                slices.resample(class, d, &mut values);
                match &labels.region_order {
                    Some(order) => paint_region(&values, order[class], &mut found),
                    None => keep_larger(&values, class as u32, &mut best, &mut found),
                }
            }
            self.paste(&found, out);
        });
        Ok(out)
    }

    /// The probability of each channel (C, D, H, W of the file): softmax, or with regions sigmoid.
    ///
    /// What was cropped away is background with certainty. The result has as many values as classes
    /// times voxels; where only the segmentation is wanted, use [`CropAndResample::restore_labels`].
    ///
    /// # Errors
    /// [`DatasetError::Size`] where the number of logits does not fit.
    pub fn restore_probabilities(
        &self,
        logits: &[f32],
        labels: &Labels,
    ) -> Result<Vec<f32>, DatasetError> {
        let classes = labels.classes();
        let slices = Slices::new(self, logits, classes)?;
        let volume: usize = self.original_shape.iter().product();
        let mut out = vec![0.0; classes * volume];
        if !labels.uses_sigmoid() {
            out[..volume].fill(1.0);
        }
        for (class, out) in out.chunks_exact_mut(volume).enumerate() {
            self.each_slice(out, |d, out| {
                let mut values = vec![0.0; self.bounds.extent[1] * self.bounds.extent[2]];
                slices.resample(class, d, &mut values);
                if labels.uses_sigmoid() {
                    values
                        .iter_mut()
                        .for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
                }
                self.paste(&values, out);
            });
        }
        if !labels.uses_sigmoid() {
            self.softmax(&mut out, classes);
        }
        Ok(out)
    }

    /// Softmax over the channels of `out` (C, D, H, W of the file) inside the box.
    fn softmax(&self, out: &mut [f32], classes: usize) {
        let volume: usize = self.original_shape.iter().product();
        let mut values = vec![0.0; classes];
        for d in 0..self.bounds.extent[0] {
            for h in 0..self.bounds.extent[1] {
                let slice = (d + self.bounds.start[0]) * self.original_shape[1];
                let row = (slice + h + self.bounds.start[1]) * self.original_shape[2];
                for w in self.bounds.start[2]..self.bounds.start[2] + self.bounds.extent[2] {
                    for (class, value) in values.iter_mut().enumerate() {
                        *value = out[class * volume + row + w];
                    }
                    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    values.iter_mut().for_each(|v| *v = (*v - largest).exp());
                    let sum: f32 = values.iter().sum();
                    for (class, value) in values.iter().enumerate() {
                        out[class * volume + row + w] = value / sum;
                    }
                }
            }
        }
    }

    /// Calls `fill(d, slice)` for every slice of `out` (D, H, W of the file) that meets the box; `d`
    /// counts from the start of the box.
    fn each_slice<T: Send>(&self, out: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
        let slice = self.original_shape[1] * self.original_shape[2];
        out.par_chunks_mut(slice)
            .skip(self.bounds.start[0])
            .take(self.bounds.extent[0])
            .enumerate()
            .for_each(|(d, out)| fill(d, out));
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

/// Resamples single slices of single classes.
struct Slices<'a> {
    logits: &'a [f32],
    from: [usize; 3],
    taps: [Vec<Taps>; 3],
}

impl<'a> Slices<'a> {
    fn new(
        record: &CropAndResample,
        logits: &'a [f32],
        classes: usize,
    ) -> Result<Self, DatasetError> {
        let expected = classes * record.resampled_shape.iter().product::<usize>();
        if logits.len() != expected {
            return Err(DatasetError::Size {
                what: "logits",
                expected,
                found: logits.len(),
            });
        }
        let resampling = record.resampling().inverse();
        Ok(Self {
            logits,
            from: resampling.from,
            taps: resampling.linear_taps(),
        })
    }

    /// Slice `d` of the output for one class into `out` (H, W).
    fn resample(&self, class: usize, d: usize, out: &mut [f32]) {
        let [depth, height, width] = self.from;
        let tap_d = &self.taps[0][d];
        let mut row = vec![0.0f32; width];
        let rows = out.chunks_exact_mut(self.taps[2].len());
        for (tap_h, out) in self.taps[1].iter().zip(rows) {
            row.fill(0.0);
            for (i, wd) in tap_d.weights.iter().enumerate() {
                for (j, wh) in tap_h.weights.iter().enumerate() {
                    let slice = (class * depth + tap_d.first + i) * height;
                    let start = (slice + tap_h.first + j) * width;
                    let weight = (wd * wh) as f32;
                    for (sum, value) in row.iter_mut().zip(&self.logits[start..start + width]) {
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
