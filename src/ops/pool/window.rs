//! The window that pooling slides over a tensor.

use crate::ops::{OpError, Operand};
use crate::tensor::Shape;

/// A pooling window, each axis (D, H, W), in voxels. 2D pooling has kernel 1, stride 1 and padding 0 along D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Extent.
    pub kernel: [usize; 3],
    /// Step from one window to the next.
    pub stride: [usize; 3],
    /// Voxels added on both sides; at most half the kernel, so that every window covers a voxel.
    pub padding: [usize; 3],
}

/// Keeps products of an extent and a stride within u32.
const MAX_EXTENT: usize = 65_535;

impl Window {
    /// Windows that lie side by side: the stride is the kernel, no padding.
    pub const fn tiles(kernel: [usize; 3]) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: [0; 3],
        }
    }

    /// The shape after pooling x (N, C, D, H, W): along each axis floor((in + 2 padding - kernel) / stride) + 1.
    ///
    /// # Errors
    /// [`OpError::Attribute`] for a window that makes no sense, [`OpError::Shape`] where x is smaller than the window.
    pub fn output(&self, op: &'static str, x: Shape) -> Result<Shape, OpError> {
        let mut spatial = [0; 3];
        for (axis, extent) in spatial.iter_mut().enumerate() {
            let (kernel, stride, padding) =
                (self.kernel[axis], self.stride[axis], self.padding[axis]);
            let name = ["depth", "height", "width"][axis];
            if !(1..=MAX_EXTENT).contains(&kernel) || !(1..=MAX_EXTENT).contains(&stride) {
                let reason = format!(
                    "kernel {kernel} and stride {stride} along {name}; both must be 1 to {MAX_EXTENT}"
                );
                return Err(OpError::Attribute { op, reason });
            }
            if padding > kernel / 2 {
                let reason = format!(
                    "padding {padding} along {name}; at most half the kernel ({kernel}) is allowed"
                );
                return Err(OpError::Attribute { op, reason });
            }
            let padded = x.spatial()[axis].saturating_add(2 * padding);
            let room = padded.checked_sub(kernel).filter(|_| !x.is_empty());
            *extent = room.map(|room| room / stride + 1).ok_or(OpError::Shape {
                op,
                what: "the input",
                expected: format!(
                    "at least {} voxels along {name} for a kernel of {kernel}",
                    kernel - 2 * padding
                ),
                found: x,
            })?;
        }
        Ok(x.with_spatial(spatial))
    }

    /// Whether it halves height and width, and depth or keeps it, and covers x without a remainder.
    fn halves(&self, x: Shape) -> bool {
        let [d, h, w] = x.spatial();
        matches!(self.kernel, [1 | 2, 2, 2])
            && *self == Self::tiles(self.kernel)
            && d.is_multiple_of(self.kernel[0])
            && h.is_multiple_of(2)
            && w.is_multiple_of(2)
    }

    /// Whether the kernels for windows of 2 apply: four outputs and eight inputs along x as vectors.
    pub(super) fn fits_pairs(&self, operands: &[&Operand]) -> bool {
        operands.iter().all(|o| o.is_vec4())
            && operands
                .first()
                .is_some_and(|x| self.halves(x.shape) && x.shape.spatial()[2].is_multiple_of(8))
    }
}
