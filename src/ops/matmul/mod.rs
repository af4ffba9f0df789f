//! Products of matrices: the fully connected layer.

mod gemm;
mod linear;

pub use gemm::VARIANTS;
pub use linear::{Linear, LinearBiasGrad, LinearInputGrad, LinearWeightGrad, linear};

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [gemm::kernels(), linear::kernels()].concat()
}
