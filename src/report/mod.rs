//! What a person looks at: cases with their figures and pictures, training curves, gradients.

pub mod curves;
pub mod evaluated;
mod font;
pub mod gradients;
mod palette;
mod panel;
pub mod picture;
