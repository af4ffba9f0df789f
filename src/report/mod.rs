//! What a person looks at: pictures of cases, training curves.

pub mod curves;
mod font;
mod palette;
mod panel;
pub mod picture;
