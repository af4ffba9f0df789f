//! The inverted residual of MobileNetV2 and V3.

use super::{ConvNorm, Mode, Nonlinearity, Norm, SqueezeExcitation, centred};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;
use crate::ops::elementwise::add;

/// What the parameters of the projection are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectionNames {
    /// As in torchvision's MobileNetV2: convolution and norm are two members of the block's sequence.
    Flat,
    /// As in torchvision's MobileNetV3: a sequence of two within that of the block.
    Nested,
}

/// Channels are expanded by a 1x1x1 convolution, filtered one by one, and projected to few by another, after which nothing
/// bends them: a linear bottleneck (Sandler et al. 2018, MobileNetV2, table 1; Howard et al. 2019, section 5.1, with
/// squeeze and excitation). The input is added where it has the extents of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvertedResidual {
    /// Channels between expansion and projection; where they are those of the input there is no expansion.
    pub expanded: usize,
    /// Kernel (D, H, W) of the depthwise convolution, odd.
    pub kernel: [usize; 3],
    /// Its stride (D, H, W).
    pub stride: [usize; 3],
    /// Its dilation (D, H, W).
    pub dilation: [usize; 3],
    /// Squeeze and excitation after it.
    pub squeeze: Option<SqueezeExcitation>,
    /// Normalisation after each convolution.
    pub norm: Norm,
    /// Activation after the first two.
    pub nonlinearity: Nonlinearity,
    /// What the projection is called.
    pub projection: ProjectionNames,
}

impl InvertedResidual {
    /// Appends it: x (N, C, D, H, W) to (N, channels, D / stride, …), rounded up. Its layers are members of a sequence,
    /// numbered from 0.
    ///
    /// # Errors
    /// A shape error of a convolution.
    pub fn build(
        &self,
        graph: &mut Graph,
        x: ValueId,
        channels: usize,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let inputs = graph.value(x).shape.c();
        let act = Some(self.nonlinearity);
        let mut position = 0;
        let mut next = || {
            position += 1;
            position - 1
        };
        let mut y = x;
        if self.expanded != inputs {
            let expansion = ConvNorm::pointwise(self.norm, act);
            y = expansion.build_as(next(), graph, y, self.expanded, mode)?;
        }
        let depthwise = ConvNorm {
            attributes: centred(self.kernel, self.stride, self.dilation).with_groups(self.expanded),
            ..ConvNorm::pointwise(self.norm, act)
        };
        y = depthwise.build_as(next(), graph, y, self.expanded, mode)?;
        if let Some(squeeze) = self.squeeze {
            y = graph.scope(next(), |g| squeeze.build(g, y))?;
        }
        let projection = ConvNorm::pointwise(self.norm, None);
        y = match self.projection {
            ProjectionNames::Nested => projection.build_as(next(), graph, y, channels, mode)?,
            ProjectionNames::Flat => {
                let names = [next(), next()].map(|p| p.to_string());
                projection.build(graph, y, channels, [&names[0], &names[1]], mode)?
            }
        };
        if self.stride != [1; 3] || inputs != channels {
            return Ok(y);
        }
        add(graph, y, x).map_err(|e| graph.blame(e))
    }
}
