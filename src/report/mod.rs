//! What a person looks at: cases with their figures and pictures, training curves.

pub mod curves;
pub mod evaluated;
mod font;
mod palette;
mod panel;
pub mod picture;
