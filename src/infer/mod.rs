//! Inference: sliding windows, mirrored test-time augmentation, images in and label maps out.

mod model;
mod predictor;
mod sums;
mod tiling;

pub use model::{InferError, Model, Weights};
pub(crate) use predictor::inference_program;
pub use predictor::{InferenceOptions, Predictor};
pub use sums::Slice;
