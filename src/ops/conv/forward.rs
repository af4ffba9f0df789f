//! Convolution, forward.

use std::sync::Arc;

use super::attributes::expect_bias;
use super::{
    ConvAttributes, Convolution, Direction, Problem, bias_grad, conv_input_grad, conv_weight_grad,
    correlation, parts,
};
use crate::gpu::DeviceProfile;
use crate::ops::{
    Backward, Build, Candidates, Cost, Lowering, OpError, Operator, ValueId, expect_shape,
    with_bias,
};
use crate::tensor::{Element, Shape};

/// y (N, C_out, D', H', W') from x (N, C_in, D, H, W), w (C_out, C_in / groups, KD, KH, KW) and optionally a bias (C_out).
#[derive(Debug)]
pub struct ConvForward {
    /// The window.
    pub attributes: ConvAttributes,
}

impl ConvForward {
    fn problem(&self, inputs: &[Shape], outputs: &[Shape]) -> Problem {
        Problem {
            attributes: self.attributes,
            x: inputs[0],
            y: outputs[0],
            stored: Some(Element::F32),
        }
    }
}

const OP: &str = "conv.forward";

impl Operator for ConvForward {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let (x, w, bias) = with_bias(OP, inputs)?;
        let expected = self.attributes.weight_shape(OP, x.c(), w.n())?;
        expect_shape(
            OP,
            "the weight (C_out, C_in / groups, KD, KH, KW)",
            expected,
            w,
        )?;
        expect_bias(OP, bias, w.n())?;
        let size = self.attributes.output_size(OP, x.spatial())?;
        Ok(vec![x.with_c(w.n()).with_spatial(size)])
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
        let (x, w) = (io.inputs[0], io.inputs[1]);
        let size = graph.shape(x).spatial();
        let mut grads = vec![None; io.inputs.len()];
        // The gradient of the input last: it is as large as x, which the gradient of the weight frees.
        if io.needs.get(2) == Some(&true) {
            grads[2] = Some(bias_grad(graph, dy)?);
        }
        if io.needs[1] {
            grads[1] = Some(conv_weight_grad(graph, x, dy, self.attributes)?);
        }
        if io.needs[0] {
            grads[0] = Some(conv_input_grad(graph, dy, w, None, self.attributes, size)?);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let problem = self.problem(&[to.inputs[0].shape], &[to.outputs[0].shape]);
        correlation::lower(to, Direction::Forward, OP, &problem)
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        parts::correlate(to, Direction::Forward, self.attributes)
    }

    fn convolution(&self) -> Option<Convolution> {
        Convolution::without_groups(Direction::Forward, self.attributes)
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
        correlation::measurable(Direction::Forward, &problem, device)
    }
}

/// Appends y = conv(x, w) + bias; see [`ConvForward`] for the shapes.
///
/// # Errors
/// [`OpError`] where shapes and attributes do not fit together.
pub fn conv(
    graph: &mut dyn Build,
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
    attributes: ConvAttributes,
) -> Result<ValueId, OpError> {
    let inputs: Vec<ValueId> = [x, w].into_iter().chain(bias).collect();
    Ok(graph.add(Arc::new(ConvForward { attributes }), &inputs)?[0])
}
