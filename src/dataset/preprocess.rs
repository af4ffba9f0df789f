//! From the voxels of a file to those a network sees: crop, normalise, resample.

use serde::{Deserialize, Serialize};

use super::crop::{Bounds, crop, nonzero_bounds, nonzero_mask};
use super::error::DatasetError;
use super::fingerprint::IntensityProperties;
use super::load::LoadedCase;
use super::normalise::Normalisation;
use super::resample::{Resampling, coarse_axis, resampled_shape};

/// Most values of a resampled image, over all channels: 16 GiB. A header with a wrong spacing asks
/// for more than any machine has.
const MOST_VALUES: f64 = (1u64 << 32) as f64;

/// How one channel is normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelPlan {
    /// Name in dataset.json.
    pub name: String,
    /// Scheme.
    pub normalisation: Normalisation,
    /// Whether the statistics are taken inside the non-zero mask only.
    pub use_mask: bool,
    /// Foreground intensities of the training cases.
    pub intensities: IntensityProperties,
}

/// What is done to every image, in training and in prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Spacing (D, H, W) in mm that images are resampled to.
    pub spacing: [f64; 3],
    /// Whether the network sees single slices: then nothing is resampled along D, and the first
    /// number of `spacing` says nothing.
    pub planar: bool,
    /// One entry per channel.
    pub channels: Vec<ChannelPlan>,
}

/// What was done to the grid of one image, for the way back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropAndResample {
    /// Voxels (D, H, W) of the file.
    pub original_shape: [usize; 3],
    /// The part that was kept.
    pub bounds: Bounds,
    /// Voxels (D, H, W) of that part after resampling.
    pub resampled_shape: [usize; 3],
    /// Spacing (D, H, W) in mm of the file.
    pub original_spacing: [f64; 3],
    /// Spacing (D, H, W) in mm that was aimed at.
    pub spacing: [f64; 3],
}

impl CropAndResample {
    /// The change of grid from the cropped part of the file to the network's.
    pub fn resampling(&self) -> Resampling {
        Resampling {
            from: self.bounds.extent,
            to: self.resampled_shape,
            coarse_axis: coarse_axis(self.original_spacing, self.spacing),
        }
    }
}

/// An image as the network sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessed {
    /// What was done to its grid.
    pub record: CropAndResample,
    /// Number of channels.
    pub channels: usize,
    /// Intensities, C, D, H, W with D, H, W = `record.resampled_shape`.
    pub image: Vec<f32>,
    /// Labels, D, H, W.
    pub label: Option<Vec<u32>>,
}

impl Preprocessing {
    /// Crops to what is not zero, normalises, resamples, in this order.
    ///
    /// # Errors
    /// [`DatasetError::ChannelCount`] where the case has other channels than planned;
    /// [`DatasetError::Resampled`] where the spacings would give a volume beyond any memory.
    pub fn apply(&self, case: LoadedCase) -> Result<Preprocessed, DatasetError> {
        if case.channels != self.channels.len() {
            return Err(DatasetError::ChannelCount {
                path: case.path,
                case: case.id,
                expected: self.channels.len(),
                found: case.channels,
            });
        }
        let record = self.grid_of(&case)?;
        let (shape, bounds) = (record.original_shape, record.bounds);
        let mut image = crop(&case.image, shape, bounds);
        drop(case.image);
        self.normalise(&mut image, bounds.extent);
        let resampling = record.resampling();
        let channels = image.chunks_exact(bounds.voxels());
        Ok(Preprocessed {
            record,
            channels: self.channels.len(),
            image: channels.flat_map(|c| resampling.image(c)).collect(),
            label: case
                .label
                .map(|label| resampling.labels(&crop(&label, shape, bounds))),
        })
    }

    fn grid_of(&self, case: &LoadedCase) -> Result<CropAndResample, DatasetError> {
        let original_shape = case.geometry.shape();
        let original_spacing = case.geometry.spacing();
        let bounds = nonzero_bounds(&case.image, original_shape);
        let mut spacing = self.spacing;
        if self.planar {
            spacing[0] = original_spacing[0];
        }
        let resampled_shape = resampled_shape(bounds.extent, original_spacing, spacing);
        let values = resampled_shape.iter().map(|&n| n as f64).product::<f64>();
        if values * case.channels as f64 > MOST_VALUES {
            return Err(DatasetError::Resampled {
                path: case.path.clone(),
                found: original_spacing,
                target: spacing,
                shape: resampled_shape,
            });
        }
        Ok(CropAndResample {
            original_shape,
            bounds,
            resampled_shape,
            original_spacing,
            spacing,
        })
    }

    /// Normalises each channel of `image` (C, D, H, W with D, H, W = `shape`).
    fn normalise(&self, image: &mut [f32], shape: [usize; 3]) {
        let wants_mask = self.channels.iter().any(|plan| plan.use_mask);
        let mask = wants_mask.then(|| nonzero_mask(image, shape));
        let voxels = shape.iter().product();
        for (channel, plan) in image.chunks_exact_mut(voxels).zip(&self.channels) {
            let mask = mask.as_deref().filter(|_| plan.use_mask);
            plan.normalisation.apply(channel, &plan.intensities, mask);
        }
    }
}
