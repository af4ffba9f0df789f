//! The mean of a window, and its gradient.

use std::sync::Arc;

use super::{PairsParams, Window, WindowParams, use_pairs};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid_of,
    take,
};
use crate::tensor::{Element, Shape};

static FORWARD: Kernel = shipped_kernel! {
    name: "pool/avg_forward",
    params: WindowParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

static FORWARD_PAIRS: Kernel = shipped_kernel! {
    name: "pool/avg_pairs_forward",
    params: PairsParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

static BACKWARD: Kernel = shipped_kernel! {
    name: "pool/avg_backward",
    params: WindowParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

static BACKWARD_PAIRS: Kernel = shipped_kernel! {
    name: "pool/avg_pairs_backward",
    params: PairsParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let counts = || vec![vec![("COUNT_PADDING", 0)], vec![("COUNT_PADDING", 1)]];
    let depths = || vec![vec![("DEPTH", 1)], vec![("DEPTH", 2)]];
    vec![
        (&FORWARD, counts()),
        (&FORWARD_PAIRS, depths()),
        (&BACKWARD, counts()),
        (&BACKWARD_PAIRS, depths()),
    ]
}

/// One direction: the kernel for any window and the one for windows of 2.
struct Direction {
    any: &'static Kernel,
    pairs: &'static Kernel,
}

/// Appends the kernel from `source` to `target`, one of which is `x`, on the side of the input, the other `y`.
fn lower(
    to: &mut Lowering<'_>,
    direction: &Direction,
    (window, count_include_pad): (&Window, bool),
    (x, y): (&Operand, &Operand),
    (source, target): (&Operand, &Operand),
) {
    let n = x.shape.n() as u32;
    if use_pairs(to.device, window, &[x, y]) {
        let params = PairsParams::new(x, y);
        let constants = vec![("DEPTH", window.kernel[0] as u32)];
        let [gx, gy, _] = grid_of(direction.pairs, params.per_sample as usize);
        let groups = [gx, gy, n];
        to.dispatch(
            direction.pairs,
            constants,
            &params,
            &[source, target],
            groups,
        );
        return;
    }
    let elements = target.shape.per_sample();
    let params = WindowParams::new(window, x, y, elements);
    let constants = vec![("COUNT_PADDING", u32::from(count_include_pad))];
    let [gx, gy, _] = grid_of(direction.any, elements);
    let groups = [gx, gy, n];
    to.dispatch(direction.any, constants, &params, &[source, target], groups);
}

/// y = mean over each window of x; x (N, C, D, H, W), y by [`Window::output`]. Saves nothing.
#[derive(Debug)]
pub struct AvgPool {
    /// What to average.
    pub window: Window,
    /// Whether zeros of the padding count in the mean (PyTorch's default).
    pub count_include_pad: bool,
}

const OP: &str = "pool.avg";

impl Operator for AvgPool {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        Ok(vec![self.window.output(OP, x)?])
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
        let op = Arc::new(AvgPoolBackward {
            window: self.window,
            count_include_pad: self.count_include_pad,
            input: graph.shape(io.inputs[0]),
        });
        Ok(vec![Some(graph.add(op, &[dy])?[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let direction = Direction {
            any: &FORWARD,
            pairs: &FORWARD_PAIRS,
        };
        let window = (&self.window, self.count_include_pad);
        lower(to, &direction, window, (&x, &y), (&x, &y));
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let taps: usize = self.window.kernel.iter().product();
        Cost {
            flops: (outputs[0].len() * taps) as f64,
            bytes: 4.0 * (inputs[0].len() + outputs[0].len()) as f64,
        }
    }
}

/// dx of [`AvgPool`]: input dy of the pooled shape, output dx of the shape `input`.
#[derive(Debug)]
pub struct AvgPoolBackward {
    /// That of the forward pass.
    pub window: Window,
    /// That of the forward pass.
    pub count_include_pad: bool,
    /// The shape of x (N, C, D, H, W).
    pub input: Shape,
}

const OP_BACKWARD: &str = "pool.avg_backward";

impl Operator for AvgPoolBackward {
    fn name(&self) -> &'static str {
        OP_BACKWARD
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP_BACKWARD, inputs)?;
        let pooled = self.window.output(OP_BACKWARD, self.input)?;
        expect_shape(OP_BACKWARD, "the gradient of the pooled tensor", pooled, dy)?;
        Ok(vec![self.input])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, dx) = (to.inputs[0], to.outputs[0]);
        let direction = Direction {
            any: &BACKWARD,
            pairs: &BACKWARD_PAIRS,
        };
        let window = (&self.window, self.count_include_pad);
        lower(to, &direction, window, (&dx, &dy), (&dy, &dx));
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }
}

/// Appends the mean of `x` over `window`; zeros of the padding count, as is PyTorch's default.
///
/// # Errors
/// [`OpError::Attribute`] or [`OpError::Shape`] where the window makes no sense or does not fit.
pub fn avg_pool(graph: &mut dyn Build, x: ValueId, window: Window) -> Result<ValueId, OpError> {
    let op = AvgPool {
        window,
        count_include_pad: true,
    };
    Ok(graph.add(Arc::new(op), &[x])?[0])
}
