//! The fingerprint: what the planner has to know about a data set.

use std::collections::BTreeSet;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::cases::Dataset;
use super::crop::{crop, nonzero_bounds};
use super::error::DatasetError;
use super::labels::{Labels, Target};
use super::load::{LoadedCase, load_case};
use super::splits::write_json;

/// Name of the file that nnU-Net stores a fingerprint in.
pub const FINGERPRINT_FILE: &str = "dataset_fingerprint.json";

/// Foreground voxels whose intensities are looked at, over all cases. nnU-Net takes 1e8; the error
/// of a percentile falls with the root of their number and is far below 1e-3 of the range already.
const INTENSITY_SAMPLES: usize = 5_000_000;

/// Intensities of one channel within the foreground of all training cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntensityProperties {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Standard deviation of the population.
    pub std: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// 99.5 % of the voxels are below.
    pub percentile_99_5: f64,
    /// 0.5 % of the voxels are below.
    pub percentile_00_5: f64,
}

/// Facts about the training cases, in nnU-Net's form and in the order of the cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Spacing (D, H, W) in mm of each case.
    pub spacings: Vec<[f64; 3]>,
    /// Voxels (D, H, W) of each case once it is cropped to what is not zero.
    pub shapes_after_crop: Vec<[usize; 3]>,
    /// Foreground intensities, key = channel number. All zero where no case has foreground.
    pub foreground_intensity_properties_per_channel:
        std::collections::BTreeMap<usize, IntensityProperties>,
    /// Median over the cases of (voxels after cropping) / (voxels before).
    pub median_relative_size_after_cropping: f64,
}

/// Something about the training cases that is no error but seldom meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// A channel with the same value everywhere.
    ConstantChannel {
        /// Name of the case.
        case: String,
        /// Number of the channel.
        channel: usize,
    },
    /// A class or region of which no label map has a voxel.
    UnusedClass(String),
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConstantChannel { case, channel } => write!(
                f,
                "case {case}: channel {channel} has the same value everywhere; is it the right file?"
            ),
            Self::UnusedClass(name) => write!(
                f,
                "no label file has a voxel of {name}, which dataset.json names; the network cannot learn it"
            ),
        }
    }
}

/// What one case adds to the fingerprint.
struct CaseFacts {
    spacing: [f64; 3],
    shape: [usize; 3],
    relative_size: f64,
    /// Sampled foreground intensities of each channel.
    intensities: Vec<Vec<f32>>,
}

impl Fingerprint {
    /// Reads all training cases, one at a time. The same data and seed give the same fingerprint.
    ///
    /// `progress` is called after each case with the number of cases done.
    ///
    /// # Errors
    /// The first [`DatasetError`] of a case.
    pub fn of(
        dataset: &Dataset,
        seed: u64,
        progress: impl FnMut(usize),
    ) -> Result<Self, DatasetError> {
        Self::with_remarks(dataset, seed, progress, |_| ())
    }

    /// [`Fingerprint::of`]; `remark` hears of what is seldom meant.
    ///
    /// # Errors
    /// As [`Fingerprint::of`].
    pub fn with_remarks(
        dataset: &Dataset,
        seed: u64,
        mut progress: impl FnMut(usize),
        mut remark: impl FnMut(Remark),
    ) -> Result<Self, DatasetError> {
        let (channels, labels) = (dataset.description.channels(), &dataset.description.labels);
        let mut found: BTreeSet<u32> = BTreeSet::new();
        let share = INTENSITY_SAMPLES / dataset.training.len().max(1);
        let mut facts = Vec::with_capacity(dataset.training.len());
        for (number, case) in dataset.training.iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number as u64);
            let loaded = load_case(case, channels, labels)?;
            constant_channels(&loaded).for_each(&mut remark);
            found.extend(loaded.label.iter().flatten());
            facts.push(facts_of(&loaded, labels, share.max(1), &mut rng));
            progress(number + 1);
        }
        let is_unused = |target: &&Target| !target.values.iter().any(|v| found.contains(v));
        let unused = labels.foreground.iter().filter(is_unused);
        unused.for_each(|target| remark(Remark::UnusedClass(target.name.clone())));
        Ok(Self::join(facts, channels))
    }

    /// Reads a dataset_fingerprint.json.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::Json`].
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let text = std::fs::read_to_string(path).map_err(|e| DatasetError::read(path, e))?;
        serde_json::from_str(&text).map_err(|e| DatasetError::json(path, &e))
    }

    /// Writes the fingerprint, whole or not at all.
    ///
    /// # Errors
    /// [`DatasetError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), DatasetError> {
        write_json(path, self)
    }

    fn join(facts: Vec<CaseFacts>, channels: usize) -> Self {
        let mut sizes: Vec<f64> = facts.iter().map(|f| f.relative_size).collect();
        let properties = (0..channels).map(|channel| {
            let all = facts.iter().flat_map(|f| f.intensities[channel].iter());
            (channel, describe(all.copied().collect()))
        });
        Self {
            foreground_intensity_properties_per_channel: properties.collect(),
            spacings: facts.iter().map(|f| f.spacing).collect(),
            shapes_after_crop: facts.iter().map(|f| f.shape).collect(),
            median_relative_size_after_cropping: percentile(&mut sizes, 50.0),
        }
    }
}

fn constant_channels(case: &LoadedCase) -> impl Iterator<Item = Remark> + '_ {
    let channels = case.image.chunks_exact(case.geometry.voxels().max(1));
    channels.enumerate().filter_map(|(channel, voxels)| {
        let is_constant = voxels.iter().all(|v| *v == voxels[0]);
        is_constant.then(|| Remark::ConstantChannel {
            case: case.id.clone(),
            channel,
        })
    })
}

fn facts_of(case: &LoadedCase, labels: &Labels, samples: usize, rng: &mut ChaCha8Rng) -> CaseFacts {
    let shape = case.geometry.shape();
    let bounds = nonzero_bounds(&case.image, shape);
    let label = case.label.as_deref().map(|l| crop(l, shape, bounds));
    let is_foreground = |&label: &u32| label > 0 && Some(label) != labels.ignore;
    let voxels: Vec<usize> = label
        .iter()
        .flat_map(|label| label.iter().enumerate())
        .filter_map(|(offset, label)| is_foreground(label).then_some(offset))
        .collect();
    let chosen = sample(voxels, samples, rng);
    let image = crop(&case.image, shape, bounds);
    let intensities = image
        .chunks_exact(bounds.voxels())
        .map(|channel| chosen.iter().map(|&offset| channel[offset]).collect())
        .collect();
    CaseFacts {
        spacing: case.geometry.spacing(),
        shape: bounds.extent,
        relative_size: bounds.voxels() as f64 / case.geometry.voxels() as f64,
        intensities,
    }
}

/// All of `voxels`, or `most` draws with replacement where there are more.
fn sample(voxels: Vec<usize>, most: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    if voxels.len() <= most {
        return voxels;
    }
    (0..most)
        .map(|_| voxels[rng.random_range(0..voxels.len())])
        .collect()
}

fn describe(intensities: Vec<f32>) -> IntensityProperties {
    if intensities.is_empty() {
        return IntensityProperties::default();
    }
    let mut values: Vec<f64> = intensities.into_iter().map(f64::from).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
    IntensityProperties {
        mean,
        std: variance.sqrt(),
        median: percentile(&mut values, 50.0),
        min: percentile(&mut values, 0.0),
        max: percentile(&mut values, 100.0),
        percentile_99_5: percentile(&mut values, 99.5),
        percentile_00_5: percentile(&mut values, 0.5),
    }
}

/// The value below which `percent` of `values` lie, linear between neighbours (numpy's default);
/// 0 where there is none. Sorts `values`.
pub(super) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let position = last as f64 * percent / 100.0;
    let (below, share) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(last);
    values[below] + (values[above] - values[below]) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(&mut values, 50.0), 2.5);
        assert_eq!(percentile(&mut values, 10.0), 1.3);
        assert_eq!(percentile(&mut values, 100.0), 4.0);
        assert_eq!(percentile(&mut [], 50.0), 0.0);
    }
}
