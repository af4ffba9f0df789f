//! What is done to a segmentation after the network: drop stray components, fill holes.
//!
//! Pure functions on labels of shape `[D, H, W]`, W fastest; in a 2D image D = 1. Whether they help
//! is a question to the validation cases, so nothing here is applied unasked.

mod components;
mod filters;

pub use components::{Components, Connectivity, connected_components};
pub use filters::{fill_holes, keep_largest};

/// Why a segmentation could not be postprocessed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PostprocessError {
    /// An array that does not fit its shape.
    #[error("{found} labels where shape {shape:?} [D, H, W] has {expected:?}")]
    Length {
        /// `[D, H, W]` in voxels.
        shape: [usize; 3],
        /// D·H·W, `None` where it overflows.
        expected: Option<usize>,
        /// Elements of the array.
        found: usize,
    },
    /// A connectivity that 3D voxels do not have.
    #[error("connectivity {found}: expected 6 (faces), 18 (edges) or 26 (corners)")]
    Connectivity {
        /// What was asked for.
        found: u32,
    },
}
