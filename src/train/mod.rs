//! Training: configuration, the one graph of a step, batches, checkpoints, the loop.

pub mod checkpoint;
mod choices;
mod config;
mod error;
mod folder;
mod loader;
mod log;
mod network;
mod run;
mod session;
mod validation;

pub use choices::{mirror_axes, network_of};
pub use config::{BatchConfig, ConfigError, Fold, Length, NetworkConfig, TrainConfig};
pub use error::TrainError;
pub use folder::RunFolder;
pub use log::LogLine;
pub use network::{Feeds, SupervisedGraph, TargetForm, TrainingStep, training_step};
pub use run::{TrainOptions, TrainReport, train};
pub use session::Event;
pub use validation::classes_of;
