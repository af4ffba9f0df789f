//! Multi-head self-attention of tokens, on GPUs without the matrix of their weights in memory.
//!
//! Tokens are the voxels of a feature map and features its channels: queries, keys and values are channels side by side, and a
//! head is some neighbouring channels of each.

mod backward;
mod forward;
mod products;

pub use backward::SelfAttentionBackward;
pub use forward::{SelfAttention, self_attention};

use crate::gpu::{AdapterClass, Constants, DeviceProfile, Kernel};
use crate::ops::layout::copy;
use crate::ops::{Lowering, OpError, Operand};
use crate::tensor::{Element, Shape};

/// The names of the variants: the first is for CPU adapters, where workgroup memory costs as much as storage, the second for
/// GPUs.
pub const VARIANTS: [&str; 3] = [PRODUCTS, WITH_TILES, NAIVE];
const PRODUCTS: &str = "products";
const WITH_TILES: &str = "tiled";
const NAIVE: &str = "naive";

/// Tokens, or packs of them, of a workgroup.
const ROWS: usize = 64;

fn is_tiled(device: &DeviceProfile) -> bool {
    match device.forced("attention") {
        Some(variant) => variant == WITH_TILES,
        None => device.class == AdapterClass::Gpu,
    }
}

fn is_of_products(device: &DeviceProfile, extents: Extents) -> bool {
    let is_wanted = match device.forced("attention") {
        Some(variant) => variant == PRODUCTS,
        None => device.class == AdapterClass::CpuLike,
    };
    is_wanted && products::supports(device, extents)
}

/// The extents of attention.
#[derive(Clone, Copy)]
struct Extents {
    samples: usize,
    heads: usize,
    /// Channels of a head.
    head: usize,
    tokens: usize,
}

impl Extents {
    /// Of queries, keys and values side by side.
    ///
    /// # Errors
    /// [`OpError::Shape`] where the channels are not three times whole heads.
    fn of(op: &'static str, qkv: Shape, heads: usize) -> Result<Self, OpError> {
        if heads == 0 || !qkv.c().is_multiple_of(3 * heads) || qkv.is_empty() {
            return Err(OpError::Shape {
                op,
                what: "the input",
                expected: format!("of channels in three parts of {heads} heads"),
                found: qkv,
            });
        }
        Ok(Self {
            samples: qkv.n(),
            heads,
            head: qkv.c() / (3 * heads),
            tokens: qkv.voxels(),
        })
    }

    /// Channels of all heads.
    fn channels(self) -> usize {
        self.heads * self.head
    }

    /// What scores are multiplied by: 1 / sqrt(channels of a head).
    fn scale(self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// One head of one sample.
    fn single(self) -> Self {
        Self {
            samples: 1,
            heads: 1,
            ..self
        }
    }

    /// The grid of one invocation for each of so many packs of tokens.
    fn groups(self, packs: usize) -> [u32; 3] {
        [packs.div_ceil(ROWS), self.heads, self.samples].map(|n| n as u32)
    }

    /// Multiply-adds of `products` products of tokens by tokens, as operations.
    fn flops(self, products: f64) -> f64 {
        let pairs = (self.tokens as f64).powi(2) * (self.samples * self.channels()) as f64;
        2.0 * products * pairs
    }
}

/// Queries, keys and values.
#[derive(Clone, Copy)]
struct Parts {
    q: Operand,
    k: Operand,
    v: Operand,
}

impl Parts {
    fn of(qkv: &Operand, extents: Extents) -> Self {
        let all = extents.channels();
        let [q, k, v] = [0, 1, 2].map(|i| qkv.channels(i * all..(i + 1) * all));
        Self { q, k, v }
    }

    /// Those of one head of one sample.
    fn single(&self, n: usize, head: usize, extents: Extents) -> Self {
        let [q, k, v] =
            [self.q, self.k, self.v].map(|o| single(&o, n, head * extents.head, extents));
        Self { q, k, v }
    }
}

/// The channels of one head, from `first` on, of one sample.
fn single(operand: &Operand, n: usize, first: usize, extents: Extents) -> Operand {
    operand
        .samples(n..n + 1)
        .channels(first..first + extents.head)
}

/// The row of one head of one sample of (N, heads, D, H, W).
fn row(operand: &Operand, n: usize, head: usize) -> Operand {
    operand.samples(n..n + 1).channels(head..head + 1)
}

/// Lets `lower` add up in f32: `target` itself, or scratch space that is then copied there.
fn in_f32(
    to: &mut Lowering<'_>,
    target: &Operand,
    lower: impl FnOnce(&mut Lowering<'_>, &Operand) -> Result<(), OpError>,
) -> Result<(), OpError> {
    if target.element == Element::F32 {
        return lower(to, target);
    }
    let sums = to.scratch(target.shape);
    lower(to, &sums)?;
    copy(to, &sums, target, 0);
    Ok(())
}

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [forward::kernels(), backward::kernels(), products::kernels()].concat()
}

fn widths() -> Vec<Constants> {
    [1, 4].map(|width| vec![("Pack", width)]).to_vec()
}
