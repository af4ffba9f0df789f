//! Training: configuration, the one graph of a step, batches, the loop.

mod cases;
mod choices;
mod config;
mod error;
mod family;
mod gradients;
mod imported;
mod inherit;
mod loader;
mod log;
mod memory;
mod network;
mod run;
mod session;
mod setup;
mod summary;
mod tuning;
mod validation;

pub use config::{
    BatchConfig, CONFIG_EXAMPLE, ConfigError, Fold, Length, NetworkConfig, TrainConfig,
};
pub use error::TrainError;
pub use gradients::{Profiling, gradient_profile, gradient_profile_of_dataset};
pub(crate) use loader::Draw;
pub use loader::Fed;
pub(crate) use log::Log;
pub use log::LogLine;
pub use memory::PlannedMemory;
pub use network::{Feeds, SupervisedGraph, TargetForm, TrainingStep, training_step};
pub use run::{TrainOptions, TrainReport, train};
pub use session::Event;
pub(crate) use session::{Look, Session};
pub use summary::RunSummary;
pub(crate) use tuning::tuned;
