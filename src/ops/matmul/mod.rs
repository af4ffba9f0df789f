//! Products of matrices: the fully connected layer, over the channels or along the last axis; Gram matrices.

mod gemm;
mod gram;
mod last_axis;
mod linear;
mod pointwise;

pub use gemm::VARIANTS;
pub use gram::{Gram, GramBackward, gram};
pub use last_axis::{
    LinearLast, LinearLastBiasGrad, LinearLastInputGrad, LinearLastWeightGrad, linear_last,
};
pub use linear::{Linear, LinearBiasGrad, LinearInputGrad, LinearWeightGrad, linear};

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [gemm::kernels(), linear::kernels(), gram::kernels()].concat()
}
