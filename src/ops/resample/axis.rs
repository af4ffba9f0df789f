//! Where an output voxel lies in the input, along one axis, in whole numbers.

use crate::ops::OpError;
use crate::tensor::Shape;

/// How a voxel of the output is made from voxels of the input. `in` and `out` are extents along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Between the 2 (linear), 4 (bilinear) or 8 (trilinear) nearest voxels.
    Linear {
        /// Whether the centres of the corner voxels coincide: o stands at o (in - 1) / (out - 1). Otherwise the
        /// borders of the image do: o stands at (o + 1/2) in / out - 1/2, at least 0.
        align_corners: bool,
    },
    /// Voxel floor(o in / out), PyTorch's `nearest`.
    Nearest,
    /// Voxel floor((o + 1/2) in / out), PyTorch's `nearest-exact`.
    NearestExact,
}

/// Output voxel o of an axis stands at max(0, o * mul + add) / den of the input.
///
/// Whole numbers, because a position that f32 rounds to the other side of a voxel takes a wrong neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub mul: u32,
    pub add: i32,
    pub den: u32,
}

/// Extents up to this keep 2 in out below 2^31.
const MAX_EXTENT: usize = 32_767;

impl Axis {
    fn new(mode: Mode, input: usize, output: usize) -> Self {
        let (i, o) = (input as u32, output as u32);
        match mode {
            Mode::Linear {
                align_corners: true,
            } => Self {
                mul: i - 1,
                add: 0,
                den: (o - 1).max(1),
            },
            Mode::Linear {
                align_corners: false,
            } => Self {
                mul: 2 * i,
                add: i as i32 - o as i32,
                den: 2 * o,
            },
            Mode::Nearest => Self {
                mul: i,
                add: 0,
                den: o,
            },
            Mode::NearestExact => Self {
                mul: 2 * i,
                add: i as i32,
                den: 2 * o,
            },
        }
    }

    /// The axes (D, H, W) from `input` to `output`.
    pub(super) fn all(mode: Mode, input: Shape, output: Shape) -> [Self; 3] {
        let (i, o) = (input.spatial(), output.spatial());
        [0, 1, 2].map(|a| Self::new(mode, i[a], o[a]))
    }
}

/// Checks that x can be resampled to `size` (D, H, W) and gives the shape of the result.
pub(super) fn output(op: &'static str, x: Shape, size: [usize; 3]) -> Result<Shape, OpError> {
    let allowed = 1..=MAX_EXTENT;
    if !size.iter().all(|s| allowed.contains(s)) {
        return Err(OpError::Attribute {
            op,
            reason: format!("size {size:?} (D, H, W); each must be 1 to {MAX_EXTENT}"),
        });
    }
    if x.is_empty() || !x.spatial().iter().all(|s| allowed.contains(s)) {
        return Err(OpError::Shape {
            op,
            what: "the input",
            expected: format!("of 1 to {MAX_EXTENT} voxels along each axis"),
            found: x,
        });
    }
    Ok(x.with_spatial(size))
}
