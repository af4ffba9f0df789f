//! Activation functions, element by element.

mod function;

pub use function::Activation;
