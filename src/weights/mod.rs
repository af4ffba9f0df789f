//! Weights of others in and out: PyTorch checkpoints, safetensors, and the runs of nnU-Net.

mod architecture;
mod archive;
mod element;
mod error;
mod file;
mod names;
mod nnunet;
mod pickle;
mod training;
mod value;

pub use element::StoredType;
pub use error::{Misfit, Misshapen, WeightsError};
pub use file::WeightsFile;
pub use names::{Fitted, FittedBody, fit, fit_body, fit_shapes, load_into, save_safetensors};
pub use nnunet::{ImportedModel, ModelChoice};
pub use training::ImportedTraining;
