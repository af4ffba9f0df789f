//! Words: eight f32 of a row that a CPU which plays a GPU moves as one vec4 of u64.
//!
//! Such a device (lavapipe) runs each load and store as a loop over the lanes, whose overhead counts as much as what it moves
//! there, so that four u64 a lane are the most it can do at once. Measured on lavapipe with 2 cores, 32 MiB by 256
//! invocations a workgroup, best ms in turns: loads as `vec4<f32>` 5.5, `vec2<u64>` 4.2, `vec4<u64>` 2.7; stores 6.1, 5.4, 4.3; copies
//! 8.0, 6.4, 4.4 (scalars: 17).

use crate::gpu::{Constants, DeviceProfile};
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
    let starts = [operand.offset, operand.batch_stride];
    operand.element == Element::F32 && starts.iter().all(|e| e.is_multiple_of(WORD as u32))
}

/// Lanes of a workgroup and words of an invocation, for rows of up to so many words; longer rows take 256 lanes and the
/// full number.
const SMALL: [(usize, u32, u32); 2] = [(64, 32, 2), (512, 128, 4)];
const LANES: u32 = 256;

/// Channels cut into words, and these into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Words of a channel.
    pub words: usize,
    channels: usize,
    samples: usize,
    lanes: u32,
    steps: u32,
}

impl Words {
    /// The channels of `operands`, all of one shape, where words pay, all lie in them, and the variant `words` of `family` is
    /// forced. An invocation takes up to `steps` words.
    ///
    /// Never by rule, although it is the faster one: within its own bounds, it moves gradients of whole networks further from
    /// PyTorch's than their bound, in one weight of one fixture, and a step in parts from that in one piece.
    pub fn of(
        device: &DeviceProfile,
        family: &str,
        operands: &[&Operand],
        steps: u32,
    ) -> Option<Self> {
        let shape = operands.first()?.shape;
        let whole = shape.voxels().is_multiple_of(WORD);
        let is_wanted = device.forced(family) == Some("words");
        if !device.moves_words()
            || !is_wanted
            || !whole
            || !operands.iter().all(|o| starts_at_words(o))
        {
            return None;
        }
        let words = shape.voxels() / WORD;
        let small = SMALL.iter().find(|(most, ..)| words <= *most);
        let (lanes, steps) = small.map_or((LANES, steps), |&(_, lanes, steps)| (lanes, steps));
        Some(Self {
            words,
            channels: shape.c(),
            samples: shape.n(),
            lanes,
            steps,
        })
    }

    /// The specialisation: what [`specialisations`] lists.
    pub fn constants(&self) -> Constants {
        constants(self.lanes, self.steps)
    }

    fn blocks(&self) -> usize {
        self.words.div_ceil((self.lanes * self.steps) as usize)
    }

    /// The grid: x counts blocks of a channel, y channels, z samples.
    pub fn groups(&self) -> [u32; 3] {
        [self.blocks(), self.channels, self.samples].map(|e| e as u32)
    }

    /// Partial results of a channel, one from each invocation that has words to reduce.
    pub fn slots(&self) -> usize {
        (self.blocks() * self.lanes as usize).min(self.words)
    }
}

/// The specialisations of a kernel whose invocations take up to `steps` words.
pub fn specialisations(steps: u32) -> Vec<Constants> {
    let small = SMALL.map(|(_, lanes, steps)| constants(lanes, steps));
    [vec![constants(LANES, steps)], small.to_vec()].concat()
}

fn constants(lanes: u32, steps: u32) -> Constants {
    vec![("LANES", lanes), ("STEPS", steps)]
}
