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
            | Activation::Sigmoid,
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
    /// That of the moments of `x`.
    pub(super) fn stats(device: &DeviceProfile, x: &Operand) -> Self {
        let in_words = are_moved(device, FAMILY, &[x]);
        let (kernel, tiling) = match in_words {
            true => (&STATS, Tiling::channels_in_words(&[x], SUM_STEPS)),
            false => (&stats::KERNEL, Tiling::channels(&[x], SUM_STEPS)),
        };
        Self {
            kernel,
            tiling,
            constants: tiling.constants(),
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
        let mut pass = if self.takes_words(device, operands) {
            let tiling = Tiling::channels_in_words(operands, MAP_WORDS);
            self.words_with_slope(&APPLY, tiling)
        } else {
            self.in_packs(&apply::KERNEL, Tiling::channels(operands, MAP_STEPS))
        };
        pass.constants.push(("IN_PLACE", u32::from(in_place)));
        pass
    }

    /// The pass that makes the partial sums of the gradients; `operands` are x and dy.
    pub(super) fn sums_pass(&self, device: &DeviceProfile, operands: &[&Operand]) -> Pass {
        if self.takes_words(device, operands) {
            let tiling = Tiling::channels_in_words(operands, SUM_STEPS);
            return self.words_with_slope(&SUMS, tiling);
        }
        self.in_packs(&backward::SUMS, Tiling::channels(operands, SUM_STEPS))
    }

    /// The pass that writes dx, where dy lies if `in_place`; `operands` are x, dy and dx.
    pub(super) fn dx_pass(
        &self,
        device: &DeviceProfile,
        operands: &[&Operand],
        in_place: bool,
    ) -> Pass {
        let mut pass = if self.takes_words(device, operands) {
            let tiling = Tiling::channels_in_words(operands, MAP_WORDS);
            Pass {
                kernel: &DX,
                tiling,
                constants: tiling.constants(),
            }
        } else {
            self.in_packs(&backward::DX, Tiling::channels(operands, MAP_STEPS))
        };
        pass.constants.push(("IN_PLACE", u32::from(in_place)));
        pass
    }

    fn words_with_slope(&self, kernel: &'static Kernel, tiling: Tiling) -> Pass {
        let mut constants = tiling.constants();
        constants.push(("PER_CHANNEL", u32::from(self.takes_slope())));
        Pass {
            kernel,
            tiling,
            constants,
        }
    }

    fn in_packs(&self, kernel: &'static Kernel, tiling: Tiling) -> Pass {
        let mut constants = tiling.constants();
        constants.push(("KIND", self.activation_kind()));
        Pass {
            kernel,
            tiling,
            constants,
        }
    }
}
