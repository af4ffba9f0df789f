//! The operators in plain f64 loops on the CPU: the truth that every kernel is compared with.

pub mod conv;
pub mod elementwise;
mod tolerance;

pub use tolerance::{Deviation, Tolerance};
