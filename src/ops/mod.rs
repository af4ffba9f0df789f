//! Operators: attributes, shape rule, backward rule, choice of kernel, dispatch, FLOPs and bytes.

pub mod activation;
pub mod attention;
pub mod border;
pub mod conv;
pub mod dropout;
pub mod elementwise;
mod error;
pub mod layout;
pub mod loss;
pub mod matmul;
pub mod norm;
mod operator;
pub mod optim;
mod parts;
pub mod pool;
pub mod reduce;
pub mod resample;
pub mod softmax;
mod variants;
mod words;

use error::with_bias;
pub use error::{OpError, expect_shape, take};
pub use operator::{
    Backward, Binding, BufferRef, Build, Candidates, Cost, Dispatch, Layout, Lowering, Operand,
    Operator, ValueId, grid, grid_of, pack_width,
};
pub(crate) use parts::lower_within_limits;
pub use variants::{UnknownVariant, VARIANTS, check_variant};

use crate::gpu::{Constants, Kernel};

/// Every kernel of every family with the specialisations in use.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [
        activation::kernels(),
        attention::kernels(),
        border::kernels(),
        conv::kernels(),
        dropout::kernels(),
        elementwise::kernels(),
        layout::kernels(),
        loss::kernels(),
        matmul::kernels(),
        norm::kernels(),
        optim::kernels(),
        pool::kernels(),
        reduce::kernels(),
        resample::kernels(),
        softmax::kernels(),
    ]
    .concat()
}
