//! Shapes, element types and host tensors.
//!
//! One layout everywhere: (N, C, D, H, W), W fastest. A 2D tensor has D = 1, a vector of C values
//! is (1, C, 1, 1, 1), a convolution weight is (C_out, C_in / groups, KD, KH, KW).

mod element;

use std::fmt;

pub use element::Element;

/// The extent of a tensor, (N, C, D, H, W).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape(pub [usize; 5]);

impl Shape {
    /// A shape from its five extents.
    pub const fn new(n: usize, c: usize, d: usize, h: usize, w: usize) -> Self {
        Self([n, c, d, h, w])
    }

    /// A single number, (1, 1, 1, 1, 1).
    pub const fn scalar() -> Self {
        Self([1; 5])
    }

    /// `len` values along the channel axis, (1, len, 1, 1, 1).
    pub const fn vector(len: usize) -> Self {
        Self([1, len, 1, 1, 1])
    }

    /// Batch size N.
    pub const fn n(&self) -> usize {
        self.0[0]
    }

    /// Channels C.
    pub const fn c(&self) -> usize {
        self.0[1]
    }

    /// The spatial extents (D, H, W).
    pub const fn spatial(&self) -> [usize; 3] {
        [self.0[2], self.0[3], self.0[4]]
    }

    /// Voxels of one channel, D * H * W.
    pub const fn voxels(&self) -> usize {
        self.0[2] * self.0[3] * self.0[4]
    }

    /// Elements of one batch entry, C * D * H * W.
    pub const fn per_sample(&self) -> usize {
        self.0[1] * self.voxels()
    }

    /// All elements.
    pub const fn len(&self) -> usize {
        self.0[0] * self.per_sample()
    }

    /// Bytes of all elements as f32; `u64::MAX` where there are more than that can say, so that a comparison with a
    /// limit holds for extents of which [`Shape::len`] could not be computed.
    pub fn bytes(&self) -> u64 {
        self.bytes_as(Element::F32)
    }

    /// Bytes of all elements stored as `element`, with the limit of [`Shape::bytes`].
    pub fn bytes_as(&self, element: Element) -> u64 {
        if self.0.contains(&0) {
            return 0;
        }
        let extents = self.0.iter().map(|&extent| extent as u64);
        extents.fold(element.bytes(), u64::saturating_mul)
    }

    /// Whether an extent is 0.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same shape with another number of channels.
    pub const fn with_c(self, c: usize) -> Self {
        Self([self.0[0], c, self.0[2], self.0[3], self.0[4]])
    }

    /// The same shape with other spatial extents (D, H, W).
    pub const fn with_spatial(self, s: [usize; 3]) -> Self {
        Self([self.0[0], self.0[1], s[0], s[1], s[2]])
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [n, c, d, h, w] = self.0;
        write!(f, "({n}, {c}, {d}, {h}, {w})")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A dense tensor in host memory; f32 on its way to and from the device, f64 in the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor<T = f32> {
    /// Extent (N, C, D, H, W).
    pub shape: Shape,
    /// The elements, W fastest; `shape.len()` of them.
    pub data: Vec<T>,
}

impl<T: Copy + Default> HostTensor<T> {
    /// A tensor of zeros.
    pub fn zeros(shape: Shape) -> Self {
        Self {
            shape,
            data: vec![T::default(); shape.len()],
        }
    }

    /// A tensor from its elements, W fastest; `None` where their number is not `shape.len()`.
    pub fn from_vec(shape: Shape, data: Vec<T>) -> Option<Self> {
        (data.len() == shape.len()).then_some(Self { shape, data })
    }

    /// The position of (n, c, z, y, x) in `data`.
    pub fn index(&self, [n, c, z, y, x]: [usize; 5]) -> usize {
        let [_, nc, d, h, w] = self.shape.0;
        (((n * nc + c) * d + z) * h + y) * w + x
    }

    /// The element at (n, c, z, y, x).
    pub fn at(&self, i: [usize; 5]) -> T {
        self.data[self.index(i)]
    }

    /// The element at (n, c, z, y, x), to write.
    pub fn at_mut(&mut self, i: [usize; 5]) -> &mut T {
        let at = self.index(i);
        &mut self.data[at]
    }
}

impl HostTensor<f32> {
    /// The same values in f64.
    pub fn to_f64(&self) -> HostTensor<f64> {
        HostTensor {
            shape: self.shape,
            data: self.data.iter().map(|&v| f64::from(v)).collect(),
        }
    }
}

impl HostTensor<f64> {
    /// The same values rounded to f32.
    pub fn to_f32(&self) -> HostTensor<f32> {
        HostTensor {
            shape: self.shape,
            data: self.data.iter().map(|&v| v as f32).collect(),
        }
    }
}
