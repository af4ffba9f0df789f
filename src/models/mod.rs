//! Published networks, each with its source and its number of parameters.

mod cicek;
mod fit;
mod nnunet;
mod ronneberger;
mod unet;

pub use cicek::cicek_unet3d;
pub use fit::fitting_patch;
pub use nnunet::{PlainNet, plain_unet, residual_encoder_unet};
pub use ronneberger::{ronneberger_unet2d, unet2d};
pub use unet::{Downsampling, Encoder, Heads, UNetConfig};

use crate::graph::GraphError;

/// Why a network cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The configuration contradicts itself.
    #[error("network configuration: {0}")]
    Config(String),
    /// The graph refused a node.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl ModelError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Config(_) => true,
            Self::Graph(e) => e.is_users_fault() || matches!(e, GraphError::Node { .. }),
        }
    }
}
