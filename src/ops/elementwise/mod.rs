//! Element by element: addition.

mod add;

pub use add::{Add, add};

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&add::KERNEL, vec![vec![]])]
}
