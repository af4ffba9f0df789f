//! Which kernels pass over the voxels: those for packs, or on CPU adapters those for words of eight f32
//! (`shaders/norm/words_*.wgsl`), which know the activations that are linear on both sides of 0.

use super::apply::{self, NormApply};
use super::{backward, stats};
use crate::gpu::{Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel};
use crate::ops::Operand;
use crate::ops::activation::Activation;
use crate::ops::reduce::{MAP_STEPS, SUM_STEPS, Tiling, with, word_specialisations};
use crate::ops::words::are_moved;

/// The names of the variants.
pub const VARIANTS: [&str; 2] = ["words", "packs"];

/// The family of the variants.
const FAMILY: &str = "norm";

/// Words that an invocation of a map writes; one of a reduction reads as many as it would packs.
const MAP_WORDS: u32 = 4;

static STATS: Kernel = shipped_kernel! {
    name: "norm/words_stats",
    params: stats::Params::FIELDS,
    access: stats::KERNEL.access,
};

static APPLY: Kernel = shipped_kernel! {
    name: "norm/words_apply",
    params: apply::Params::FIELDS,
    access: apply::KERNEL.access,
};

static SUMS: Kernel = shipped_kernel! {
    name: "norm/words_backward_sums",
    params: backward::SumsParams::FIELDS,
    access: backward::SUMS.access,
};

static DX: Kernel = shipped_kernel! {
    name: "norm/words_backward_dx",
    params: backward::DxParams::FIELDS,
    access: backward::DX.access,
};

/// The kernels for words with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let both = |name, steps| [0, 1].map(|v| with(word_specialisations(steps), name, v));
    let apply = [0, 1].map(|v| with(both("PER_CHANNEL", MAP_WORDS).concat(), "IN_PLACE", v));
    vec![
        (&STATS, word_specialisations(SUM_STEPS)),
        (&APPLY, apply.concat()),
        (&SUMS, both("PER_CHANNEL", SUM_STEPS).concat()),
        (&DX, both("IN_PLACE", MAP_WORDS).concat()),
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
            | Activation::Sigmoid
            | Activation::Gelu
            | Activation::GeluTanh
            | Activation::Elu,
        ) => false,
    }
}

/// A pass over the voxels of all channels.
pub(super) struct Pass {
    pub kernel: &'static Kernel,
    pub tiling: Tiling,
    pub constants: Constants,
}

impl Pass {
    fn of(kernel: &'static Kernel, tiling: Tiling) -> Self {
        Self {
            kernel,
            tiling,
            constants: tiling.constants(),
        }
    }

    fn with(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// That of the moments of `x`.
    pub(super) fn stats(device: &DeviceProfile, x: &Operand) -> Self {
        match are_moved(device, FAMILY, &[x]) {
            true => Self::of(&STATS, Tiling::channels_in_words(&[x], SUM_STEPS)),
            false => Self::of(&stats::KERNEL, Tiling::channels(&[x], SUM_STEPS)),
        }
    }
}

impl NormApply {
    fn takes_words(&self, device: &DeviceProfile, operands: &[&Operand]) -> bool {
        is_known(self.activation) && are_moved(device, FAMILY, operands)
    }

    /// The pass that writes y, where x lies if `in_place`; `operands` are x and y.
    pub(super) fn apply_pass(
        &self,
        device: &DeviceProfile,
        operands: &[&Operand],
        in_place: bool,
    ) -> Pass {
        let pass = match self.takes_words(device, operands) {
            true => Pass::of(&APPLY, Tiling::channels_in_words(operands, MAP_WORDS))
                .with("PER_CHANNEL", u32::from(self.takes_slope())),
            false => self.in_packs(&apply::KERNEL, operands, MAP_STEPS),
        };
        pass.with("IN_PLACE", u32::from(in_place))
    }

    /// The pass that makes the partial sums of the gradients; `operands` are x and dy.
    pub(super) fn sums_pass(&self, device: &DeviceProfile, operands: &[&Operand]) -> Pass {
        match self.takes_words(device, operands) {
            true => Pass::of(&SUMS, Tiling::channels_in_words(operands, SUM_STEPS))
                .with("PER_CHANNEL", u32::from(self.takes_slope())),
            false => self.in_packs(&backward::SUMS, operands, SUM_STEPS),
        }
    }

    /// The pass that writes dx, where dy lies if `in_place`; `operands` are x, dy and dx.
    pub(super) fn dx_pass(
        &self,
        device: &DeviceProfile,
        operands: &[&Operand],
        in_place: bool,
    ) -> Pass {
        let pass = match self.takes_words(device, operands) {
            true => Pass::of(&DX, Tiling::channels_in_words(operands, MAP_WORDS)),
            false => self.in_packs(&backward::DX, operands, MAP_STEPS),
        };
        pass.with("IN_PLACE", u32::from(in_place))
    }

    fn in_packs(&self, kernel: &'static Kernel, operands: &[&Operand], steps: u32) -> Pass {
        Pass::of(kernel, Tiling::channels(operands, steps)).with("KIND", self.activation_kind())
    }
}
