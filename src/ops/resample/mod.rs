//! Resampling to another size: linear and nearest.

mod axis;
mod backward;
mod forward;

pub use axis::Mode;
pub use backward::ResampleBackward;
pub use forward::{Resample, resample};

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [forward::kernels(), backward::kernels()].concat()
}
