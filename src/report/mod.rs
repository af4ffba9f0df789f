//! What a person looks at: aligned tables for the terminal, pictures of cases, training curves.

pub mod table;
