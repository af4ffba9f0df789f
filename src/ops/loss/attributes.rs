//! The choices that a segmentation loss is made of.

use serde::{Deserialize, Serialize};

use crate::ops::OpError;

/// Most channels of logits: more would spill the sums that an invocation keeps in registers without end.
pub const MAX_CLASSES: usize = 64;

/// How logits become probabilities, and what the target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Softmax over the classes; the target holds class indices (N, 1, D, H, W).
    Softmax,
    /// Sigmoid of each channel; the target holds 0 or 1 for each region (N, R, D, H, W). Regions may overlap.
    Sigmoid,
}

impl Activation {
    /// Channels of the target of logits of `classes` channels.
    pub fn target_channels(self, classes: usize) -> usize {
        match self {
            Self::Softmax => 1,
            Self::Sigmoid => classes,
        }
    }

    /// Checks the number of channels of logits: 2 to 64 classes, or 1 to 64 regions.
    ///
    /// # Errors
    /// [`OpError::Attribute`] with both numbers.
    pub(super) fn check_channels(self, op: &'static str, channels: usize) -> Result<(), OpError> {
        let least = match self {
            Self::Softmax => 2,
            Self::Sigmoid => 1,
        };
        if (least..=MAX_CLASSES).contains(&channels) {
            return Ok(());
        }
        Err(OpError::Attribute {
            op,
            reason: format!("{channels} channels of logits; it takes {least} to {MAX_CLASSES}"),
        })
    }
}

/// A loss that is a mean over voxels. p_t is the probability of the true class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PixelLoss {
    /// -log p_t.
    CrossEntropy,
    /// -(1 - p_t)^gamma log p_t (Lin et al. 2017, eq. 4); its alpha_t is the class weight.
    Focal {
        /// How much confident voxels are held back; 2 in the paper.
        #[serde(default = "usual_gamma")]
        gamma: f32,
    },
}

/// A loss of overlap: I = sum(p g), P = sum(p), G = sum(g) over the voxels of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RegionLoss {
    /// nnU-Net's: -mean((2 I + smooth) / max(P + G + smooth, 1e-8)).
    SoftDice {
        /// nnU-Net has 1e-5.
        #[serde(default = "usual_smooth")]
        smooth: f32,
    },
    /// V-Net's (Milletari et al. 2016): 1 - mean(2 I / (sum(p^2) + G)).
    SquaredDice,
    /// 1 - mean((I + smooth) / (I + alpha (P - I) + beta (G - I) + smooth)) (Salehi et al. 2017).
    Tversky {
        /// Weight of false positives; 0.3 in the paper.
        #[serde(default = "usual_alpha")]
        alpha: f32,
        /// Weight of false negatives; 0.7 in the paper.
        #[serde(default = "usual_beta")]
        beta: f32,
        /// Keeps classes without a voxel from 0 / 0.
        #[serde(default = "usual_smooth")]
        smooth: f32,
    },
    /// 1 - mean(2 sum_c(w I) / sum_c(w (P + G))), w = 1 / G^2 (Sudre et al. 2017). A class without a voxel takes the
    /// largest weight of the others.
    GeneralisedDice,
}

fn usual_gamma() -> f32 {
    2.0
}

fn usual_smooth() -> f32 {
    1e-5
}

fn usual_alpha() -> f32 {
    0.3
}

fn usual_beta() -> f32 {
    0.7
}

/// What the sum of the pixel loss is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// The sum of the weights of the voxels that count (PyTorch's cross-entropy; nnU-Net's masked binary
    /// cross-entropy, whose channels are then summed). Without weights the same as `Voxels`.
    Weights,
    /// The number of voxels that count, times channels for regions.
    Voxels,
}

/// All choices of a segmentation loss: `pixel_weight * pixel + region_weight * region`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossAttributes {
    /// Softmax with labels, or sigmoid with regions.
    pub activation: Activation,
    /// The mean over voxels, if any.
    pub pixel: Option<PixelLoss>,
    /// The overlap, if any.
    pub region: Option<RegionLoss>,
    /// Weight of the pixel loss.
    pub pixel_weight: f32,
    /// Weight of the region loss.
    pub region_weight: f32,
    /// Whether I, P and G run over the whole batch (one score for each class) or each sample (one score for each
    /// sample and class).
    pub batch_dice: bool,
    /// Whether class 0 counts in the region loss.
    pub background: bool,
    /// Voxels of this label count in no sum; so do voxels whose label is no class. Softmax only: regions leave voxels
    /// out by a voxel weight of 0.
    pub ignore_label: Option<u32>,
    /// Whether there is an input of class weights (C values); softmax only.
    pub class_weighted: bool,
    /// Whether there is an input of voxel weights (N, 1, D, H, W). They weigh the pixel loss; a voxel of weight 0
    /// counts in no region sum either.
    pub voxel_weighted: bool,
    /// What the pixel loss is divided by.
    pub normalise: Normalise,
}

impl LossAttributes {
    /// nnU-Net's default for labels: cross-entropy + soft Dice without background, smooth 1e-5, per sample.
    pub fn dice_ce() -> Self {
        Self {
            activation: Activation::Softmax,
            pixel: Some(PixelLoss::CrossEntropy),
            region: Some(RegionLoss::SoftDice { smooth: 1e-5 }),
            pixel_weight: 1.0,
            region_weight: 1.0,
            batch_dice: false,
            background: false,
            ignore_label: None,
            class_weighted: false,
            voxel_weighted: false,
            normalise: Normalise::Weights,
        }
    }
}
