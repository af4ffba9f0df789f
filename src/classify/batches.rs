//! Batches of training images, drawn by the seed and the number of the step alone.

use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ClassifyConfig;
use super::pictures::Pictures;
use crate::dataset::{DatasetError, mirror};
use crate::train::{Draw, Fed};

/// How images are changed at random before they are trained on.
#[derive(Clone, Copy, Debug)]
struct Changes {
    /// Whether left and right may change places.
    mirror: bool,
    /// Share of the extent by which an image may be shifted along each axis; what comes in is the mean.
    shift: f64,
}

/// The batch of each step: every image once an epoch, in an order of its own.
pub(super) fn batches(pictures: Pictures, config: &ClassifyConfig, batch: usize) -> Arc<Draw> {
    let seed = config.seed;
    let changes = Changes {
        mirror: config.mirror,
        shift: config.shift,
    };
    Arc::new(move |step| draw(&pictures, changes, seed, batch, step))
}

fn draw(
    pictures: &Pictures,
    changes: Changes,
    seed: u64,
    batch: usize,
    step: u64,
) -> Result<Fed, DatasetError> {
    let count = pictures.images.len() as u64;
    let first = step * batch as u64;
    let mut epoch = (first / count, order(seed, first / count, count));
    let mut image = Vec::with_capacity(batch * pictures.preparation.len());
    let mut target = Vec::with_capacity(batch);
    for position in first..first + batch as u64 {
        if position / count != epoch.0 {
            epoch = (position / count, order(seed, position / count, count));
        }
        let at = epoch.1[(position % count) as usize];
        let mut pixels = pictures.get(at)?.into_owned();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Even streams shuffle, odd ones change images.
        rng.set_stream(2 * position + 1);
        changes.apply(&mut pixels, pictures.preparation.size, &mut rng);
        image.extend(pixels);
        target.push(pictures.images[at].class as f32);
    }
    Ok(Fed {
        image,
        target,
        voxel_weights: None,
    })
}

/// The order of the images in an epoch.
fn order(seed: u64, epoch: u64, count: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(2 * epoch);
    let mut order: Vec<usize> = (0..count as usize).collect();
    order.shuffle(&mut rng);
    order
}

impl Changes {
    /// Changes an image (C, H, W).
    fn apply(self, pixels: &mut [f32], [height, width]: [usize; 2], rng: &mut ChaCha8Rng) {
        // All numbers are drawn whatever is done with them, so that one choice does not change the others.
        let flip = rng.random_bool(0.5);
        let mut offset = |extent: usize| {
            let most = (extent as f64 * self.shift) as i64;
            rng.random_range(-most..=most) as isize
        };
        let by = [offset(height), offset(width)];
        if self.mirror && flip {
            mirror(pixels, [1, height, width], &[2]);
        }
        if by != [0, 0] {
            for plane in pixels.chunks_exact_mut(height * width) {
                shift(plane, [height, width], by);
            }
        }
    }
}

/// Moves a plane (H, W) by `by` pixels down and to the right; what comes in is 0, the mean of all images.
fn shift(plane: &mut [f32], [height, width]: [usize; 2], by: [isize; 2]) {
    let old = plane.to_vec();
    for (y, row) in plane.chunks_exact_mut(width).enumerate() {
        for (x, v) in row.iter_mut().enumerate() {
            let from = [y.checked_add_signed(-by[0]), x.checked_add_signed(-by[1])];
            *v = match from {
                [Some(y), Some(x)] if y < height && x < width => old[y * width + x],
                _ => 0.0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_every_image_once_in_another_order() {
        let [first, second] = [0, 1].map(|epoch| order(7, epoch, 50));
        assert_ne!(first, second);
        assert_eq!(first, order(7, 0, 50));
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_shift_moves_pixels_and_fills_up_with_the_mean() {
        let mut plane: Vec<f32> = (1..=6).map(|v| v as f32).collect();
        shift(&mut plane, [2, 3], [1, -1]);
        assert_eq!(plane, [0.0, 0.0, 0.0, 2.0, 3.0, 0.0]);
    }
}
