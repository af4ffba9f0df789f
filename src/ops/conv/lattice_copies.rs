//! The copies between an image and its lattices: `shaders/conv/lattices.wgsl` and its twin for whole vec4.

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    x_channel: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    s_offset: u32,
    s_batch: u32,
    s_channel: u32,
    s_class: u32,
    s_d: u32,
    s_h: u32,
    s_w: u32,
    before_d: u32,
    before_h: u32,
    before_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
    samples: u32,
    channels: u32,
    planes: u32,
    rows: u32,
    columns: u32,
    bias_offset: u32,
    has_bias: u32,
});

const ACCESS: &[Access] = &[Access::Read, Access::Read, Access::Write];

static SCALARS: Kernel = shipped_kernel! {
    name: "conv/lattices",
    params: Params::FIELDS,
    access: ACCESS,
};

static QUADS: Kernel = shipped_kernel! {
    name: "conv/lattices_quads",
    params: Params::FIELDS,
    access: ACCESS,
};

/// Strides along W that [`QUADS`] has specialisations for.
const STRIDES: [usize; 5] = [1, 2, 4, 8, 16];

/// Invocations of a workgroup, as the kernels have it.
const GROUP: usize = 64;

/// What the lattices of an image are on their side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Channels, those of one channel of the image side by side: of a convolution with a stride.
    Channels,
    /// Samples, those of one sample of the image side by side: of a convolution with a dilation.
    Samples,
}

/// How an image is split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lattices {
    pub form: Form,
    /// From one voxel of a lattice to the next (D, H, W).
    pub stride: [usize; 3],
    /// Zeros before the image (D, H, W).
    pub before: [usize; 3],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Split,
    Join,
}

impl Lattices {
    /// Appends `split` = the lattices of `image`, with zeros where it has no voxels.
    pub fn split(&self, to: &mut Lowering<'_>, image: &Operand, split: &Operand) {
        self.copy(to, Way::Split, [image, split], None);
    }

    /// Appends `image` = what has the lattices `split`, plus `bias`, a number for each channel.
    pub fn join(
        &self,
        to: &mut Lowering<'_>,
        split: &Operand,
        image: &Operand,
        bias: Option<&Operand>,
    ) {
        self.copy(to, Way::Join, [image, split], bias);
    }

    /// The stride along W where rows of `image` and of its lattices can be moved as vec4.
    fn quads(&self, [image, split]: [&Operand; 2]) -> Option<usize> {
        let in_rows = |o: &Operand| o.shape.0[4].is_multiple_of(4) && o.is_vec4();
        let stride = STRIDES.into_iter().find(|&s| s == self.stride[2]);
        stride.filter(|_| self.before[2] == 0 && in_rows(image) && in_rows(split))
    }

    fn copy(
        &self,
        to: &mut Lowering<'_>,
        way: Way,
        [image, split]: [&Operand; 2],
        bias: Option<&Operand>,
    ) {
        let quads = self.quads([image, split]);
        let pack = if quads.is_some() { 4 } else { 1 };
        let classes = self.stride.iter().product::<usize>() as u32;
        let (per_channel, per_sample) = (split.shape.voxels() as u32, split.batch_stride);
        let (s_batch, s_channel, s_class) = match self.form {
            Form::Channels => (per_sample, classes * per_channel, per_channel),
            Form::Samples => (classes * per_sample, per_channel, per_sample),
        };
        let [x, s] = [image, split].map(|o| {
            let [d, h, w] = o.shape.spatial();
            [d, h, w / pack].map(|e| e as u32)
        });
        let covered: [usize; 3] = match way {
            Way::Split => split.shape.spatial(),
            Way::Join => [0, 1, 2]
                .map(|i| (image.shape.spatial()[i] + self.before[i]).div_ceil(self.stride[i])),
        };
        let [planes, rows, columns] = [covered[0], covered[1], covered[2].div_ceil(pack)];
        let [samples, channels, ..] = image.shape.0;
        let pack = pack as u32;
        let params = Params {
            x_offset: image.offset / pack,
            x_batch: image.batch_stride / pack,
            x_channel: image.shape.voxels() as u32 / pack,
            x_d: x[0],
            x_h: x[1],
            x_w: x[2],
            s_offset: split.offset / pack,
            s_batch: s_batch / pack,
            s_channel: s_channel / pack,
            s_class: s_class / pack,
            s_d: s[0],
            s_h: s[1],
            s_w: s[2],
            before_d: self.before[0] as u32,
            before_h: self.before[1] as u32,
            before_w: self.before[2] as u32,
            stride_d: self.stride[0] as u32,
            stride_h: self.stride[1] as u32,
            stride_w: self.stride[2] as u32,
            samples: samples as u32,
            channels: channels as u32,
            planes: planes as u32,
            rows: rows as u32,
            columns: columns as u32,
            bias_offset: bias.map_or(0, |b| b.offset),
            has_bias: u32::from(bias.is_some()),
        };
        let (from, into) = match way {
            Way::Split => (image, split),
            Way::Join => (split, image),
        };
        let (kernel, constants) = match quads {
            Some(stride) => (&QUADS, quads_constants(way, stride)),
            None => (&SCALARS, constants(way)),
        };
        let invocations = samples * channels * planes * rows * columns;
        // A binding cannot stay empty, so without a bias the source stands in and is not read as one.
        let operands = [from, bias.unwrap_or(from), into];
        let groups = grid(invocations.div_ceil(GROUP));
        to.dispatch(kernel, constants, &params, &operands, groups);
    }
}

fn constants(way: Way) -> Constants {
    vec![("JOIN", u32::from(way == Way::Join))]
}

fn quads_constants(way: Way, stride: usize) -> Constants {
    let mut list = constants(way);
    list.push(("STRIDE_W", stride as u32));
    list
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let ways = [Way::Split, Way::Join];
    let quads = STRIDES.map(|stride| ways.map(|way| quads_constants(way, stride)));
    vec![
        (&SCALARS, ways.map(constants).to_vec()),
        (&QUADS, quads.concat()),
    ]
}
