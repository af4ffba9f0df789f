//! What maps and reductions over voxels share: tiling, and sums in a fixed tree without workgroup memory, whose
//! accesses cost a CPU device as much as the data itself.

mod products;
mod sums;
mod tiling;

pub use products::ChannelProducts;
pub use sums::{FAN, LAST, Sums};
pub use tiling::{MAP_STEPS, SUM_STEPS, Tiling, specialisations, word_specialisations};

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let merge = [1, 4].map(|w| vec![("Pack", w), ("FAN", FAN)]);
    let products = [0, 1].map(|negative| with(specialisations(SUM_STEPS), "NEGATIVE", negative));
    vec![
        (&sums::KERNEL, merge.to_vec()),
        (&products::KERNEL, products.concat()),
    ]
}

/// The same specialisations with one more constant.
pub fn with(mut list: Vec<Constants>, name: &'static str, value: u32) -> Vec<Constants> {
    for constants in &mut list {
        constants.push((name, value));
    }
    list
}
