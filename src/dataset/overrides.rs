//! What the user decides instead of the planner.

use super::description::Description;
use super::error::DatasetError;
use super::fingerprint::Fingerprint;
use super::topology::Topology;
use crate::style::{DecoderStyle, Fault, LayerStyle, Norm, TokenStyle};

/// Beyond these, products of features, taps and voxels would leave the range of whole numbers long before any device
/// could hold the network.
const MOST_FEATURES: usize = 1 << 16;
const MOST_TAPS: usize = 31;
const MOST_BLOCKS: usize = 64;
const LARGEST_TOTAL_STRIDE: usize = 1 << 12;
const LARGEST_EDGE: usize = 1 << 16;
const MOST_VOXELS: usize = 1 << 32;
const MOST_PATCHES: usize = 1 << 12;

const AT_LEAST_TWO: &str = "a list for two stages at least";

/// Choices of the user; what is `None` is planned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Spacing (D, H, W) in mm.
    pub spacing: Option<[f64; 3]>,
    /// Voxels (D, H, W) of a patch; rounded up to what the network's strides divide.
    pub patch: Option<[usize; 3]>,
    /// Patches a batch.
    pub batch: Option<usize>,
    /// The family of the network; nnU-Net's where `None`.
    pub model: Option<String>,
    /// Features of the finest stage.
    pub base_features: Option<usize>,
    /// Most features of a stage.
    pub max_features: Option<usize>,
    /// Most stages.
    pub max_stages: Option<usize>,
    /// Slices instead of volumes; where `None`, only if all cases are single slices.
    pub planar: Option<bool>,
    /// Lists with an entry for each stage.
    pub stages: StageLists,
    /// What follows each convolution.
    pub layers: LayerStyle,
    /// What the decoder does with skips and heads.
    pub decoder: DecoderStyle,
    /// The transformer of a network on tokens.
    pub tokens: TokenStyle,
}

/// The stages of a network, finest first, as far as the user decides them. A list also says how many stages there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageLists {
    /// Features of each stage.
    pub features: Option<Vec<usize>>,
    /// Kernel (D, H, W) of the convolutions of each stage, odd numbers.
    pub kernels: Option<Vec<[usize; 3]>>,
    /// Stride (D, H, W) into each stage; the first is 1.
    pub strides: Option<Vec<[usize; 3]>>,
    /// Convolutions, or residual blocks, of each encoder stage.
    pub encoder_blocks: Option<Vec<usize>>,
    /// Convolutions of each decoder stage; one fewer than stages.
    pub decoder_blocks: Option<Vec<usize>>,
    /// Decoder stages with a segmentation head, ascending from 0, the finest.
    pub heads: Option<Vec<usize>>,
}

impl StageLists {
    /// The number of stages that the lists ask for, at most.
    pub(super) fn most_stages(&self) -> usize {
        let length = |list: &Option<Vec<[usize; 3]>>| list.as_ref().map(Vec::len);
        let counts = [
            self.features.as_ref().map(Vec::len),
            length(&self.kernels),
            length(&self.strides),
            self.encoder_blocks.as_ref().map(Vec::len),
            self.decoder_blocks.as_ref().map(|list| list.len() + 1),
        ];
        counts.into_iter().flatten().min().unwrap_or(usize::MAX)
    }

    /// The first entry that no network can have, whatever the data.
    fn fault(&self, planar: Option<bool>) -> Option<Fault> {
        let axes = |list: &Option<Vec<[usize; 3]>>, is_right: &dyn Fn([usize; 3]) -> bool| {
            let wrong = list.iter().flatten().find(|entry| !is_right(**entry));
            wrong.map(|entry| format!("{entry:?}"))
        };
        let counts = |list: &Option<Vec<usize>>, shortest: usize, most: usize| {
            let is_right = |n: &usize| (1..=most).contains(n);
            let is_wrong = |list: &&Vec<usize>| list.len() < shortest || !list.iter().all(is_right);
            let wrong = list.as_ref().filter(is_wrong);
            wrong.map(|list| format!("{list:?}"))
        };
        let flat = |entry: [usize; 3]| planar != Some(true) || entry[0] == 1;
        let is_odd = |entry: [usize; 3]| entry.iter().all(|n| n % 2 == 1 && *n <= MOST_TAPS);
        let total = |axis: usize| {
            let along = self.strides.iter().flatten().map(|stride| stride[axis]);
            along.fold(1usize, usize::saturating_mul)
        };
        let totals = [0, 1, 2].map(total);
        let is_total = |n: &usize| (1..=LARGEST_TOTAL_STRIDE).contains(n);
        let first = self.strides.as_ref().and_then(|list| list.first());
        let rises = |list: &Vec<usize>| {
            list.first() == Some(&0) && list.windows(2).all(|pair| pair[0] < pair[1])
        };
        let shortest = |list: &Option<Vec<[usize; 3]>>| {
            let length = list.as_ref().map(Vec::len).filter(|n| *n < 2);
            length.map(|n| format!("{n} entries"))
        };
        let checks = [
            (
                "features",
                "a list of numbers from 1 to 65536 for two stages at least",
                counts(&self.features, 2, MOST_FEATURES),
            ),
            ("kernels", AT_LEAST_TWO, shortest(&self.kernels)),
            ("strides", AT_LEAST_TWO, shortest(&self.strides)),
            (
                "kernels",
                "three odd numbers from 1 to 31 for each stage",
                axes(&self.kernels, &is_odd),
            ),
            (
                "kernels",
                "1 along the first axis where `planar` is true",
                axes(&self.kernels, &flat),
            ),
            (
                "strides",
                "three numbers above 0 for each stage, their products at most 4096 along each axis",
                (!totals.iter().all(is_total)).then(|| format!("products of {totals:?}")),
            ),
            (
                "strides",
                "[1, 1, 1] at the first stage, which has the resolution of the image",
                first.filter(|s| **s != [1; 3]).map(|s| format!("{s:?}")),
            ),
            (
                "strides",
                "1 along the first axis where `planar` is true",
                axes(&self.strides, &flat),
            ),
            (
                "encoder_blocks",
                "a list of numbers from 1 to 64 for two stages at least",
                counts(&self.encoder_blocks, 2, MOST_BLOCKS),
            ),
            (
                "decoder_blocks",
                "a list of numbers from 1 to 64 for one decoder stage at least",
                counts(&self.decoder_blocks, 1, MOST_BLOCKS),
            ),
            (
                "heads",
                "decoder stages in rising order from 0, the finest",
                self.heads
                    .as_ref()
                    .filter(|list| !rises(list))
                    .map(|list| format!("{list:?}")),
            ),
        ];
        let wrong = checks
            .into_iter()
            .find_map(|(key, expected, found)| Some((key, expected, found?)));
        wrong.map(|(key, expected, found)| Fault {
            key,
            expected,
            found,
        })
    }

    /// Checks that the lists have as many entries as `planned` has stages.
    ///
    /// # Errors
    /// [`DatasetError::Plan`] naming the key of the configuration.
    pub(super) fn check_lengths(&self, planned: &Topology) -> Result<(), DatasetError> {
        let stages = planned.stages();
        let length = |list: &Option<Vec<[usize; 3]>>| list.as_ref().map(Vec::len);
        let count = |list: &Option<Vec<usize>>| list.as_ref().map(Vec::len);
        let lengths = [
            ("network.features", count(&self.features), stages),
            ("network.kernels", length(&self.kernels), stages),
            ("network.strides", length(&self.strides), stages),
            (
                "network.encoder_blocks",
                count(&self.encoder_blocks),
                stages,
            ),
            (
                "network.decoder_blocks",
                count(&self.decoder_blocks),
                stages - 1,
            ),
        ];
        for (what, found, expected) in lengths {
            if let Some(found) = found.filter(|n| *n != expected) {
                return Err(DatasetError::Plan {
                    what,
                    expected: format!(
                        "a list of {expected}, since {stages} stages suit the patch and the other keys of [network]"
                    ),
                    found: format!("{found} entries"),
                });
            }
        }
        match self.heads.iter().flatten().find(|&&h| h + 1 >= stages) {
            None => Ok(()),
            Some(head) => Err(DatasetError::Plan {
                what: "network.heads",
                expected: format!("decoder stages, 0 to {}", stages - 2),
                found: head.to_string(),
            }),
        }
    }
}

impl Overrides {
    /// Checks that groups of channels divide the features of each stage of `planned`.
    ///
    /// # Errors
    /// [`DatasetError::Plan`] naming the key of the configuration.
    pub(super) fn check_groups(&self, planned: &Topology) -> Result<(), DatasetError> {
        let Norm::Group { groups, .. } = self.layers.norm else {
            return Ok(());
        };
        if planned.features.iter().all(|n| n.is_multiple_of(groups)) {
            return Ok(());
        }
        Err(DatasetError::Plan {
            what: "network.norm.groups",
            expected: format!(
                "a divisor of the features of all stages, {:?}",
                planned.features
            ),
            found: groups.to_string(),
        })
    }

    /// Checks that the patch is for slices where the network is (`planar`): its kernels would never see along D.
    ///
    /// # Errors
    /// [`DatasetError::Plan`].
    pub(super) fn check_depth(&self, planar: bool) -> Result<(), DatasetError> {
        match self.patch.filter(|patch| planar && patch[0] > 1) {
            None => Ok(()),
            Some(patch) => Err(DatasetError::Plan {
                what: "batch.patch (--patch)",
                expected: "one voxel deep, [1, H, W] (--patch H,W), for a network of slices".into(),
                found: format!("{patch:?}"),
            }),
        }
    }

    /// The first choice about the network that makes no sense, whatever the data; the key is that within `[network]`.
    pub(crate) fn network_fault(&self) -> Option<Fault> {
        let counts = [
            ("base_features", self.base_features),
            ("max_features", self.max_features),
        ];
        let is_wrong = |n: &usize| !(1..=MOST_FEATURES).contains(n);
        let features = counts.iter().find_map(|(key, count)| {
            Some(Fault {
                key,
                expected: "from 1 to 65536",
                found: count.filter(is_wrong)?.to_string(),
            })
        });
        let [base, most] = counts.map(|(_, count)| count);
        let twice = self.stages.features.as_ref().and(base.or(most));
        let few = self.max_stages.filter(|stages| *stages < 2);
        features
            .or_else(|| {
                Some(Fault {
                    key: "max_stages",
                    expected: "at least 2",
                    found: few?.to_string(),
                })
            })
            .or_else(|| {
                Some(Fault {
                    key: "features",
                    expected: "left out where `base_features` or `max_features` is given",
                    found: format!("{:?} and {}", self.stages.features.as_ref()?, twice?),
                })
            })
            .or_else(|| self.stages.fault(self.planar))
            .or_else(|| self.tokens.fault())
            .or_else(|| self.layers.fault())
    }

    /// Checks the choices, and that the fingerprint is of this description.
    ///
    /// # Errors
    /// [`DatasetError::Plan`].
    pub(super) fn check(
        &self,
        description: &Description,
        fingerprint: &Fingerprint,
    ) -> Result<(), DatasetError> {
        let refuse = |what, expected: &str, found: String| {
            Err(DatasetError::Plan {
                what,
                expected: expected.into(),
                found,
            })
        };
        let (spacings, shapes) = (&fingerprint.spacings, &fingerprint.shapes_after_crop);
        if spacings.is_empty() || spacings.len() != shapes.len() {
            let found = format!("{} spacings and {} shapes", spacings.len(), shapes.len());
            return refuse("fingerprint", "one spacing and one shape per case", found);
        }
        let channels = fingerprint
            .foreground_intensity_properties_per_channel
            .len();
        if channels != description.channels() {
            let expected = format!("of {} channels", description.channels());
            return refuse("fingerprint", &expected, format!("of {channels}"));
        }
        let is_length = |s: &f64| s.is_finite() && *s > 0.0;
        let given = self.spacing.iter();
        if let Some(spacing) = given.chain(spacings).find(|s| !s.iter().all(is_length)) {
            let expected = "three lengths in mm above 0";
            return refuse("spacing", expected, format!("{spacing:?}"));
        }
        if let Some(shape) = shapes.iter().find(|s| s.contains(&0)) {
            return refuse("shapes", "above 0 voxels", format!("{shape:?}"));
        }
        let is_edge = |n: &usize| (1..=LARGEST_EDGE).contains(n);
        if let Some(patch) = self.patch.filter(|patch| !patch.iter().all(is_edge)) {
            let expected = "three numbers from 1 to 65536";
            return refuse("batch.patch", expected, format!("{patch:?}"));
        }
        if let Some(patch) = self
            .patch
            .filter(|p| p.iter().product::<usize>() > MOST_VOXELS)
        {
            let expected = "2^32 voxels at most";
            return refuse("batch.patch", expected, format!("{patch:?}"));
        }
        if let Some(batch) = self.batch.filter(|n| !(1..=MOST_PATCHES).contains(n)) {
            return refuse("batch.size", "from 1 to 4096", batch.to_string());
        }
        match self.network_fault() {
            None => Ok(()),
            Some(fault) => refuse(fault.key, fault.expected, fault.found),
        }
    }
}
