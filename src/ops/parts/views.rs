//! Parts of operands that need no copy.

use std::ops::Range;

use crate::ops::Operand;
use crate::tensor::Shape;

/// Bindings begin at multiples of so many elements: 256 bytes, which every device allows, of the smallest type.
pub(super) const ALIGNMENT: usize = 128;

impl Operand {
    /// Elements from where it is bound to its end.
    pub(super) fn end(&self) -> usize {
        let [n, ..] = self.shape.0;
        let gaps = n.saturating_sub(1) * self.batch_stride as usize;
        self.offset as usize + gaps + self.shape.per_sample()
    }

    /// Bytes from where it is bound to its end.
    pub(crate) fn reach(&self) -> u64 {
        self.element.bytes() * self.end() as u64
    }

    /// Bound from as close before its first element as devices allow.
    pub(crate) fn rebased(&self) -> Self {
        let start = self.start();
        let base = start / ALIGNMENT * ALIGNMENT;
        Self {
            base: base as u32,
            offset: (start - base) as u32,
            ..*self
        }
    }

    fn moved(&self, elements: usize, shape: Shape) -> Self {
        let moved = Self {
            shape,
            offset: self.offset + elements as u32,
            ..*self
        };
        moved.rebased()
    }

    /// Some of its samples; of a convolution's weight, of its output channels.
    pub(in crate::ops) fn samples(&self, range: Range<usize>) -> Self {
        let [_, c, d, h, w] = self.shape.0;
        let shape = Shape::new(range.len(), c, d, h, w);
        self.moved(range.start * self.batch_stride as usize, shape)
    }

    /// Some of its channels.
    pub(in crate::ops) fn channels(&self, range: Range<usize>) -> Self {
        let first = range.start * self.shape.voxels();
        self.moved(first, self.shape.with_c(range.len()))
    }

    /// `len` of its elements as a vector; it is dense.
    pub(in crate::ops) fn elements(&self, range: Range<usize>) -> Self {
        let moved = self.moved(range.start, Shape::vector(range.len()));
        Self {
            batch_stride: range.len() as u32,
            ..moved
        }
    }
}
