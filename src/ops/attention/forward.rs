//! Attention, forward.

use std::sync::Arc;

use super::{
    Extents, Parts, SelfAttentionBackward, in_f32, is_of_products, is_tiled, products, row, single,
    widths,
};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, pack_width, take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    q_offset: u32,
    q_batch: u32,
    k_offset: u32,
    k_batch: u32,
    v_offset: u32,
    v_batch: u32,
    y_offset: u32,
    y_batch: u32,
    lse_offset: u32,
    lse_batch: u32,
    packs: u32,
    tokens: u32,
    head: u32,
    scale: f32,
});

const ACCESS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
];

static PLAIN: Kernel = shipped_kernel! {
    name: "attention/forward",
    params: Params::FIELDS,
    access: ACCESS,
};

static TILED: Kernel = shipped_kernel! {
    name: "attention/tiled_forward",
    params: Params::FIELDS,
    access: ACCESS,
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&PLAIN, widths()), (&TILED, vec![vec![]])]
}

/// `y[i]` = sum over j of softmax over j of (`q[i] . k[j]` / sqrt(d)) `v[j]`, for each head of d channels and all voxels i and j of
/// a sample (Vaswani et al. 2017, eq. 1).
///
/// Input (N, 3 E, D, H, W): the E channels of all queries, then those of keys and of values, each head by head, as timm's and
/// MONAI's fused `qkv` layers give them. Outputs: y (N, E, D, H, W), and (N, heads, D, H, W) the logarithm of each softmax's
/// denominator, which alone is saved for the backward pass besides the input and y (Dao et al. 2022).
#[derive(Clone, Debug)]
pub struct SelfAttention {
    /// Number of heads; E is a multiple of it.
    pub heads: usize,
}

const OP: &str = "attention.forward";

/// Appends the attention of all heads of the operands.
fn attend(
    to: &mut Lowering<'_>,
    parts: &Parts,
    [y, lse]: [&Operand; 2],
    extents: Extents,
) -> Result<(), OpError> {
    if is_of_products(to.device, extents) {
        return products::attend(to, parts, [y, lse], extents);
    }
    let Parts { q, k, v } = parts;
    in_f32(to, y, |to, y| {
        let tiled = is_tiled(to.device);
        let width = match tiled {
            true => 1,
            false => pack_width(&[q, y, lse]),
        };
        let packs = extents.tokens / width as usize;
        let params = Params {
            q_offset: q.offset / width,
            q_batch: q.batch_stride / width,
            k_offset: k.offset,
            k_batch: k.batch_stride,
            v_offset: v.offset,
            v_batch: v.batch_stride,
            y_offset: y.offset / width,
            y_batch: y.batch_stride / width,
            lse_offset: lse.offset / width,
            lse_batch: lse.batch_stride / width,
            packs: packs as u32,
            tokens: extents.tokens as u32,
            head: extents.head as u32,
            scale: extents.scale(),
        };
        let (kernel, constants) = match tiled {
            true => (&TILED, vec![]),
            false => (&PLAIN, vec![("Pack", width)]),
        };
        let groups = extents.groups(packs);
        to.dispatch(kernel, constants, &params, &[q, k, v, y, lse], groups);
        Ok(())
    })
}

impl Operator for SelfAttention {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [qkv] = take(OP, inputs)?;
        let extents = Extents::of(OP, qkv, self.heads)?;
        Ok(vec![qkv.with_c(extents.channels()), qkv.with_c(self.heads)])
    }

    fn element(&self, index: usize, inputs: &[Element]) -> Element {
        match index {
            0 => inputs[0],
            _ => Element::F32,
        }
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let op = SelfAttentionBackward { heads: self.heads };
        let inputs = [io.inputs[0], io.outputs[0], io.outputs[1], dy];
        Ok(vec![Some(graph.add(Arc::new(op), &inputs)?[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (qkv, y, lse) = (to.inputs[0], to.outputs[0], to.outputs[1]);
        let extents = Extents::of(OP, qkv.shape, self.heads)?;
        attend(to, &Parts::of(&qkv, extents), [&y, &lse], extents)
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (qkv, y, lse) = (to.inputs[0], to.outputs[0], to.outputs[1]);
        let extents = Extents::of(OP, qkv.shape, self.heads)?;
        let parts = Parts::of(&qkv, extents);
        for n in 0..extents.samples {
            for head in 0..extents.heads {
                let parts = parts.single(n, head, extents);
                let y = single(&y, n, head * extents.head, extents);
                to.part(0, &[], &[], |to| {
                    let lse = row(&lse, n, head);
                    attend(to, &parts, [&y, &lse], extents.single())
                })?;
            }
        }
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64 * 4.0 / 3.0;
        let flops = Extents::of(OP, inputs[0], self.heads).map_or(0.0, |e| e.flops(2.0));
        Cost {
            flops,
            bytes: 4.0 * elements,
        }
    }
}

/// Appends the self-attention of `qkv` (N, 3 E, D, H, W) with `heads` heads; y (N, E, D, H, W).
///
/// # Errors
/// [`OpError::Shape`] where the channels are not three times whole heads.
pub fn self_attention(
    graph: &mut dyn Build,
    qkv: ValueId,
    heads: usize,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(SelfAttention { heads }), &[qkv])?[0])
}
