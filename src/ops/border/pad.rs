//! Voxels added around an image.

use std::sync::Arc;

use super::crop::{crop, dispatch as dispatch_crop};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{Backward, Build, Lowering, OpError, Operand, Operator, ValueId, grid_of, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    in_d: u32,
    in_h: u32,
    in_w: u32,
    out_d: u32,
    out_h: u32,
    out_w: u32,
    before_d: u32,
    before_h: u32,
    before_w: u32,
    value: f32,
});

static FORWARD: Kernel = shipped_kernel! {
    name: "border/pad",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

static BACKWARD: Kernel = shipped_kernel! {
    name: "border/pad_backward",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let fills = |codes: &[u32]| codes.iter().map(|&c| vec![("FILL", c)]).collect();
    vec![
        (&FORWARD, fills(&[CONSTANT, MIRROR, REPLICATE])),
        (&BACKWARD, fills(&[MIRROR, REPLICATE])),
    ]
}

/// What new voxels hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// This value, in the units of the image; zero padding is `Constant(0.0)`.
    Constant(f32),
    /// The image mirrored at the centre of its last voxel (... 2 1 0 1 2 ...), PyTorch's `reflect`. Each side takes
    /// fewer voxels than the image has along that axis.
    Mirror,
    /// The nearest voxel of the image.
    Replicate,
}

/// The shaders' `FILL`.
const CONSTANT: u32 = 0;
const MIRROR: u32 = 1;
const REPLICATE: u32 = 2;

impl Fill {
    fn code(self) -> u32 {
        match self {
            Self::Constant(_) => CONSTANT,
            Self::Mirror => MIRROR,
            Self::Replicate => REPLICATE,
        }
    }
}

/// Voxels added in front and behind, each (D, H, W).
type Border = ([usize; 3], [usize; 3]);

/// The shape of x with the border.
fn padded(
    op: &'static str,
    x: Shape,
    (before, after): Border,
    fill: Fill,
) -> Result<Shape, OpError> {
    // Positions in the padded image then stay within u32.
    const MAX_BORDER: usize = 65_535;
    if before.iter().chain(&after).any(|&b| b > MAX_BORDER) {
        let reason = format!(
            "borders {before:?} and {after:?} (D, H, W); at most {MAX_BORDER} voxels a side are allowed"
        );
        return Err(OpError::Attribute { op, reason });
    }
    let spatial = x.spatial();
    let wider = [0, 1, 2].map(|a| before[a].max(after[a]));
    let expected = match fill {
        Fill::Mirror if (0..3).any(|a| wider[a] >= spatial[a]) => {
            format!("of more than {wider:?} voxels (D, H, W) to mirror; pad less, or replicate")
        }
        Fill::Replicate if x.is_empty() => "not empty".to_owned(),
        _ => return Ok(x.with_spatial([0, 1, 2].map(|a| spatial[a] + before[a] + after[a]))),
    };
    Err(OpError::Shape {
        op,
        what: "the input",
        expected,
        found: x,
    })
}

/// Appends `kernel` with x inside y, from `source` to `target`: x and y forward, y and x backward.
fn dispatch(
    to: &mut Lowering<'_>,
    kernel: &'static Kernel,
    (x, y): (&Operand, &Operand),
    (source, target): (&Operand, &Operand),
    (before, fill): ([usize; 3], Fill),
) {
    let [in_d, in_h, in_w] = x.shape.spatial().map(|v| v as u32);
    let [out_d, out_h, out_w] = y.shape.spatial().map(|v| v as u32);
    let [before_d, before_h, before_w] = before.map(|v| v as u32);
    let elements = target.shape.per_sample();
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        y_offset: y.offset,
        y_batch: y.batch_stride,
        per_sample: elements as u32,
        in_d,
        in_h,
        in_w,
        out_d,
        out_h,
        out_w,
        before_d,
        before_h,
        before_w,
        value: match fill {
            Fill::Constant(value) => value,
            Fill::Mirror | Fill::Replicate => 0.0,
        },
    };
    let [gx, gy, _] = grid_of(kernel, elements);
    let groups = [gx, gy, target.shape.n() as u32];
    let constants = vec![("FILL", fill.code())];
    to.dispatch(kernel, constants, &params, &[source, target], groups);
}

/// y (N, C, before + (D, H, W) + after) = x (N, C, D, H, W) with voxels around it. Saves nothing.
#[derive(Debug)]
pub struct Pad {
    /// Voxels added in front (D, H, W).
    pub before: [usize; 3],
    /// Voxels added behind (D, H, W).
    pub after: [usize; 3],
    /// What they hold.
    pub fill: Fill,
}

const OP: &str = "border.pad";

impl Operator for Pad {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        Ok(vec![padded(OP, x, (self.before, self.after), self.fill)?])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let size = graph.shape(io.inputs[0]).spatial();
        if let Fill::Constant(_) = self.fill {
            return Ok(vec![Some(crop(graph, dy, self.before, size)?)]);
        }
        let op = Arc::new(PadBackward {
            before: self.before,
            size,
            fill: self.fill,
        });
        Ok(vec![Some(graph.add(op, &[dy])?[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let border = (self.before, self.fill);
        dispatch(to, &FORWARD, (&x, &y), (&x, &y), border);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }
}

/// dx of [`Pad`]: input dy (N, C, padded), output dx (N, C, size). A voxel gathers from all its images in the border.
#[derive(Debug)]
pub struct PadBackward {
    /// Voxels that were added in front (D, H, W).
    pub before: [usize; 3],
    /// (D, H, W) of x.
    pub size: [usize; 3],
    /// That of the forward pass.
    pub fill: Fill,
}

const OP_BACKWARD: &str = "border.pad_backward";

impl Operator for PadBackward {
    fn name(&self) -> &'static str {
        OP_BACKWARD
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP_BACKWARD, inputs)?;
        let outer = dy.spatial();
        let behind = |a: usize| outer[a].checked_sub(self.before[a].saturating_add(self.size[a]));
        let (Some(d), Some(h), Some(w)) = (behind(0), behind(1), behind(2)) else {
            let (before, size) = (self.before, self.size);
            return Err(OpError::Shape {
                op: OP_BACKWARD,
                what: "the gradient",
                expected: format!("of at least {before:?} + {size:?} voxels (D, H, W)"),
                found: dy,
            });
        };
        let x = dy.with_spatial(self.size);
        padded(OP_BACKWARD, x, (self.before, [d, h, w]), self.fill)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, dx) = (to.inputs[0], to.outputs[0]);
        match self.fill {
            Fill::Constant(_) => dispatch_crop(to, &dy, &dx, self.before),
            Fill::Mirror | Fill::Replicate => {
                let border = (self.before, self.fill);
                dispatch(to, &BACKWARD, (&dx, &dy), (&dy, &dx), border);
            }
        }
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }
}

/// Appends `x` with `before` and `after` voxels (D, H, W) around it; `x` itself where there are none.
///
/// # Errors
/// [`OpError::Attribute`] for a border too wide, [`OpError::Shape`] where x is too small to mirror.
pub fn pad(
    graph: &mut dyn Build,
    x: ValueId,
    before: [usize; 3],
    after: [usize; 3],
    fill: Fill,
) -> Result<ValueId, OpError> {
    if before == [0; 3] && after == [0; 3] {
        return Ok(x);
    }
    let op = Pad {
        before,
        after,
        fill,
    };
    Ok(graph.add(Arc::new(op), &[x])?[0])
}
