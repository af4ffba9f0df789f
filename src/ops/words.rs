//! Words: eight f32 of a row that a CPU which plays a GPU moves as one vec4 of u64.
//!
//! Such a device (lavapipe) runs each load and store as a loop over the lanes, whose overhead counts as much as what it moves
//! there, so that four u64 a lane are the most it can do at once. Measured on lavapipe with 2 cores, 32 MiB by 256
//! invocations a workgroup, best ms in turns: loads as `vec4<f32>` 5.5, `vec2<u64>` 4.2, `vec4<u64>` 2.7; stores 6.1, 5.4, 4.3; copies
//! 8.0, 6.4, 4.4 (scalars: 17).

use crate::gpu::DeviceProfile;
use crate::ops::Operand;
use crate::tensor::Element;

/// Elements of a word.
pub const WORD: usize = 8;

/// An offset or a stride in words.
pub fn words(elements: u32) -> u32 {
    elements / WORD as u32
}

/// Whether `operand` holds f32 and its samples begin at whole words.
pub fn starts_at_words(operand: &Operand) -> bool {
    operand.element == Element::F32 && operand.starts_in(WORD)
}

/// Whether the kernels of `family` for words take `operands`, all of one D, H and W: where the device moves words, every
/// channel is made of whole ones, and no other variant of `family` is forced.
pub fn are_moved(device: &DeviceProfile, family: &str, operands: &[&Operand]) -> bool {
    let whole = |o: &Operand| starts_at_words(o) && o.shape.voxels().is_multiple_of(WORD);
    let is_wanted = device
        .forced(family)
        .is_none_or(|variant| variant == "words");
    device.moves_words() && is_wanted && operands.iter().all(|o| whole(o))
}
