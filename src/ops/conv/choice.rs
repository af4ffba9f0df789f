//! Which kernels compute a convolution, as data.

use super::{ConvAttributes, depthwise, gemm, lanes, weight_grad_lanes};
use crate::gpu::DeviceProfile;
use crate::ops::{Cost, OpError};
use crate::tensor::Shape;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// y from x and w.
    Forward,
    /// dx from dy and w; transposed convolution, forward.
    InputGrad,
    /// dw from x and dy.
    WeightGrad,
}

/// A set of kernels for one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Register tiles with lanes = output channels, for a CPU with subgroups of 8; the usual windows, without groups
    /// or dilation.
    Lanes,
    /// Strips of outputs along x, for groups of one input channel; any device.
    Depthwise,
    /// Implicit matrix products through workgroup memory, made for GPUs; any window, no groups.
    Gemm,
    /// One output per invocation; any window, any groups, any device.
    Naive,
}

/// The names of all variants, the most wanted first.
pub const VARIANTS: [&str; Variant::ALL.len()] = {
    let mut names = [""; Variant::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Variant::ALL[i].name();
        i += 1;
    }
    names
};

impl Variant {
    /// All variants, the most wanted first.
    const ALL: [Self; 4] = [Self::Lanes, Self::Depthwise, Self::Gemm, Self::Naive];

    /// Its name for [`DeviceProfile::forced`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lanes => "lanes",
            Self::Depthwise => "depthwise",
            Self::Gemm => "gemm",
            Self::Naive => "naive",
        }
    }

    /// Whether it can compute this direction of this convolution on this device.
    pub fn supports(self, direction: Direction, problem: &Problem, device: &DeviceProfile) -> bool {
        match self {
            Self::Lanes if direction == Direction::WeightGrad => {
                weight_grad_lanes::supports(problem, device)
            }
            Self::Lanes => lanes::supports(direction, problem, device),
            Self::Depthwise => depthwise::supports(direction, problem),
            Self::Gemm => gemm::supports(direction, problem, device),
            Self::Naive => true,
        }
    }

    /// Whether it is worth choosing there where nothing is forced.
    fn pays(self, direction: Direction, problem: &Problem) -> bool {
        match self {
            Self::Gemm => gemm::pays(direction, problem),
            Self::Lanes | Self::Depthwise | Self::Naive => true,
        }
    }
}

/// One convolution, from x to y, whichever of its directions is computed.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    /// The window.
    pub attributes: ConvAttributes,
    /// (N, C_in, D, H, W).
    pub x: Shape,
    /// (N, C_out, D', H', W').
    pub y: Shape,
}

impl Problem {
    /// Multiply-adds of one direction count as two operations; x, y and w are moved once.
    pub fn cost(&self) -> Cost {
        let per_output = self.attributes.taps() * (self.x.c() / self.attributes.groups);
        let weights = self.y.c() * per_output;
        Cost {
            flops: 2.0 * self.y.len() as f64 * per_output as f64,
            bytes: 4.0 * (self.x.len() + self.y.len() + weights) as f64,
        }
    }
}

/// The variant for one direction: the one forced for the family `conv` where it supports the problem, else the first of
/// `Variant::ALL` that does. A forced variant that lacks a direction leaves that direction to the rule, so that a whole
/// network can run under it.
///
/// # Errors
/// [`OpError::Attribute`] where no variant has the forced name.
pub fn choose(
    direction: Direction,
    problem: &Problem,
    device: &DeviceProfile,
    op: &'static str,
) -> Result<Variant, OpError> {
    let fits = |v: &Variant| v.supports(direction, problem, device);
    if let Some(name) = device.forced("conv") {
        let forced = Variant::ALL
            .into_iter()
            .find(|v| v.name() == name)
            .ok_or_else(|| OpError::Attribute {
                op,
                reason: format!(
                    "no variant of conv is called {name:?}; known: {}",
                    VARIANTS.join(", ")
                ),
            })?;
        if fits(&forced) {
            return Ok(forced);
        }
    }
    Ok(Variant::ALL
        .into_iter()
        .find(|v| fits(v) && v.pays(direction, problem))
        .unwrap_or(Variant::Naive))
}
