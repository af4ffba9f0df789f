//! Where tensors lie and how they are stored: concatenation, slices of channels, reshaping, conversion.

mod concat;
mod convert;
mod copy;
mod pad_channels;
mod reshape;
mod slice;

pub use concat::{Concat, concat};
pub use convert::{Convert, convert};
pub(in crate::ops) use copy::copy;
pub use pad_channels::{PadChannels, pad_channels};
pub use reshape::{Reshape, reshape};
pub use slice::{SliceChannels, slice_channels};

use crate::gpu::{Constants, Kernel};
use crate::ops::parts;

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![
        (&copy::KERNEL, vec![vec![]]),
        (&pad_channels::KERNEL, vec![vec![]]),
    ]
    .into_iter()
    .chain(parts::kernels())
    .collect()
}
