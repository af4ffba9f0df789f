//! Which labels there are, and what the network has to tell apart.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A foreground class (one label value) or a region (several values that count as one).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// As it is written in tables.
    pub name: String,
    /// Values in the label files, ascending.
    pub values: Vec<u32>,
}

impl Target {
    /// Whether a voxel of this label belongs to the target.
    pub fn contains(&self, label: u32) -> bool {
        self.values.contains(&label)
    }
}

/// The labels of a data set.
///
/// Plain labels exclude each other: the network has one channel per label, background first, and a
/// softmax. Regions may overlap: one channel per region, no background, and a sigmoid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Name of label 0.
    pub background: String,
    /// The foreground classes in ascending order of value, or the regions in the order of
    /// dataset.json.
    pub foreground: Vec<Target>,
    /// Only with regions: the label that each region writes into a segmentation, in this order, so
    /// that later regions cover earlier ones (`regions_class_order`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region_order: Option<Vec<u32>>,
    /// The label of voxels that nobody annotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore: Option<u32>,
}

impl Labels {
    /// Output channels of the network: foreground classes and background, or regions.
    pub fn classes(&self) -> usize {
        self.foreground.len() + usize::from(!self.is_regions())
    }

    /// Whether the targets are regions, which may overlap: each channel is judged on its own rather than against the others.
    pub fn is_regions(&self) -> bool {
        self.region_order.is_some()
    }

    /// Names of the output channels in order.
    pub fn channel_names(&self) -> Vec<&str> {
        let background = (!self.is_regions()).then_some(self.background.as_str());
        let foreground = self.foreground.iter().map(|target| target.name.as_str());
        background.into_iter().chain(foreground).collect()
    }

    /// All values that a label file may hold, ascending, the ignore label among them.
    pub fn values(&self) -> Vec<u32> {
        let named = self
            .foreground
            .iter()
            .flat_map(|t| t.values.iter().copied());
        let all: BTreeSet<u32> = named.chain([0]).chain(self.ignore).collect();
        all.into_iter().collect()
    }

    /// Spreads a label map (N, 1, D, H, W) into one map of 0 and 1 per region (N, R, D, H, W).
    ///
    /// Voxels of the ignore label become the ignore label's value in every region, so that a loss
    /// can leave them out. `voxels` is D * H * W and must divide the length of `labels`.
    pub fn labels_to_regions(&self, labels: &[f32], voxels: usize) -> Vec<f32> {
        let mut regions = Vec::with_capacity(labels.len() * self.foreground.len());
        for sample in labels.chunks_exact(voxels.max(1)) {
            for target in &self.foreground {
                regions.extend(sample.iter().map(|&label| {
                    let value = label as u32;
                    if Some(value) == self.ignore {
                        label
                    } else {
                        f32::from(u8::from(target.contains(value)))
                    }
                }));
            }
        }
        regions
    }
}
