//! Optimisers and learning-rate schedules.

mod config;
mod schedule;

pub use config::{Optimizer, OptimizerConfig, append_optimizer, append_scaled_optimizer};
pub use schedule::Schedule;
