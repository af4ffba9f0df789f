//! Gradients of a convolution of a join, one part of the join at a time, so that no two parts need be there at once: with the
//! kernels, and in the order of sums, of the gradient of the whole join.

use super::weight_grad::lower_share;
use super::{ConvInputGrad, ConvWeightGrad, Convolution, Direction, Problem, correlation};
use crate::gpu::DeviceProfile;
use crate::ops::{Cost, Lowering, OpError, Operator};
use crate::tensor::{Element, Shape};

/// dw (C_out, C, KD, KH, KW) of some input channels: from x (N, C, D, H, W), those channels, and dy (N, C_out, D', H', W').
#[derive(Debug)]
pub struct ConvWeightGradShare {
    /// The gradient of all.
    pub whole: ConvWeightGrad,
    /// Input channels of the convolution.
    pub channels: usize,
}

impl Operator for ConvWeightGradShare {
    fn name(&self) -> &'static str {
        self.whole.name()
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        self.whole.infer(inputs)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0].shape, to.inputs[1].shape);
        let whole = Problem {
            attributes: self.whole.attributes,
            x: x.with_c(self.channels),
            y,
            stored: Some(Element::F32),
        };
        lower_share(to, &whole)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        self.whole.cost(inputs, outputs)
    }
}

/// dx (N, C, D, H, W) of some input channels: from dy (N, C_out, D', H', W') and the weight of those channels
/// (C_out, C, KD, KH, KW).
#[derive(Debug)]
pub struct ConvInputGradShare {
    /// The gradient of all.
    pub whole: ConvInputGrad,
    /// Input channels of the convolution.
    pub channels: usize,
}

impl ConvInputGradShare {
    /// Whether the kernels that compute the whole on `device` can compute the share dx from dy, both stored as `element`.
    pub fn is_able(&self, dy: Shape, dx: Shape, element: Element, device: &DeviceProfile) -> bool {
        let [whole, share] = self
            .problems([dy, dx])
            .map(|p| p.stored_alike([element; 2]));
        let op = self.whole.name();
        correlation::alike(Direction::InputGrad, [&whole, &share], device, op).is_ok()
    }

    fn problems(&self, [dy, dx]: [Shape; 2]) -> [Problem; 2] {
        [self.channels, dx.c()].map(|channels| Problem {
            attributes: self.whole.attributes,
            x: dx.with_c(channels),
            y: dy,
            stored: Some(Element::F32),
        })
    }
}

impl Operator for ConvInputGradShare {
    fn name(&self) -> &'static str {
        self.whole.name()
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        self.whole.infer(inputs)
    }

    fn element(&self, index: usize, inputs: &[Element]) -> Element {
        self.whole.element(index, inputs)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [whole, share] = self.problems([to.inputs[0].shape, to.outputs[0].shape]);
        correlation::lower_part(to, Direction::InputGrad, self.name(), [&whole, &share])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        self.whole.cost(inputs, outputs)
    }

    fn convolution(&self) -> Option<Convolution> {
        let whole = self.whole.convolution()?;
        Some(Convolution {
            channels: Some(self.channels),
            ..whole
        })
    }
}
