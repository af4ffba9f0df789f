//! Published networks, each with its source and its number of parameters.

mod architecture;
mod attention_unet;
mod c1;
mod checks;
mod cicek;
mod dense_unet;
mod densenet;
mod dilated;
mod fit;
mod isensee;
mod kayalibay;
mod keys;
mod lraspp;
mod mixer;
mod mobile_unet;
mod mobilenet;
mod mobilenet_v1;
mod mobilenet_v2;
mod mobilenet_v3;
mod monai_attention;
mod names;
mod nnunet;
mod patches;
mod registry;
mod ronneberger;
mod summed;
mod unet;
mod unet_plus_plus;
mod unetr;
mod vit;
mod vnet;
mod wang;

pub use architecture::{Architecture, Heads, Network};
pub use attention_unet::{attention_unet, attention_unet_of};
pub use c1::{C1Net, c1_deepsup, c1_deepsup_of};
pub use cicek::cicek_unet3d;
pub use dense_unet::{DenseStage, DenseUNet, dense_unet_of, fc_densenet56, fc_densenet103};
pub use densenet::{DenseNet, densenet121, densenet161, densenet169, densenet201};
pub use dilated::DilatedResNet;
pub use fit::fitting_patch;
pub use isensee::IsenseeUNet;
pub use kayalibay::{summed_unet, summed_unet_of};
pub use keys::Key;
pub use lraspp::LrAspp;
pub use mixer::Mixer;
pub use mobile_unet::MobileUNet;
pub use mobilenet_v1::{MobileNetV1, SeparableStage};
pub use mobilenet_v2::{InvertedStage, MobileNetV2};
pub use mobilenet_v3::{MobileNetV3, V3Block, V3Features};
pub use monai_attention::MonaiAttentionUNet;
pub use names::{check_decoder, check_dimensions, model, planned_model};
pub use nnunet::{
    PlainNet, is_residual_encoder, nnunet_name, plain_unet, plain_unet_of, residual_encoder_unet,
    residual_unet_of,
};
pub use registry::{Blueprint, Counts, Form, Model, OfBlueprint, OfForm, Task};
pub use ronneberger::{ronneberger_unet2d, unet2d};
pub use unet::{Downsampling, Encoder, UNetConfig};
pub use unet_plus_plus::UNetPlusPlus;
pub use unetr::Unetr;
pub use vit::VisionTransformer;
pub use vnet::{VNetConfig, VNetForm};
pub use wang::{Branch, WangNet, wang8, wang13};

use registry::total_stride;
use summed::summed_heads;

use crate::graph::GraphError;

/// All networks that users can name: segmentation networks, then classifiers.
pub static MODELS: &[&Model] = &[
    &nnunet::PLAIN_3D,
    &nnunet::PLAIN_2D,
    &nnunet::RESIDUAL_3D,
    &nnunet::RESIDUAL_2D,
    &cicek::MODEL,
    &ronneberger::MODEL,
    &attention_unet::MODEL,
    &monai_attention::MODEL,
    &kayalibay::MODEL,
    &kayalibay::PLANE,
    &isensee::MODEL,
    &isensee::PLANE,
    &unet_plus_plus::MODEL,
    &vnet::PUBLISHED,
    &vnet::BATCH_NORM,
    &vnet::ELU,
    &dense_unet::MODEL,
    &c1::MODEL,
    &unetr::MODEL,
    &lraspp::MODEL,
    &mobile_unet::MODEL,
    &mobilenet_v1::FULL,
    &mobilenet_v1::WIDTH_075,
    &mobilenet_v1::WIDTH_050,
    &mobilenet_v1::WIDTH_025,
    &mobilenet_v2::WIDTH_140,
    &mobilenet_v2::FULL,
    &mobilenet_v2::WIDTH_075,
    &mobilenet_v2::WIDTH_050,
    &mobilenet_v2::WIDTH_035,
    &mobilenet_v3::LARGE_MODEL,
    &mobilenet_v3::SMALL_MODEL,
    &densenet::DENSENET_121,
    &densenet::DENSENET_169,
    &densenet::DENSENET_201,
    &densenet::DENSENET_161,
    &wang::WANG_8,
    &wang::WANG_13,
    &vit::B16,
    &vit::B32,
    &vit::L16,
    &vit::S16,
    &vit::TI16,
    &mixer::S32,
    &mixer::S16,
    &mixer::B32,
    &mixer::B16,
    &mixer::L16,
];

fn suggestion(near: &[&str]) -> String {
    match near {
        [] => String::new(),
        near => format!(" (is {} meant?)", near.join(" or ")),
    }
}

/// Why a network cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The configuration contradicts itself.
    #[error("network configuration: {0}")]
    Config(String),
    /// No network has that name.
    #[error(
        "no such network: `{name}`{}; `voxseg models` lists them all",
        suggestion(near)
    )]
    Unknown {
        /// The name.
        name: String,
        /// Names like it.
        near: Vec<&'static str>,
    },
    /// A network that has only the form in which it was published.
    #[error(
        "`{name}` is of one published form, which follows no plan: it can be inspected, and not trained on a data set; these can: {planned}"
    )]
    OneForm {
        /// The name.
        name: &'static str,
        /// The names of those that follow plans.
        planned: String,
    },
    /// A classifier where a segmentation network is needed.
    #[error(
        "`{0}` tells classes of whole images, not of voxels: train it with `voxseg classify train --model {0}`, or take one of the segmentation networks of `voxseg models`"
    )]
    Classifier(&'static str),
    /// A network for slices where volumes are, or the other way round.
    #[error("`{name}` is for {expected}, but {found}; {remedy}")]
    Dimensions {
        /// The name.
        name: &'static str,
        /// What it is for.
        expected: &'static str,
        /// What there is.
        found: &'static str,
        /// What to do.
        remedy: String,
    },
    /// The graph refused a node.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl ModelError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Unknown { .. }
            | Self::OneForm { .. }
            | Self::Classifier(_)
            | Self::Dimensions { .. } => true,
            Self::Graph(e) => e.is_users_fault() || matches!(e, GraphError::Node { .. }),
        }
    }
}
