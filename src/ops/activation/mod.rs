//! Activation functions, element by element.

mod activate;
mod function;

pub use activate::{Activate, ActivateBackward, activate, prelu};
pub use function::Activation;

use crate::gpu::{Constants, Kernel};
use crate::ops::reduce::MAP_STEPS;

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let constants: Vec<Constants> = Activation::ALL
        .iter()
        .flat_map(|a| [1, 4].map(|w| vec![("Pack", w), ("KIND", a.kind()), ("STEPS", MAP_STEPS)]))
        .collect();
    vec![
        (&activate::FORWARD, constants.clone()),
        (&activate::BACKWARD, constants),
    ]
}
