//! Which kernels compute a convolution, as data.

use super::{ConvAttributes, depthwise, depthwise_strips, gemm, lattices, patches, winograd};
use crate::gpu::DeviceProfile;
use crate::ops::{Candidates, Cost, OpError, Operand};
use crate::tensor::{Element, Shape};

/// Work up to which the naive kernel is measured beside the others: a millisecond for the smallest GPU, a
/// fifth of a second for a CPU.
const NAIVE_FLOPS: f64 = 1e8;

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

/// What those kernels of a direction work by that have plans of their own in each, where they can compute it.
#[derive(Clone, Copy, Debug)]
pub struct Plans<L, C> {
    /// That of [`Variant::Lanes`].
    pub lanes: Option<L>,
    /// That of [`Variant::Coop`].
    pub coop: Option<C>,
}

/// A set of kernels for one direction, with the plans of [`Plans`].
#[derive(Clone, Copy, Debug)]
pub enum Variant<L, C> {
    /// Windows that tile the image as one matrix product, for a CPU with subgroups of 8 and u64.
    Patches,
    /// Register tiles with lanes = output channels, for a CPU with subgroups of 8; the usual windows, without groups
    /// or dilation.
    Lanes(L),
    /// Tiles of rows walked along x in registers, for groups of one input channel on a CPU; the usual windows.
    Strips(&'static depthwise_strips::Tiling),
    /// One of those above on the lattices of an image by its stride or dilation, for a CPU with subgroups of 8.
    Lattices(lattices::Plan),
    /// Strips of outputs along x, for groups of one input channel; any device.
    Depthwise,
    /// Products of cooperative matrices, for GPUs that have them; no groups.
    Coop(C),
    /// Winograd's F(2, 3) along each axis with three taps, made for GPUs; stride 1, forward and input gradient.
    Winograd(winograd::Plan),
    /// Implicit matrix products through workgroup memory, made for GPUs; any window, no groups.
    Gemm,
    /// One output per invocation; any window, any groups, any device.
    Naive,
}

/// The names of all variants, the most wanted first.
pub const VARIANTS: [&str; 9] = [
    "patches",
    "lanes",
    "strips",
    "lattices",
    "depthwise",
    "coop",
    "winograd",
    "gemm",
    NAIVE,
];

const NAIVE: &str = "naive";

impl<L, C> Variant<L, C> {
    /// Its name, one of [`VARIANTS`].
    const fn name(&self) -> &'static str {
        match self {
            Self::Patches => VARIANTS[0],
            Self::Lanes(_) => VARIANTS[1],
            Self::Strips(_) => VARIANTS[2],
            Self::Lattices(_) => VARIANTS[3],
            Self::Depthwise => VARIANTS[4],
            Self::Coop(_) => VARIANTS[5],
            Self::Winograd(_) => VARIANTS[6],
            Self::Gemm => VARIANTS[7],
            Self::Naive => NAIVE,
        }
    }

    /// Whether it is worth choosing there where nothing is forced.
    fn pays(&self, direction: Direction, problem: &Problem, device: &DeviceProfile) -> bool {
        match self {
            // By measurement alone (`--tune`), until it has been timed on a GPU.
            Self::Coop(_) => false,
            Self::Winograd(plan) => plan.pays(device),
            Self::Gemm => gemm::pays(direction, problem),
            Self::Patches
            | Self::Lanes(_)
            | Self::Strips(_)
            | Self::Lattices(_)
            | Self::Depthwise
            | Self::Naive => true,
        }
    }
}

/// One convolution, from x to y, whichever of its directions is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem {
    /// The window.
    pub attributes: ConvAttributes,
    /// (N, C_in, D, H, W).
    pub x: Shape,
    /// (N, C_out, D', H', W').
    pub y: Shape,
    /// How x and y are stored, where both are stored alike.
    pub stored: Option<Element>,
}

impl Problem {
    /// The problem as its operands x and y are stored.
    pub fn stored_as(self, operands: [&Operand; 2]) -> Self {
        self.stored_alike(operands.map(|o| o.element))
    }

    /// The problem with x and y stored as these.
    pub fn stored_alike(mut self, [x, y]: [Element; 2]) -> Self {
        self.stored = (x == y).then_some(x);
        self
    }

    /// The name under which a measured choice is kept.
    pub fn key(&self, direction: Direction) -> String {
        let a = &self.attributes;
        let by = |e: [usize; 3]| e.map(|n| n.to_string()).join("x");
        let direction = match direction {
            Direction::Forward => "forward",
            Direction::InputGrad => "input_grad",
            Direction::WeightGrad => "weight_grad",
        };
        let stored = match self.stored {
            Some(Element::F16) => " in f16",
            Some(Element::F32) | None => "",
        };
        format!(
            "conv.{direction} {} stride {} padding {} dilation {} groups {} from {} to {}{stored}",
            by(a.kernel),
            by(a.stride),
            by(a.padding),
            by(a.dilation),
            a.groups,
            self.x,
            self.y
        )
    }

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

/// The variants that can compute it, in the order of [`Variant`].
fn able<L, C>(
    direction: Direction,
    problem: &Problem,
    device: &DeviceProfile,
    plans: Plans<L, C>,
) -> Vec<Variant<L, C>> {
    let able = [
        patches::supports(direction, problem, device).then_some(Variant::Patches),
        plans.lanes.map(Variant::Lanes),
        depthwise_strips::Tiling::of(direction, problem, device).map(Variant::Strips),
        lattices::Plan::new(direction, problem, device).map(Variant::Lattices),
        depthwise::supports(direction, problem).then_some(Variant::Depthwise),
        plans.coop.map(Variant::Coop),
        winograd::Plan::new(direction, problem, device).map(Variant::Winograd),
        gemm::supports(direction, problem, device).then_some(Variant::Gemm),
        Some(Variant::Naive),
    ];
    able.into_iter().flatten().collect()
}

/// What measuring may choose from: the variant chosen by rule first. The naive kernel is among them for small work only;
/// elsewhere it is known to lose, and to take seconds over it.
pub fn candidates<L, C>(
    direction: Direction,
    problem: &Problem,
    device: &DeviceProfile,
    plans: Plans<L, C>,
) -> Option<Candidates> {
    let able = able(direction, problem, device, plans);
    let rule = able
        .iter()
        .position(|v| v.pays(direction, problem, device))?;
    let is_worth_it = |v: &&Variant<L, C>| v.name() != NAIVE || problem.cost().flops < NAIVE_FLOPS;
    let (before, after) = (&able[..rule], &able[rule + 1..]);
    let others = before.iter().chain(after).filter(is_worth_it);
    let variants: Vec<&'static str> = std::iter::once(&able[rule])
        .chain(others)
        .map(Variant::name)
        .collect();
    (variants.len() > 1).then(|| Candidates {
        family: "conv",
        problem: problem.key(direction),
        variants,
    })
}

/// The variant that [`choose`] takes for `whole`, for a part of its computation: some planes or some channels, whose sums are then
/// added in the same order. `plans` makes the plans of that direction.
///
/// # Errors
/// [`OpError::Attribute`] as [`choose`], and where that variant cannot compute the part.
pub fn choose_alike<L, C>(
    direction: Direction,
    [whole, part]: [&Problem; 2],
    device: &DeviceProfile,
    op: &'static str,
    plans: impl Fn(&Problem) -> Plans<L, C>,
) -> Result<Variant<L, C>, OpError> {
    let name = choose(direction, whole, device, op, plans(whole))?.name();
    let able = able(direction, part, device, plans(part));
    // Lattices of a part are not parts of lattices.
    let mut able = able
        .into_iter()
        .filter(|v| !matches!(v, Variant::Lattices(_)));
    let found = able.find(|v| v.name() == name);
    found.ok_or_else(|| OpError::Attribute {
        op,
        reason: format!("the kernels {name:?} that compute the whole cannot compute this part"),
    })
}

/// The variant for one direction: the one forced for the family `conv` where it supports the problem, else the one that
/// was measured to be the fastest, else the first in the order of [`Variant`] that supports it and pays. A forced variant
/// that lacks a direction leaves that direction to the rule, so that a whole network can run under it.
///
/// # Errors
/// [`OpError::Attribute`] where no variant has the forced name.
pub fn choose<L, C>(
    direction: Direction,
    problem: &Problem,
    device: &DeviceProfile,
    op: &'static str,
    plans: Plans<L, C>,
) -> Result<Variant<L, C>, OpError> {
    let forced = device.forced("conv");
    if let Some(name) = forced.filter(|name| !VARIANTS.contains(name)) {
        return Err(OpError::Attribute {
            op,
            reason: format!(
                "no variant of conv is called {name:?}; known: {}",
                VARIANTS.join(", ")
            ),
        });
    }
    let mut able = able(direction, problem, device, plans);
    let key = problem.key(direction);
    let wanted = [forced, device.measured(&key)];
    let mut found = wanted
        .into_iter()
        .flatten()
        .filter_map(|name| able.iter().position(|v| v.name() == name));
    Ok(match found.next() {
        Some(index) => able.swap_remove(index),
        None => able
            .into_iter()
            .find(|v| v.pays(direction, problem, device))
            .unwrap_or(Variant::Naive),
    })
}
