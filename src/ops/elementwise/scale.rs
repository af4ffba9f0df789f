//! y = scale * x, with a factor for each channel or for each voxel.

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::reduce::{MAP_STEPS, Tiling, specialisations};
use crate::ops::{Cost, Lowering};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    scale_offset: u32,
    scale_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
});

const ACCESS: &[Access] = &[Access::Read, Access::Read, Access::Write];

static OF_CHANNELS: Kernel = shipped_kernel! {
    name: "elementwise/scale_channels",
    params: Params::FIELDS,
    access: ACCESS,
};

static OF_VOXELS: Kernel = shipped_kernel! {
    name: "elementwise/scale_voxels",
    params: Params::FIELDS,
    access: ACCESS,
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [&OF_CHANNELS, &OF_VOXELS]
        .map(|kernel| (kernel, specialisations(MAP_STEPS)))
        .to_vec()
}

/// What has a factor of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factors {
    /// Each channel: (N, C, 1, 1, 1).
    OfChannels,
    /// Each voxel: (N, 1, D, H, W).
    OfVoxels,
}

/// Output 0 = input 1 * input 0, both (N, C, D, H, W) but for the factors.
pub(super) fn lower(factors: Factors, to: &mut Lowering<'_>) {
    let (x, scale, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
    // Factors of channels are read one by one.
    let (kernel, tiling) = match factors {
        Factors::OfChannels => (&OF_CHANNELS, Tiling::channels(&[&x, &y], MAP_STEPS)),
        Factors::OfVoxels => (&OF_VOXELS, Tiling::channels(&[&x, &scale, &y], MAP_STEPS)),
    };
    let of_scale = |elements: u32| match factors {
        Factors::OfChannels => elements,
        Factors::OfVoxels => tiling.packs_of(elements),
    };
    let params = Params {
        x_offset: tiling.packs_of(x.offset),
        x_batch: tiling.packs_of(x.batch_stride),
        scale_offset: of_scale(scale.offset),
        scale_batch: of_scale(scale.batch_stride),
        y_offset: tiling.packs_of(y.offset),
        y_batch: tiling.packs_of(y.batch_stride),
        packs: tiling.packs as u32,
    };
    let (constants, groups) = (tiling.constants(), tiling.groups());
    to.dispatch(kernel, constants, &params, &[&x, &scale, &y], groups);
}

/// Of one multiplication an element.
pub(super) fn cost(inputs: &[Shape]) -> Cost {
    let elements = inputs[0].len() as f64;
    Cost {
        flops: elements,
        bytes: 8.0 * elements + 4.0 * inputs[1].len() as f64,
    }
}
