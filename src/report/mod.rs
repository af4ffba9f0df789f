//! What a person looks at: aligned tables for the terminal, pictures of cases, training curves, the time
//! of each operator.

pub mod curves;
mod font;
mod palette;
mod panel;
pub mod picture;
pub mod profile;
pub mod table;
