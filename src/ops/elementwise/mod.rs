//! Element by element: addition, multiplication, a factor for each channel.

mod add;
mod binary;
mod multiply;
mod scale_channels;

pub(in crate::ops) use add::add_to;
pub use add::{Add, add};
pub use multiply::{Multiply, multiply};
pub use scale_channels::{ScaleChannels, scale_channels};

use crate::gpu::{Constants, Kernel};
use crate::ops::reduce::{MAP_STEPS, specialisations};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![
        (&binary::KERNEL, binary::specialisations()),
        (&scale_channels::KERNEL, specialisations(MAP_STEPS)),
    ]
}
