//! The attributes of a convolution and the shape rules that follow from them.

use crate::ops::{OpError, expect_shape};
use crate::tensor::Shape;

/// No kernel, stride, padding or dilation of a real network comes near this; it keeps index arithmetic inside 32 bits.
const LARGEST: usize = 1 << 12;

/// Kernel, stride, padding, dilation (each D, H, W, in voxels) and groups of a convolution.
///
/// It is a cross-correlation, y[o, p] = sum over c, k of w[o, c, k] x[c, p * stride + k * dilation - padding], with
/// zeros outside x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvAttributes {
    /// Extents of the window.
    pub kernel: [usize; 3],
    /// Voxels of the input from one output voxel to the next.
    pub stride: [usize; 3],
    /// Zeros before the input.
    pub padding: [usize; 3],
    /// Zeros after the input.
    pub padding_after: [usize; 3],
    /// Voxels of the input from one tap of the window to the next.
    pub dilation: [usize; 3],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl ConvAttributes {
    /// Stride 1, no padding, no dilation, one group.
    pub const fn new(kernel: [usize; 3]) -> Self {
        Self {
            kernel,
            stride: [1; 3],
            padding: [0; 3],
            padding_after: [0; 3],
            dilation: [1; 3],
            groups: 1,
        }
    }

    /// (kernel - 1) / 2 zeros on both sides: for odd kernels and stride 1 the output is as large as the input.
    pub const fn same(kernel: [usize; 3]) -> Self {
        Self::new(kernel).with_padding([
            (kernel[0] - 1) / 2,
            (kernel[1] - 1) / 2,
            (kernel[2] - 1) / 2,
        ])
    }

    /// With this stride.
    pub const fn with_stride(mut self, stride: [usize; 3]) -> Self {
        self.stride = stride;
        self
    }

    /// With this padding on both sides.
    pub const fn with_padding(mut self, padding: [usize; 3]) -> Self {
        self.padding = padding;
        self.padding_after = padding;
        self
    }

    /// With this dilation.
    pub const fn with_dilation(mut self, dilation: [usize; 3]) -> Self {
        self.dilation = dilation;
        self
    }

    /// With this number of groups.
    pub const fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Taps of the window.
    pub const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.kernel[2]
    }

    /// Voxels that the window spans along `axis`.
    pub const fn span(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Checks each attribute by itself.
    ///
    /// # Errors
    /// [`OpError::Attribute`].
    pub fn check(&self, op: &'static str) -> Result<(), OpError> {
        let positive = [
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
        ];
        for (what, extents) in positive {
            if extents.iter().any(|&e| e == 0 || e > LARGEST) {
                return Err(attribute(
                    op,
                    format!("{what} must lie in 1..={LARGEST} along D, H and W, found {extents:?}"),
                ));
            }
        }
        for (what, extents) in [
            ("padding", self.padding),
            ("padding after", self.padding_after),
        ] {
            if extents.iter().any(|&e| e > LARGEST) {
                return Err(attribute(
                    op,
                    format!("{what} must be at most {LARGEST}, found {extents:?}"),
                ));
            }
        }
        if self.groups == 0 {
            return Err(attribute(op, "groups must be at least 1, found 0".into()));
        }
        Ok(())
    }

    /// The spatial extents of the output for an input of extents `input`.
    ///
    /// # Errors
    /// [`OpError::Attribute`] where the window does not fit into the padded input.
    pub fn output_size(&self, op: &'static str, input: [usize; 3]) -> Result<[usize; 3], OpError> {
        self.check(op)?;
        let mut output = [0; 3];
        for axis in 0..3 {
            let padded = input[axis] + self.padding[axis] + self.padding_after[axis];
            let span = self.span(axis);
            if padded < span {
                return Err(attribute(
                    op,
                    format!(
                        "a window of {span} voxels does not fit into {padded} padded voxels along {}; enlarge the input or the padding",
                        ["D", "H", "W"][axis]
                    ),
                ));
            }
            output[axis] = (padded - span) / self.stride[axis] + 1;
        }
        Ok(output)
    }

    /// The spatial extents of a transposed convolution's output, (input - 1) * stride - padding + span +
    /// `output_padding`.
    ///
    /// # Errors
    /// [`OpError::Attribute`] where nothing is left, or where `output_padding` reaches the stride and the dilation.
    pub fn transposed_size(
        &self,
        op: &'static str,
        input: [usize; 3],
        output_padding: [usize; 3],
    ) -> Result<[usize; 3], OpError> {
        self.check(op)?;
        let mut output = [0; 3];
        for axis in 0..3 {
            let extra = output_padding[axis];
            if extra >= self.stride[axis].max(self.dilation[axis]) {
                return Err(attribute(
                    op,
                    format!(
                        "output padding {output_padding:?} must be smaller than the stride {:?} or the dilation {:?}",
                        self.stride, self.dilation
                    ),
                ));
            }
            let whole = input[axis].saturating_sub(1) * self.stride[axis] + self.span(axis) + extra;
            let cut = self.padding[axis] + self.padding_after[axis];
            if input[axis] == 0 || whole <= cut {
                return Err(attribute(
                    op,
                    format!(
                        "padding {cut} leaves nothing of {whole} voxels along {}",
                        ["D", "H", "W"][axis]
                    ),
                ));
            }
            output[axis] = whole - cut;
        }
        Ok(output)
    }

    /// The weight's shape (C_out, C_in / groups, KD, KH, KW) between activations of `c_in` and `c_out` channels.
    ///
    /// # Errors
    /// [`OpError::Attribute`] where the groups do not divide the channels.
    pub fn weight_shape(
        &self,
        op: &'static str,
        c_in: usize,
        c_out: usize,
    ) -> Result<Shape, OpError> {
        self.check(op)?;
        if !c_in.is_multiple_of(self.groups) || !c_out.is_multiple_of(self.groups) {
            return Err(attribute(
                op,
                format!(
                    "{} groups must divide the {c_in} input and the {c_out} output channels",
                    self.groups
                ),
            ));
        }
        let [d, h, w] = self.kernel;
        Ok(Shape::new(c_out, c_in / self.groups, d, h, w))
    }
}

fn attribute(op: &'static str, reason: String) -> OpError {
    OpError::Attribute { op, reason }
}

/// Checks the optional bias, one number for each of `channels`.
pub(super) fn expect_bias(
    op: &'static str,
    bias: Option<Shape>,
    channels: usize,
) -> Result<(), OpError> {
    match bias {
        Some(found) => expect_shape(op, "the bias", Shape::vector(channels), found),
        None => Ok(()),
    }
}
