//! Convolution and transposed convolution, forward and backward.
//!
//! Three operators serve both. With conv the linear map x -> y, its input gradient dy -> dx is the transposed
//! convolution, so: the input gradient of a transposed convolution is [`ConvForward`], its weight gradient is
//! [`ConvWeightGrad`] with the roles of input and output exchanged, and PyTorch's weight layout (C_in, C_out / groups,
//! KD, KH, KW) of the transposed convolution is (C_out, C_in / groups, KD, KH, KW) of the map that it transposes.

mod attributes;
mod bias_grad;
mod choice;
mod classes;
mod coop;
mod coop_weight_grad;
mod correlation;
mod depthwise;
mod depthwise_strips;
mod forward;
mod gemm;
mod gemm_weight_grad;
mod input_grad;
mod lanes;
mod lattice_copies;
mod lattices;
mod naive;
mod parts;
mod patches;
mod patches_weight_grad;
mod rows;
mod shares;
mod split;
mod streamed;
mod weight_grad;
mod weight_grad_lanes;
mod winograd;

pub use attributes::ConvAttributes;
pub use bias_grad::{BiasGrad, bias_grad};
pub use choice::{Direction, VARIANTS};
pub use forward::{ConvForward, conv};
pub use input_grad::{ConvInputGrad, conv_input_grad, conv_transpose};
pub(in crate::ops) use rows::{cut_rows, fill_rows};
pub use shares::{ConvInputGradShare, ConvWeightGradShare};
pub use streamed::{Convolution, Piece, Streamed};
pub use weight_grad::{ConvWeightGrad, conv_weight_grad};

use crate::gpu::{Constants, Kernel};
use choice::{Plans, Problem, Variant, candidates, choose, choose_alike};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let mut list = vec![
        (&naive::FORWARD, vec![vec![]]),
        (&naive::INPUT_GRAD, vec![vec![]]),
        (&naive::WEIGHT_GRAD, vec![vec![]]),
        (&lanes::KERNEL, lanes::specialisations()),
    ];
    list.extend(bias_grad::kernels());
    list.extend(classes::kernels());
    list.extend(coop::kernels());
    list.extend(coop_weight_grad::kernels());
    list.extend(lanes::copies::kernels());
    list.extend(lattice_copies::kernels());
    list.extend(depthwise::kernels());
    list.extend(depthwise_strips::kernels());
    list.extend(gemm::kernels());
    list.extend(gemm_weight_grad::kernels());
    list.extend(patches::kernels());
    list.extend(patches_weight_grad::kernels());
    list.extend(split::kernels());
    list.extend(weight_grad_lanes::kernels());
    list.extend(winograd::kernels());
    list
}
