//! How kernels over voxels cut tensors into packs and blocks.

use crate::gpu::Constants;
use crate::ops::words::WORD;
use crate::ops::{Operand, grid, pack_width};
use crate::tensor::Shape;

/// Packs that an invocation of a map writes, one after the other: enough that the loads of its channel's numbers do
/// not count. Instance norm with leaky ReLU, 32 channels at 64^3, forward and backward on lavapipe, CPU time: 114 ms with
/// (MAP, SUM) = (8, 16) and (4, 16), 118 ms with (8, 8), 242 ms with (16, 32).
pub const MAP_STEPS: u32 = 8;
/// Packs that an invocation of a reduction reads.
pub const SUM_STEPS: u32 = 16;

/// Lanes of a workgroup and packs of an invocation, for rows of up to so many packs; longer rows take 256 lanes and the
/// full number. A CPU device runs idle lanes and steps as well: they were most of the time of the deep, small layers.
const SMALL: [(usize, u32, u32); 2] = [(128, 32, 4), (1024, 256, 4)];
/// The same where a pack is a word.
const SMALL_WORDS: [(usize, u32, u32); 2] = [(64, 32, 2), (512, 128, 4)];
const LANES: u32 = 256;

/// The specialisations of a kernel whose invocations take up to `steps` packs of 1 or 4 voxels.
pub fn specialisations(steps: u32) -> Vec<Constants> {
    let of = |width| specialisations_of(width, &SMALL, steps);
    [of(1), of(4)].concat()
}

/// The specialisations of a kernel whose invocations take up to `steps` words.
pub fn word_specialisations(steps: u32) -> Vec<Constants> {
    specialisations_of(WORD as u32, &SMALL_WORDS, steps)
}

fn specialisations_of(width: u32, small: &[(usize, u32, u32)], steps: u32) -> Vec<Constants> {
    let small = small.iter().map(|&(_, lanes, steps)| (lanes, steps));
    let sizes = std::iter::once((LANES, steps)).chain(small);
    sizes
        .map(|(lanes, steps)| constants(width, lanes, steps))
        .collect()
}

/// A kernel for words has no other width.
fn constants(width: u32, lanes: u32, steps: u32) -> Constants {
    let mut constants = vec![("LANES", lanes), ("STEPS", steps)];
    if width as usize != WORD {
        constants.push(("Pack", width));
    }
    constants
}

/// Rows (channels, or whole samples) cut into packs of 1, 4 or 8 voxels, and these into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    /// Voxels of a pack.
    pub width: u32,
    /// Packs of a row.
    pub packs: usize,
    samples: usize,
    /// Of a sample, where each is a row; `None` where the sample is.
    channels: Option<usize>,
    lanes: u32,
    steps: u32,
}

impl Tiling {
    /// One row for each channel of each sample of `operands`, all of one shape.
    /// An invocation takes up to `steps` packs.
    pub fn channels(operands: &[&Operand], steps: u32) -> Self {
        let shape = shape_of(operands);
        let row = (shape.voxels(), Some(shape.c()));
        Self::new(pack_width(operands), &SMALL, steps, shape, row)
    }

    /// The same in packs of a word of eight voxels, which the operands must be made of.
    pub fn channels_in_words(operands: &[&Operand], steps: u32) -> Self {
        let shape = shape_of(operands);
        let row = (shape.voxels(), Some(shape.c()));
        Self::new(WORD as u32, &SMALL_WORDS, steps, shape, row)
    }

    /// One row for each sample of `operands`, all of one shape.
    /// An invocation takes up to `steps` packs.
    pub fn samples(operands: &[&Operand], steps: u32) -> Self {
        let shape = shape_of(operands);
        let row = (shape.per_sample(), None);
        Self::new(pack_width(operands), &SMALL, steps, shape, row)
    }

    fn new(
        width: u32,
        small: &[(usize, u32, u32)],
        steps: u32,
        shape: Shape,
        (row, channels): (usize, Option<usize>),
    ) -> Self {
        let packs = row / width as usize;
        let small = small.iter().find(|(most, ..)| packs <= *most);
        let (lanes, steps) = small.map_or((LANES, steps), |&(_, lanes, steps)| (lanes, steps));
        Self {
            width,
            packs,
            samples: shape.n(),
            channels,
            lanes,
            steps,
        }
    }

    /// The specialisation: what [`specialisations`] or [`word_specialisations`] lists.
    pub fn constants(&self) -> Constants {
        constants(self.width, self.lanes, self.steps)
    }

    /// An offset or a stride in packs.
    pub fn packs_of(&self, elements: u32) -> u32 {
        elements / self.width
    }

    /// Numbers of a partial result: one for each voxel of a pack, or four.
    pub fn partial_width(&self) -> u32 {
        self.width.min(4)
    }

    fn blocks(&self) -> usize {
        self.packs.div_ceil((self.lanes * self.steps) as usize)
    }

    /// The grid: of channels, x counts blocks of a row, y channels and z samples, each below the limit of an axis for
    /// whatever fits a buffer; of whole samples, (x, y) count blocks and z samples.
    pub fn groups(&self) -> [u32; 3] {
        let samples = self.samples as u32;
        match self.channels {
            Some(channels) => [self.blocks() as u32, channels as u32, samples],
            None => {
                let [x, y, _] = grid(self.blocks());
                [x, y, samples]
            }
        }
    }

    /// Partial results of a row, one from each invocation that has packs to reduce.
    pub fn slots(&self) -> usize {
        (self.blocks() * self.lanes as usize).min(self.packs)
    }
}

fn shape_of(operands: &[&Operand]) -> Shape {
    operands.first().map_or(Shape::scalar(), |o| o.shape)
}
