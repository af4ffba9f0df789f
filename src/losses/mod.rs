//! Losses as users choose them, with deep supervision.

mod config;
mod style;
mod supervised;
mod supervision;

pub use config::LossConfig;
pub use style::style_loss;
pub use supervised::{Losses, Truth, supervised_loss};
pub use supervision::{Supervision, SupervisionError};
