//! The passes over voxels in words of eight f32, for CPU adapters: `shaders/norm/words_*.wgsl`. They know the activations
//! that are linear on both sides of 0; all others keep the kernels for packs.

use super::apply::{NormApply, Operands};
use crate::gpu::{Access, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel};
use crate::ops::activation::Activation;
use crate::ops::reduce::with;
use crate::ops::words::{Words, specialisations, words};
use crate::ops::{Lowering, Operand};
use crate::param_block;

/// The names of the variants.
pub const VARIANTS: [&str; 2] = ["words", "packs"];

/// The family of the variants.
const FAMILY: &str = "norm";

/// Words that an invocation of a map writes, and that one of a reduction reads.
const MAP_STEPS: u32 = 4;
const SUM_STEPS: u32 = 16;

param_block!(StatsParams {
    x_offset: u32,
    x_batch: u32,
    words: u32,
    per_stat: u32,
    shift_offset: u32,
    shift_batch: u32,
    shift_stat: u32,
    slots: u32,
    partial_n: u32,
    partial_c: u32,
    plane: u32,
});

static STATS: Kernel = shipped_kernel! {
    name: "norm/words_stats",
    params: StatsParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(ApplyParams {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    words: u32,
    per_stat: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    beta_offset: u32,
    slope_offset: u32,
    slope: f32,
});

static APPLY: Kernel = shipped_kernel! {
    name: "norm/words_apply",
    params: ApplyParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

param_block!(SumsParams {
    x_offset: u32,
    x_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    words: u32,
    per_stat: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    beta_offset: u32,
    slope_offset: u32,
    slope: f32,
    slots: u32,
    plane: u32,
});

static SUMS: Kernel = shipped_kernel! {
    name: "norm/words_backward_sums",
    params: SumsParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

param_block!(DxParams {
    x_offset: u32,
    x_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    words: u32,
});

static DX: Kernel = shipped_kernel! {
    name: "norm/words_backward_dx",
    params: DxParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let both = |name, steps| {
        [0, 1]
            .map(|v| with(specialisations(steps), name, v))
            .concat()
    };
    vec![
        (&STATS, specialisations(SUM_STEPS)),
        (&APPLY, both("PER_CHANNEL", MAP_STEPS)),
        (&SUMS, both("PER_CHANNEL", SUM_STEPS)),
        (&DX, both("IN_PLACE", MAP_STEPS)),
    ]
}

/// Whether an activation is linear on both sides of 0, and z above.
fn is_known(activation: Option<Activation>) -> bool {
    match activation {
        None | Some(Activation::Relu | Activation::LeakyRelu { .. } | Activation::Prelu) => true,
        Some(
            Activation::Relu6
            | Activation::HardSwish
            | Activation::HardSigmoid
            | Activation::Sigmoid,
        ) => false,
    }
}

/// How the voxels of `x` are summed up in words, where they are.
pub(super) fn sums(device: &DeviceProfile, operands: &[&Operand]) -> Option<Words> {
    Words::of(device, FAMILY, operands, SUM_STEPS)
}

impl NormApply {
    /// The same where the activation takes part.
    pub(super) fn word_sums(&self, device: &DeviceProfile, operands: &[&Operand]) -> Option<Words> {
        sums(device, operands).filter(|_| is_known(self.activation))
    }

    /// How voxels are mapped in words, where they are.
    pub(super) fn word_map(&self, device: &DeviceProfile, operands: &[&Operand]) -> Option<Words> {
        Words::of(device, FAMILY, operands, MAP_STEPS).filter(|_| is_known(self.activation))
    }
}

/// Where the partial moments lie and what is taken off each value.
pub(super) struct Partials<'a> {
    pub data: &'a Operand,
    pub n: usize,
    pub c: usize,
    pub plane: usize,
    pub per_stat: usize,
    pub shift_batch: u32,
    pub shift_stat: u32,
}

/// Appends the partial moments of x.
pub(super) fn stats(to: &mut Lowering<'_>, tiling: &Words, x: &Operand, partials: &Partials<'_>) {
    let params = StatsParams {
        x_offset: words(x.offset),
        x_batch: words(x.batch_stride),
        words: tiling.words as u32,
        per_stat: partials.per_stat as u32,
        shift_offset: x.offset,
        shift_batch: partials.shift_batch,
        shift_stat: partials.shift_stat,
        slots: tiling.slots() as u32,
        partial_n: partials.n as u32,
        partial_c: partials.c as u32,
        plane: partials.plane as u32,
    };
    let operands = [x, x, partials.data];
    to.dispatch(
        &STATS,
        tiling.constants(),
        &params,
        &operands,
        tiling.groups(),
    );
}

fn with_slope(norm: &NormApply, tiling: &Words) -> Constants {
    let mut constants = tiling.constants();
    constants.push(("PER_CHANNEL", u32::from(norm.takes_slope())));
    constants
}

/// Appends y.
pub(super) fn apply(
    to: &mut Lowering<'_>,
    norm: &NormApply,
    tiling: &Words,
    o: &Operands,
    y: &Operand,
) {
    let params = ApplyParams {
        x_offset: words(o.x.offset),
        x_batch: words(o.x.batch_stride),
        y_offset: words(y.offset),
        y_batch: words(y.batch_stride),
        words: tiling.words as u32,
        per_stat: norm.kind.channels_per_stat(o.x.shape) as u32,
        mean_offset: o.mean.offset,
        mean_batch: norm.stat_stride(&o.mean),
        rstd_offset: o.rstd.offset,
        rstd_batch: norm.stat_stride(&o.rstd),
        gamma_offset: o.gamma.offset,
        beta_offset: o.beta.offset,
        slope_offset: o.slopes.offset,
        slope: norm.slope(),
    };
    let operands = [&o.x, &o.mean, &o.rstd, &o.gamma, &o.beta, &o.slopes, y];
    let constants = with_slope(norm, tiling);
    to.dispatch(&APPLY, constants, &params, &operands, tiling.groups());
}

/// Appends the partial sums of the backward pass, planes of (n, c) rows of `slots` vec4.
pub(super) fn backward_sums(
    to: &mut Lowering<'_>,
    norm: &NormApply,
    tiling: &Words,
    o: &Operands,
    [dy, partials]: [&Operand; 2],
) {
    let shape = o.x.shape;
    let params = SumsParams {
        x_offset: words(o.x.offset),
        x_batch: words(o.x.batch_stride),
        dy_offset: words(dy.offset),
        dy_batch: words(dy.batch_stride),
        words: tiling.words as u32,
        per_stat: norm.kind.channels_per_stat(shape) as u32,
        mean_offset: o.mean.offset,
        mean_batch: norm.stat_stride(&o.mean),
        rstd_offset: o.rstd.offset,
        rstd_batch: norm.stat_stride(&o.rstd),
        gamma_offset: o.gamma.offset,
        beta_offset: o.beta.offset,
        slope_offset: o.slopes.offset,
        slope: norm.slope(),
        slots: tiling.slots() as u32,
        plane: (shape.n() * shape.c() * tiling.slots()) as u32,
    };
    let operands = [
        &o.x, &o.mean, &o.rstd, &o.gamma, &o.beta, &o.slopes, dy, partials,
    ];
    let constants = with_slope(norm, tiling);
    to.dispatch(&SUMS, constants, &params, &operands, tiling.groups());
}

/// Appends dx; `dy` may lie where dx lies.
pub(super) fn backward_dx(
    to: &mut Lowering<'_>,
    tiling: &Words,
    [x, dy, coefficients, dx]: [&Operand; 4],
) {
    let params = DxParams {
        x_offset: words(x.offset),
        x_batch: words(x.batch_stride),
        dy_offset: words(dy.offset),
        dy_batch: words(dy.batch_stride),
        dx_offset: words(dx.offset),
        dx_batch: words(dx.batch_stride),
        words: tiling.words as u32,
    };
    let in_place = dx.is_at(dy);
    let mut constants = tiling.constants();
    constants.push(("IN_PLACE", u32::from(in_place)));
    // In place, dy is read through the binding of dx, and x stands at its own.
    let upstream = if in_place { x } else { dy };
    let operands = [x, upstream, coefficients, dx];
    to.dispatch(&DX, constants, &params, &operands, tiling.groups());
}
