//! Element by element: addition, also of one tensor to every sample, multiplication, a factor for each channel or for each
//! voxel, constants.

mod add;
mod add_broadcast;
mod binary;
mod channel_dot;
mod constant;
mod multiply;
mod scale;
mod scale_channels;
mod scale_voxels;

pub(in crate::ops) use add::add_to;
pub use add::{Add, add};
pub use add_broadcast::{AddBroadcast, add_broadcast};
pub use channel_dot::ChannelDot;
pub use constant::{Constant, constant};
pub use multiply::{Multiply, multiply};
pub use scale_channels::{ScaleChannels, scale_channels};
pub use scale_voxels::{ScaleVoxels, scale_voxels};

use crate::gpu::{Constants, Kernel};
use crate::ops::reduce::{MAP_STEPS, specialisations};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let others = vec![
        (&binary::KERNEL, binary::specialisations()),
        (&channel_dot::KERNEL, specialisations(MAP_STEPS)),
        (&constant::KERNEL, vec![vec![]]),
    ];
    [others, scale::kernels()].concat()
}
