//! The gradient of attention.

use super::{Extents, Parts, in_f32, is_of_products, is_tiled, products, row, single, widths};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::layout::copy;
use crate::ops::{Cost, Lowering, OpError, Operand, Operator, expect_shape, pack_width, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(InnerParams {
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    inner_offset: u32,
    inner_batch: u32,
    packs: u32,
    head: u32,
});

static INNER: Kernel = shipped_kernel! {
    name: "attention/inner",
    params: InnerParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(QueryParams {
    q_offset: u32,
    q_batch: u32,
    k_offset: u32,
    k_batch: u32,
    v_offset: u32,
    v_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    lse_offset: u32,
    lse_batch: u32,
    inner_offset: u32,
    inner_batch: u32,
    dq_offset: u32,
    dq_batch: u32,
    packs: u32,
    tokens: u32,
    head: u32,
    scale: f32,
});

param_block!(KeyParams {
    q_offset: u32,
    q_batch: u32,
    k_offset: u32,
    k_batch: u32,
    v_offset: u32,
    v_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    lse_offset: u32,
    lse_batch: u32,
    inner_offset: u32,
    inner_batch: u32,
    dk_offset: u32,
    dv_offset: u32,
    dkv_batch: u32,
    packs: u32,
    tokens: u32,
    head: u32,
    scale: f32,
});

const ACCESS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
];

static QUERY: Kernel = shipped_kernel! {
    name: "attention/query_grad",
    params: QueryParams::FIELDS,
    access: ACCESS,
};

static KEY: Kernel = shipped_kernel! {
    name: "attention/key_grad",
    params: KeyParams::FIELDS,
    access: ACCESS,
};

static TILED_QUERY: Kernel = shipped_kernel! {
    name: "attention/tiled_query_grad",
    params: QueryParams::FIELDS,
    access: ACCESS,
};

static TILED_KEY: Kernel = shipped_kernel! {
    name: "attention/tiled_key_grad",
    params: KeyParams::FIELDS,
    access: ACCESS,
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![
        (&INNER, widths()),
        (&QUERY, widths()),
        (&KEY, widths()),
        (&TILED_QUERY, vec![vec![]]),
        (&TILED_KEY, vec![vec![]]),
    ]
}

/// The gradient of [`super::SelfAttention`]: inputs its input (N, 3 E, D, H, W) and both its outputs, and dy (N, E, D, H, W);
/// output the gradient of its input. Scores are computed again, first for the queries, then for keys and values, so
/// that each element has one writer.
#[derive(Clone, Debug)]
pub struct SelfAttentionBackward {
    /// Number of heads.
    pub heads: usize,
}

const OP: &str = "attention.backward";

/// What the gradients are made of.
struct Given {
    parts: Parts,
    y: Operand,
    dy: Operand,
    lse: Operand,
    extents: Extents,
}

impl Given {
    /// Of one head of one sample.
    fn single(&self, n: usize, head: usize) -> Self {
        let (extents, first) = (self.extents, head * self.extents.head);
        Self {
            parts: self.parts.single(n, head, extents),
            y: single(&self.y, n, first, extents),
            dy: single(&self.dy, n, first, extents),
            lse: row(&self.lse, n, head),
            extents: extents.single(),
        }
    }

    /// Voxels of a pack and packs of a channel for a kernel that moves `operands` in packs.
    fn packs(&self, is_scalar: bool, operands: &[&Operand]) -> (u32, usize) {
        let width = if is_scalar { 1 } else { pack_width(operands) };
        (width, self.extents.tokens / width as usize)
    }

    /// sum of dy * y over the channels of each head, (N, heads, D, H, W).
    fn inner(&self, to: &mut Lowering<'_>) -> Operand {
        let inner = to.scratch(self.lse.shape);
        let (y, dy) = (&self.y, &self.dy);
        let (width, packs) = self.packs(false, &[y, dy, &inner]);
        let params = InnerParams {
            y_offset: y.offset / width,
            y_batch: y.batch_stride / width,
            dy_offset: dy.offset / width,
            dy_batch: dy.batch_stride / width,
            inner_offset: inner.offset / width,
            inner_batch: inner.batch_stride / width,
            packs: packs as u32,
            head: self.extents.head as u32,
        };
        let groups = self.extents.groups(packs);
        let constants = vec![("Pack", width)];
        to.dispatch(&INNER, constants, &params, &[y, dy, &inner], groups);
        inner
    }

    /// `targets` hold f32 and lie side by side.
    fn gradients(
        &self,
        to: &mut Lowering<'_>,
        inner: &Operand,
        targets: &Parts,
    ) -> Result<(), OpError> {
        let Self {
            parts,
            dy,
            lse,
            extents,
            ..
        } = self;
        if is_of_products(to.device, *extents) {
            let given = products::Given {
                parts,
                dy,
                lse,
                inner,
            };
            return products::gradients(to, &given, targets, *extents);
        }
        self.query_grad(to, inner, &targets.q);
        self.key_grad(to, inner, targets);
        Ok(())
    }

    fn query_grad(&self, to: &mut Lowering<'_>, inner: &Operand, dq: &Operand) {
        let Parts { q, k, v } = &self.parts;
        let (dy, lse) = (&self.dy, &self.lse);
        let tiled = is_tiled(to.device);
        let (width, packs) = self.packs(tiled, &[q, dy, lse, inner, dq]);
        let params = QueryParams {
            q_offset: q.offset / width,
            q_batch: q.batch_stride / width,
            k_offset: k.offset,
            k_batch: k.batch_stride,
            v_offset: v.offset,
            v_batch: v.batch_stride,
            dy_offset: dy.offset / width,
            dy_batch: dy.batch_stride / width,
            lse_offset: lse.offset / width,
            lse_batch: lse.batch_stride / width,
            inner_offset: inner.offset / width,
            inner_batch: inner.batch_stride / width,
            dq_offset: dq.offset / width,
            dq_batch: dq.batch_stride / width,
            packs: packs as u32,
            tokens: self.extents.tokens as u32,
            head: self.extents.head as u32,
            scale: self.extents.scale(),
        };
        let (kernel, constants) = match tiled {
            true => (&TILED_QUERY, vec![]),
            false => (&QUERY, vec![("Pack", width)]),
        };
        let operands = [q, k, v, dy, lse, inner, dq];
        let groups = self.extents.groups(packs);
        to.dispatch(kernel, constants, &params, &operands, groups);
    }

    fn key_grad(&self, to: &mut Lowering<'_>, inner: &Operand, targets: &Parts) {
        let Parts { q, k, v } = &self.parts;
        let between = targets.v.start() - targets.k.start();
        let dkv = &Operand {
            shape: targets.k.shape.with_c(2 * targets.k.shape.c()),
            ..targets.k
        };
        let (dy, lse) = (&self.dy, &self.lse);
        let tiled = is_tiled(to.device);
        let (width, packs) = self.packs(tiled, &[k, v, dkv]);
        let params = KeyParams {
            q_offset: q.offset,
            q_batch: q.batch_stride,
            k_offset: k.offset / width,
            k_batch: k.batch_stride / width,
            v_offset: v.offset / width,
            v_batch: v.batch_stride / width,
            dy_offset: dy.offset,
            dy_batch: dy.batch_stride,
            lse_offset: lse.offset,
            lse_batch: lse.batch_stride,
            inner_offset: inner.offset,
            inner_batch: inner.batch_stride,
            dk_offset: dkv.offset / width,
            dv_offset: (dkv.offset + between as u32) / width,
            dkv_batch: dkv.batch_stride / width,
            packs: packs as u32,
            tokens: self.extents.tokens as u32,
            head: self.extents.head as u32,
            scale: self.extents.scale(),
        };
        let (kernel, constants) = match tiled {
            true => (&TILED_KEY, vec![]),
            false => (&KEY, vec![("Pack", width)]),
        };
        let operands = [q, k, v, dy, lse, inner, dkv];
        let groups = self.extents.groups(packs);
        to.dispatch(kernel, constants, &params, &operands, groups);
    }
}

impl SelfAttentionBackward {
    fn given(&self, to: &Lowering<'_>) -> Result<Given, OpError> {
        let [qkv, y, lse, dy] = [0, 1, 2, 3].map(|i| to.inputs[i]);
        let extents = Extents::of(OP, qkv.shape, self.heads)?;
        Ok(Given {
            parts: Parts::of(&qkv, extents),
            y,
            dy,
            lse,
            extents,
        })
    }
}

impl Operator for SelfAttentionBackward {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [qkv, y, lse, dy] = take(OP, inputs)?;
        let extents = Extents::of(OP, qkv, self.heads)?;
        let expected = qkv.with_c(extents.channels());
        expect_shape(OP, "the output", expected, y)?;
        expect_shape(OP, "the logarithms", qkv.with_c(self.heads), lse)?;
        expect_shape(OP, "dy", expected, dy)?;
        Ok(vec![qkv])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (given, target) = (self.given(to)?, to.outputs[0]);
        let inner = given.inner(to);
        in_f32(to, &target, |to, dqkv| {
            given.gradients(to, &inner, &Parts::of(dqkv, given.extents))
        })
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (given, target) = (self.given(to)?, to.outputs[0]);
        let (all, head) = (given.extents.channels(), given.extents.head);
        for n in 0..given.extents.samples {
            for h in 0..given.extents.heads {
                let given = given.single(n, h);
                let place = |part: usize| single(&target, n, part * all + h * head, given.extents);
                let [dq, dk, dv] = [0, 1, 2].map(place);
                to.part(0, &[], &[], |to| {
                    let inner = given.inner(to);
                    let space = to.scratch(dk.shape.with_c(3 * head));
                    let sums = Parts::of(&space, given.extents);
                    given.gradients(to, &inner, &sums)?;
                    for (sums, target) in [(sums.q, dq), (sums.k, dk), (sums.v, dv)] {
                        copy(to, &sums, &target, 0);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64 * 8.0 / 3.0;
        let flops = Extents::of(OP, inputs[0], self.heads).map_or(0.0, |e| e.flops(5.0));
        Cost {
            flops,
            bytes: 4.0 * elements,
        }
    }
}
