//! Attention on CPU adapters as matrix products: the kernels of pointwise convolutions, with queries, keys and values in
//! the place of weights.
//!
//! With the tokens of a head as voxels and its channels as channels, scores of all keys are what the gradient of a
//! pointwise convolution makes of the queries, the keys being its weight; the output is the convolution of the scores' softmax,
//! the values being its weight; and the gradients of keys and values are those of such weights. Rows of tokens are filled up
//! with zeros to whole words, so that odd numbers of tokens cost no more than others. The matrix of scores lies in scratch
//! space, some heads at a time.

use super::{Extents, Parts};
use crate::gpu::{Access, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel};
use crate::ops::conv::{
    ConvAttributes, ConvForward, ConvInputGrad, ConvWeightGrad, cut_rows, fill_rows,
};
use crate::ops::words::WORD;
use crate::ops::{Lowering, OpError, Operand};
use crate::param_block;
use crate::tensor::Shape;

param_block!(SoftmaxParams {
    s_offset: u32,
    lse_offset: u32,
    tokens: u32,
    row: u32,
    scale: f32,
});

static SOFTMAX: Kernel = shipped_kernel! {
    name: "attention/softmax",
    params: SoftmaxParams::FIELDS,
    access: &[Access::Write, Access::Write],
};

param_block!(GradParams {
    s_offset: u32,
    dp_offset: u32,
    lse_offset: u32,
    inner_offset: u32,
    tokens: u32,
    row: u32,
    scale: f32,
});

static SOFTMAX_GRAD: Kernel = shipped_kernel! {
    name: "attention/softmax_grad",
    params: GradParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write, Access::Write],
};

/// Bytes of the scores of all heads that are there at once, unless one head alone has more, and the most that one may have.
const SCORE_BYTES: usize = 16 << 20;
const MOST_BYTES: usize = 64 << 20;

const POINT: ConvAttributes = ConvAttributes::new([1; 3]);

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&SOFTMAX, vec![vec![]]), (&SOFTMAX_GRAD, vec![vec![]])]
}

/// Whether the scores of a head fit into scratch space.
pub(super) fn supports(device: &DeviceProfile, extents: Extents) -> bool {
    let bytes = 4 * scores(extents, 1).len();
    bytes <= MOST_BYTES && bytes as u64 <= device.binding_limit()
}

/// Tokens of a row.
fn pitch(extents: Extents) -> usize {
    extents.tokens.next_multiple_of(WORD)
}

/// Rows of tokens of so many channels.
fn rows(extents: Extents, channels: usize) -> Shape {
    Shape::new(1, channels, 1, 1, pitch(extents))
}

/// The scores of so many heads: for each key a row of queries.
fn scores(extents: Extents, heads: usize) -> Shape {
    rows(extents, heads * extents.tokens)
}

fn heads_at_once(extents: Extents) -> usize {
    (SCORE_BYTES / (4 * scores(extents, 1).len())).clamp(1, extents.heads)
}

/// `rows` of a head, keys or values, as the weight of a pointwise convolution from tokens to channels.
fn as_weight(rows: &Operand, extents: Extents) -> Operand {
    Operand {
        shape: Shape::new(extents.head, extents.tokens, 1, 1, 1),
        batch_stride: rows.shape.voxels() as u32,
        ..*rows
    }
}

/// Sample `n` of `operand` as rows of tokens.
fn sample(operand: &Operand, n: usize, extents: Extents) -> Operand {
    let sample = operand.samples(n..n + 1);
    Operand {
        shape: Shape::new(1, operand.shape.c(), 1, 1, extents.tokens),
        ..sample
    }
}

/// One head of rows of all.
fn head(rows: &Operand, h: usize, extents: Extents) -> Operand {
    rows.channels(h * extents.head..(h + 1) * extents.head)
}

/// Appends products; their scratch space follows that of the node.
struct Products<'a, 'b> {
    to: &'a mut Lowering<'b>,
    kept: usize,
    extents: Extents,
}

impl Products<'_, '_> {
    /// target[j, i] = sum over c of keys[c, j] queries[c, i].
    fn scores(&mut self, [keys, queries, target]: [&Operand; 3]) -> Result<(), OpError> {
        let op = ConvInputGrad {
            attributes: POINT,
            input_size: target.shape.spatial(),
        };
        let inputs = [*queries, as_weight(keys, self.extents)];
        self.to.append(self.kept, &op, &inputs, *target)
    }

    /// target[c, i] = sum over j of values[c, j] weights[j, i].
    fn weighted(&mut self, [values, weights, target]: [&Operand; 3]) -> Result<(), OpError> {
        let op = ConvForward { attributes: POINT };
        let inputs = [*weights, as_weight(values, self.extents)];
        self.to.append(self.kept, &op, &inputs, *target)
    }

    /// target[c, j] = sum over i of given[c, i] weights[j, i].
    fn transposed(&mut self, [given, weights, target]: [&Operand; 3]) -> Result<(), OpError> {
        let op = ConvWeightGrad { attributes: POINT };
        let target = as_weight(target, self.extents);
        self.to.append(self.kept, &op, &[*weights, *given], target)
    }
}

/// Appends the attention of all heads.
///
/// # Errors
/// Those of the products.
pub(super) fn attend(
    to: &mut Lowering<'_>,
    parts: &Parts,
    [y, lse]: [&Operand; 2],
    extents: Extents,
) -> Result<(), OpError> {
    let all = rows(extents, extents.channels());
    let at_once = heads_at_once(extents);
    let [q, k, v, sums] = [(); 4].map(|()| to.scratch(all));
    let space = to.scratch(scores(extents, at_once));
    let kept = to.scratch.len();
    for n in 0..extents.samples {
        for (from, rows) in [(&parts.q, &q), (&parts.k, &k), (&parts.v, &v)] {
            fill_rows(to, &sample(from, n, extents), rows);
        }
        for first in (0..extents.heads).step_by(at_once) {
            let heads = first..extents.heads.min(first + at_once);
            let weights = |h: usize| {
                let at = (h - first) * extents.tokens;
                space.channels(at..at + extents.tokens)
            };
            let mut products = Products { to, kept, extents };
            for h in heads.clone() {
                let [q, k] = [&q, &k].map(|rows| head(rows, h, extents));
                products.scores([&k, &q, &weights(h)])?;
            }
            let lse = lse.samples(n..n + 1).channels(heads.clone());
            let params = SoftmaxParams {
                s_offset: space.offset / 4,
                lse_offset: lse.offset,
                tokens: extents.tokens as u32,
                row: (pitch(extents) / 4) as u32,
                scale: extents.scale(),
            };
            let groups = groups(extents, heads.len());
            products
                .to
                .dispatch(&SOFTMAX, vec![], &params, &[&space, &lse], groups);
            for h in heads {
                let [v, sums] = [&v, &sums].map(|rows| head(rows, h, extents));
                products.weighted([&v, &weights(h), &sums])?;
            }
        }
        cut_rows(to, &sums, &sample(y, n, extents));
    }
    Ok(())
}

/// The grid of one invocation for each four queries of so many heads.
fn groups(extents: Extents, heads: usize) -> [u32; 3] {
    Extents {
        heads,
        ..extents.single()
    }
    .groups(pitch(extents) / 4)
}

/// What the gradients are made of; inner as `shaders/attention/inner.wgsl` makes it.
pub(super) struct Given<'a> {
    pub parts: &'a Parts,
    pub dy: &'a Operand,
    pub lse: &'a Operand,
    pub inner: &'a Operand,
}

/// Appends the gradients of queries, keys and values; `targets` hold f32.
///
/// # Errors
/// Those of the products.
pub(super) fn gradients(
    to: &mut Lowering<'_>,
    given: &Given<'_>,
    targets: &Parts,
    extents: Extents,
) -> Result<(), OpError> {
    let all = rows(extents, extents.channels());
    let at_once = heads_at_once(extents);
    let [q, k, v, dy, sums] = [(); 5].map(|()| to.scratch(all));
    let [s, dp] = [(); 2].map(|()| to.scratch(scores(extents, at_once)));
    let kept = to.scratch.len();
    let parts = given.parts;
    for n in 0..extents.samples {
        for (from, rows) in [
            (&parts.q, &q),
            (&parts.k, &k),
            (&parts.v, &v),
            (given.dy, &dy),
        ] {
            fill_rows(to, &sample(from, n, extents), rows);
        }
        let [dk, dv] = [&targets.k, &targets.v].map(|o| sample(o, n, extents));
        for first in (0..extents.heads).step_by(at_once) {
            let heads = first..extents.heads.min(first + at_once);
            let matrices = |h: usize| {
                let at = (h - first) * extents.tokens;
                [&s, &dp].map(|space| space.channels(at..at + extents.tokens))
            };
            let mut products = Products { to, kept, extents };
            for h in heads.clone() {
                let [q, k, v, dy] = [&q, &k, &v, &dy].map(|rows| head(rows, h, extents));
                let [s, dp] = matrices(h);
                products.scores([&k, &q, &s])?;
                products.scores([&v, &dy, &dp])?;
            }
            let of_heads = |o: &Operand| o.samples(n..n + 1).channels(heads.clone());
            let [lse, inner] = [given.lse, given.inner].map(of_heads);
            let params = GradParams {
                s_offset: s.offset / 4,
                dp_offset: dp.offset / 4,
                lse_offset: lse.offset,
                inner_offset: inner.offset,
                tokens: extents.tokens as u32,
                row: (pitch(extents) / 4) as u32,
                scale: extents.scale(),
            };
            let operands = [&lse, &inner, &s, &dp];
            let groups = groups(extents, heads.len());
            products
                .to
                .dispatch(&SOFTMAX_GRAD, vec![], &params, &operands, groups);
            for h in heads {
                let [q, k, dy, sums] = [&q, &k, &dy, &sums].map(|rows| head(rows, h, extents));
                let [dk, dv] = [&dk, &dv].map(|rows| head(rows, h, extents));
                let [p, ds] = matrices(h);
                products.weighted([&k, &ds, &sums])?;
                products.transposed([&q, &ds, &dk])?;
                products.transposed([&dy, &p, &dv])?;
            }
        }
        cut_rows(to, &sums, &sample(&targets.q, n, extents));
    }
    Ok(())
}
