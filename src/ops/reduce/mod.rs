//! What maps and reductions over voxels share: tiling, and sums in a fixed tree without workgroup memory, whose
//! accesses cost a CPU device as much as the data itself.

mod products;
mod sums;
mod tiling;

pub use products::ChannelProducts;
pub use sums::{FAN, LAST, Sums};
pub use tiling::{MAP_STEPS, SUM_STEPS, Tiling};

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let merge = [1, 4].map(|w| vec![("Pack", w), ("FAN", FAN)]);
    let products = [(1, 0), (1, 1), (4, 0), (4, 1)]
        .map(|(w, negative)| vec![("Pack", w), ("NEGATIVE", negative), ("STEPS", SUM_STEPS)]);
    vec![
        (&sums::KERNEL, merge.to_vec()),
        (&products::KERNEL, products.to_vec()),
    ]
}
