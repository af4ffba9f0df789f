//! The border of an image: padding and cropping of D, H and W.

mod crop;
mod pad;

pub use crop::{Crop, center_crop, crop};
pub use pad::{Fill, Pad, PadBackward, pad};

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [crop::kernels(), pad::kernels()].concat()
}
