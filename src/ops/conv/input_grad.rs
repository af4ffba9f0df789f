//! The gradient of a convolution with respect to its input, which is also transposed convolution, forward.

use std::sync::Arc;

use super::attributes::expect_bias;
use super::{
    ConvAttributes, Convolution, Direction, Problem, bias_grad, conv, conv_weight_grad,
    correlation, parts,
};
use crate::gpu::DeviceProfile;
use crate::ops::{
    Backward, Build, Candidates, Cost, Lowering, OpError, Operator, ValueId, expect_shape,
    with_bias,
};
use crate::tensor::{Element, Shape};

/// dx (N, C_in, D, H, W) from dy (N, C_out, D', H', W'), w (C_out, C_in / groups, KD, KH, KW) and optionally a bias
/// (C_in), which only a transposed convolution has.
#[derive(Debug)]
pub struct ConvInputGrad {
    /// The window of the convolution that leads from x to y.
    pub attributes: ConvAttributes,
    /// D, H, W of x: a strided convolution maps several sizes of x to one of y.
    pub input_size: [usize; 3],
}

impl ConvInputGrad {
    fn problem(&self, inputs: &[Shape], outputs: &[Shape]) -> Problem {
        Problem {
            attributes: self.attributes,
            x: outputs[0],
            y: inputs[0],
            stored: Some(Element::F32),
        }
    }
}

const OP: &str = "conv.input_grad";

impl Operator for ConvInputGrad {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let (dy, w, bias) = with_bias(OP, inputs)?;
        let c_in = w.c().saturating_mul(self.attributes.groups);
        let expected = self.attributes.weight_shape(OP, c_in, dy.c())?;
        expect_shape(
            OP,
            "the weight (C_out, C_in / groups, KD, KH, KW)",
            expected,
            w,
        )?;
        expect_bias(OP, bias, c_in)?;
        let size = self.attributes.output_size(OP, self.input_size)?;
        expect_shape(OP, "the gradient of the output", dy.with_spatial(size), dy)?;
        Ok(vec![dy.with_c(c_in).with_spatial(self.input_size)])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let upstream = io.grad(OP)?;
        let (dy, w) = (io.inputs[0], io.inputs[1]);
        let mut grads = vec![None; io.inputs.len()];
        // In the order of a convolution's gradients, and for the same reason.
        if io.needs.get(2) == Some(&true) {
            grads[2] = Some(bias_grad(graph, upstream)?);
        }
        if io.needs[1] {
            grads[1] = Some(conv_weight_grad(graph, upstream, dy, self.attributes)?);
        }
        if io.needs[0] {
            grads[0] = Some(conv(graph, upstream, w, None, self.attributes)?);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let problem = self.problem(&[to.inputs[0].shape], &[to.outputs[0].shape]);
        correlation::lower(to, Direction::InputGrad, OP, &problem)
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        parts::correlate(to, Direction::InputGrad, self.attributes)
    }

    fn convolution(&self) -> Option<Convolution> {
        Convolution::without_groups(Direction::InputGrad, self.attributes)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        self.problem(inputs, outputs).cost()
    }

    fn candidates(
        &self,
        inputs: &[Shape],
        elements: &[Element],
        outputs: &[Shape],
        device: &DeviceProfile,
    ) -> Option<Candidates> {
        let problem = self.problem(inputs, outputs);
        let problem = problem.stored_alike([elements[0], self.element(0, elements)]);
        correlation::measurable(Direction::InputGrad, &problem, device)
    }
}

/// Appends dx = d(conv)/dx applied to dy; see [`ConvInputGrad`] for the shapes.
///
/// # Errors
/// [`OpError`] where shapes and attributes do not fit together.
pub fn conv_input_grad(
    graph: &mut dyn Build,
    dy: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
    attributes: ConvAttributes,
    input_size: [usize; 3],
) -> Result<ValueId, OpError> {
    let inputs: Vec<ValueId> = [dy, w].into_iter().chain(bias).collect();
    let op = ConvInputGrad {
        attributes,
        input_size,
    };
    Ok(graph.add(Arc::new(op), &inputs)?[0])
}

/// Appends the transposed convolution of x (N, C_in, D, H, W) with w (C_in, C_out / groups, KD, KH, KW) and a bias
/// (C_out): extents (input - 1) * stride - padding + span + `output_padding`, as PyTorch has it.
///
/// # Errors
/// [`OpError`] where shapes and attributes do not fit together.
pub fn conv_transpose(
    graph: &mut dyn Build,
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
    attributes: ConvAttributes,
    output_padding: [usize; 3],
) -> Result<ValueId, OpError> {
    let size =
        attributes.transposed_size("conv_transpose", graph.shape(x).spatial(), output_padding)?;
    conv_input_grad(graph, x, w, bias, attributes, size)
}
