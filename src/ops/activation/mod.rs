//! Activation functions, element by element.

mod activate;
mod function;

pub use activate::{Activate, ActivateBackward, activate, prelu};
pub use function::Activation;

use crate::gpu::{Constants, Kernel};
use crate::ops::reduce::{MAP_STEPS, specialisations, with};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let of = |a: Activation| with(specialisations(MAP_STEPS), "KIND", a.kind());
    let constants = Activation::ALL.map(of).concat();
    let backward = [0, 1].map(|in_place| with(constants.clone(), "IN_PLACE", in_place));
    vec![
        (&activate::FORWARD, constants),
        (&activate::BACKWARD, backward.concat()),
    ]
}
