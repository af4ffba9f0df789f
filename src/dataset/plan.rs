//! The plan: all that follows from the data and the machine before training starts.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::description::{Description, data_text};
use super::error::DatasetError;
use super::fingerprint::{Fingerprint, percentile};
use super::labels::Labels;
use super::normalise::Normalisation;
use super::overrides::Overrides;
use super::preprocess::{ChannelPlan, Preprocessing};
use super::resample::{ANISOTROPY_THRESHOLD, resampled_shape};
use super::splits::write_json;
use super::topology::{Shaping, Topology};
use crate::style::{DecoderStyle, LayerStyle, TokenStyle};

/// Name of the file that holds the plan of a run.
pub const PLAN_FILE: &str = "plan.json";

/// Where cropping leaves less than this share of the voxels, the border says nothing about an image's
/// intensities, and the z-score is taken inside the mask.
const MASKED_BELOW: f64 = 0.75;

/// Voxels of the patch that shrinking begins with: 256^3, or 2048^2 in a plane.
const FIRST_VOLUME: f64 = (256u64 * 256 * 256) as f64;
const FIRST_PLANE: f64 = (2048u64 * 2048) as f64;

/// Shrinking stops here whatever the budget says.
const SMALLEST_EDGE: usize = 4;

/// Without a second stage there is no decoder.
const FEWEST_STAGES: usize = 2;

/// All that prediction needs to know of a run beside its weights, and training of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the data set, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Ending of the image files, with its dot.
    pub file_ending: String,
    /// The labels.
    pub labels: Labels,
    /// What is done to every image.
    pub preprocessing: Preprocessing,
    /// Median voxels (D, H, W) of the training cases after resampling.
    pub median_shape: [usize; 3],
    /// Voxels (D, H, W) of a patch.
    pub patch: [usize; 3],
    /// Patches a batch.
    pub batch: usize,
    /// The family of the network, as `voxseg models` names it; nnU-Net's plain or residual-encoder U-Net where
    /// `None`, as in plans of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The stages of the network.
    pub topology: Topology,
    /// What follows each of its convolutions.
    #[serde(default)]
    pub layers: LayerStyle,
    /// What its decoder does with skips and heads.
    #[serde(default, skip_serializing_if = "DecoderStyle::is_usual")]
    pub decoder: DecoderStyle,
    /// What its transformer is, where it has one and the user decided it.
    #[serde(default, skip_serializing_if = "TokenStyle::is_planned")]
    pub tokens: TokenStyle,
}

impl Plan {
    /// Plans a network for the data within `budget`, as nnU-Net does; axes are not swapped.
    ///
    /// # Errors
    /// [`DatasetError::Plan`] for overrides that make no sense, a fingerprint that is not of this
    /// description, and cases too small for any network.
    pub fn new(
        description: &Description,
        fingerprint: &Fingerprint,
        budget: &Budget,
        overrides: &Overrides,
    ) -> Result<Self, DatasetError> {
        overrides.check(description, fingerprint)?;
        let shapes = &fingerprint.shapes_after_crop;
        let planar = overrides
            .planar
            .unwrap_or_else(|| shapes.iter().all(|shape| shape[0] == 1));
        overrides.check_depth(planar)?;
        let spacing = overrides
            .spacing
            .unwrap_or_else(|| target_spacing(fingerprint));
        let data = Extent::of(fingerprint, spacing, planar);
        let allowance = budget.allowance(planar);
        let request = Request {
            shaping: Shaping {
                spacing,
                planar,
                base_features: overrides.base_features.unwrap_or(budget.base_features),
                max_features: overrides.max_features.unwrap_or(allowance.max_features),
                max_stages: overrides.max_stages.unwrap_or(budget.max_stages),
                residual: budget.residual,
                stages: overrides.stages.clone(),
            },
            channels: description.channels(),
            classes: description.labels.classes(),
            patch: overrides.patch,
        };
        let shape = plan_shape(&request, &data, budget);
        if shape.topology.stages() < FEWEST_STAGES {
            return Err(DatasetError::Plan {
                what: "the patch",
                expected:
                    "large enough to be halved once: 8 voxels along two axes, or 12 along one"
                        .into(),
                found: format!("{:?} (D, H, W)", shape.patch),
            });
        }
        overrides.stages.check_lengths(&shape.topology)?;
        overrides.check_groups(&shape.topology)?;
        Ok(Self {
            dataset: description.name.clone(),
            file_ending: description.file_ending.clone(),
            labels: description.labels.clone(),
            preprocessing: Preprocessing {
                spacing,
                planar,
                channels: plan_channels(description, fingerprint),
            },
            median_shape: data.median.map(|n| n.round_ties_even() as usize),
            patch: shape.patch,
            batch: overrides.batch.unwrap_or(shape.batch),
            model: overrides.model.clone(),
            topology: shape.topology,
            layers: overrides.layers,
            decoder: overrides.decoder,
            tokens: overrides.tokens,
        })
    }

    /// What the images and labels must be like, in words: see [`data_text`].
    pub fn data_text(&self) -> String {
        let names = self.preprocessing.channels.iter().map(|c| c.name.clone());
        let names: Vec<String> = names.collect();
        data_text(&names, &self.file_ending, &self.labels)
    }

    /// Reads a plan.json.
    ///
    /// # Errors
    /// [`DatasetError::Io`]; [`DatasetError::Json`], also for a plan that contradicts itself.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let text = std::fs::read_to_string(path).map_err(|e| DatasetError::read(path, e))?;
        let plan: Self = serde_json::from_str(&text).map_err(|e| DatasetError::json(path, &e))?;
        match plan.contradiction() {
            None => Ok(plan),
            Some(what) => Err(DatasetError::Json {
                path: path.to_owned(),
                reason: format!("{what}; it was edited by hand or damaged"),
            }),
        }
    }

    /// The first thing in which a plan from a file contradicts itself.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let (labels, topology) = (&self.labels, &self.topology);
        let stages = topology.stages();
        let is_length = |s: &f64| s.is_finite() && *s > 0.0;
        let strides = || topology.strides.iter().chain(&topology.kernels).flatten();
        let count = labels.foreground.len();
        let checks = [
            (self.preprocessing.channels.is_empty(), "it has no channel"),
            (count == 0, "it has no foreground label"),
            (
                labels.foreground.iter().any(|t| t.values.is_empty()),
                "a label has no value",
            ),
            (
                labels
                    .region_order
                    .as_ref()
                    .is_some_and(|o| o.len() != count),
                "region_order needs one label per region",
            ),
            (
                !self.preprocessing.spacing.iter().all(is_length),
                "spacing must be three lengths in mm above 0",
            ),
            (self.batch == 0, "batch must be above 0"),
            (stages < FEWEST_STAGES, "the topology needs two stages"),
            (
                !topology.is_consistent(),
                "features, kernels, strides and blocks must have one entry per stage",
            ),
            (
                strides().chain(&topology.features).any(|&n| n == 0),
                "features, kernels and strides must be above 0",
            ),
            (
                self.patch.contains(&0) || !topology.divides(self.patch),
                "the strides must divide the patch",
            ),
        ];
        checks
            .into_iter()
            .find_map(|(is_wrong, what)| is_wrong.then_some(what))
    }

    /// Writes the plan, whole or not at all.
    ///
    /// # Errors
    /// [`DatasetError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), DatasetError> {
        write_json(path, self)
    }

    /// Number of input channels.
    pub fn channels(&self) -> usize {
        self.preprocessing.channels.len()
    }

    /// Number of output channels.
    pub fn classes(&self) -> usize {
        self.labels.classes()
    }
}

/// The spacing (D, H, W) in mm that images are resampled to: the median along each axis. An axis that
/// is far coarser than the others and has far fewer voxels takes its 10th percentile instead, but
/// none finer than the others.
pub fn target_spacing(fingerprint: &Fingerprint) -> [f64; 3] {
    let along = |axis: usize, percent| {
        let mut values: Vec<f64> = fingerprint.spacings.iter().map(|s| s[axis]).collect();
        percentile(&mut values, percent)
    };
    let size = |axis: usize| {
        let shapes = fingerprint.shapes_after_crop.iter();
        let mut values: Vec<f64> = shapes.map(|shape| shape[axis] as f64).collect();
        percentile(&mut values, 50.0)
    };
    let mut target = std::array::from_fn(|axis| along(axis, 50.0));
    let mut worst = 0;
    for axis in [1, 2] {
        if target[axis] > target[worst] {
            worst = axis;
        }
    }
    let others: Vec<usize> = (0..3).filter(|&axis| axis != worst).collect();
    let coarsest_other = target[others[0]].max(target[others[1]]);
    let smallest_other = size(others[0]).min(size(others[1]));
    let is_coarse = target[worst] > ANISOTROPY_THRESHOLD * coarsest_other;
    let is_thin = size(worst) * ANISOTROPY_THRESHOLD < smallest_other;
    if is_coarse && is_thin {
        let fine = along(worst, 10.0);
        target[worst] = if fine < coarsest_other {
            coarsest_other + 1e-5
        } else {
            fine
        };
    }
    target
}

/// How large the training data are after resampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    /// Median voxels along D, H, W.
    pub median: [f64; 3],
    /// Voxels of all cases, about.
    pub voxels: f64,
}

impl Extent {
    fn of(fingerprint: &Fingerprint, spacing: [f64; 3], planar: bool) -> Self {
        let cases = fingerprint
            .shapes_after_crop
            .iter()
            .zip(&fingerprint.spacings);
        let shapes: Vec<[usize; 3]> = cases
            .map(|(&shape, &own)| {
                let mut resampled = resampled_shape(shape, own, spacing);
                if planar {
                    resampled[0] = shape[0];
                }
                resampled
            })
            .collect();
        let median = std::array::from_fn(|axis| {
            let mut sizes: Vec<f64> = shapes.iter().map(|s| s[axis] as f64).collect();
            percentile(&mut sizes, 50.0)
        });
        Self {
            median,
            voxels: median.iter().product::<f64>() * shapes.len() as f64,
        }
    }
}

/// What a network is planned for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Spacing and form.
    pub shaping: Shaping,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub classes: usize,
    /// Voxels (D, H, W) of a patch, if they are decided already.
    pub patch: Option<[usize; 3]>,
}

/// Patch, batch and network.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedShape {
    /// Voxels (D, H, W) of a patch.
    pub patch: [usize; 3],
    /// Patches a batch.
    pub batch: usize,
    /// The network.
    pub topology: Topology,
}

/// The largest patch that the budget allows, the network that suits it, and as many patches a batch
/// as still fit.
///
/// nnU-Net's rule: begin with a patch far too large, of the same extent in mm along all axes, clipped
/// to the median case; then shorten the axis that is longest compared with the median case until two
/// patches fit.
pub fn plan_shape(request: &Request, data: &Extent, budget: &Budget) -> PlannedShape {
    let (shaping, allowance) = (&request.shaping, budget.allowance(request.shaping.planar));
    let elements = |topology: &Topology, patch| {
        topology.feature_elements(patch, request.classes, false) / allowance.reference_batch as f64
    };
    let (mut topology, mut patch) = match request.patch {
        Some(patch) => shaping.topology(patch.map(|n| n as f64)),
        None => shaping.topology(first_patch(shaping, data)),
    };
    let fits = |topology: &Topology, patch: [usize; 3]| {
        elements(topology, patch) * budget.min_batch as f64 <= allowance.reference_elements
            && patch.iter().product::<usize>() <= allowance.max_patch_voxels
            && topology.forward_flops(patch, request.channels, request.classes)
                <= allowance.max_forward_flops
    };
    while request.patch.is_none() && !fits(&topology, patch) {
        let Some(shorter) = shorten(shaping, &topology, patch, data) else {
            break;
        };
        (topology, patch) = shaping.topology(shorter.map(|n| n as f64));
    }
    let by_memory = allowance.reference_elements / elements(&topology, patch);
    let voxels = patch.iter().map(|&n| n as f64).product::<f64>();
    let by_data = data.voxels * budget.dataset_share / voxels;
    let batch = by_memory.round_ties_even().min(by_data.round_ties_even()) as usize;
    PlannedShape {
        patch,
        batch: batch.min(allowance.max_batch).max(budget.min_batch),
        topology,
    }
}

/// A patch of equal extent in mm along all axes, clipped to the median case.
fn first_patch(shaping: &Shaping, data: &Extent) -> [f64; 3] {
    let inverse = shaping.spacing.map(|s| 1.0 / s);
    let scale = if shaping.planar {
        (FIRST_PLANE / (inverse[1] * inverse[2])).sqrt()
    } else {
        (FIRST_VOLUME / inverse.iter().product::<f64>()).cbrt()
    };
    std::array::from_fn(|axis| match (shaping.planar, axis) {
        (true, 0) => 1.0,
        _ => (inverse[axis] * scale)
            .round_ties_even()
            .min(data.median[axis]),
    })
}

/// Takes one step off the axis that is longest compared with the median case and can still give.
fn shorten(
    shaping: &Shaping,
    topology: &Topology,
    patch: [usize; 3],
    data: &Extent,
) -> Option<[usize; 3]> {
    let mut axes: Vec<usize> = (usize::from(shaping.planar)..3).collect();
    let ratio = |&axis: &usize| patch[axis] as f64 / data.median[axis];
    // Of equals the last goes first.
    axes.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)).then(b.cmp(a)));
    axes.into_iter().find_map(|axis| {
        let mut tentative = patch.map(|n| n as f64);
        tentative[axis] -= topology.divisor()[axis] as f64;
        // A shorter axis may need fewer halvings, and then a smaller step will do.
        let step = shaping.topology(tentative).0.divisor()[axis];
        let mut shorter = patch;
        shorter[axis] = patch[axis]
            .checked_sub(step)
            .filter(|&n| n >= SMALLEST_EDGE)?;
        Some(shorter)
    })
}

fn plan_channels(description: &Description, fingerprint: &Fingerprint) -> Vec<ChannelPlan> {
    let is_masked = fingerprint.median_relative_size_after_cropping < MASKED_BELOW;
    let properties = &fingerprint.foreground_intensity_properties_per_channel;
    let names = description.channel_names.iter().enumerate();
    names
        .map(|(channel, name)| {
            let normalisation = Normalisation::of_channel(name);
            ChannelPlan {
                name: name.clone(),
                normalisation,
                use_mask: is_masked && normalisation == Normalisation::ZScore,
                intensities: properties.get(&channel).copied().unwrap_or_default(),
            }
        })
        .collect()
}
