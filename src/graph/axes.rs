//! Which axes a parameter has outside: here each tensor has five.

use crate::tensor::Shape;

/// The axes of a parameter in PyTorch's state dicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// (C) of (1, C, 1, 1, 1): biases, norms, slopes, running statistics.
    Vector,
    /// (C_out, C_in, KD, KH, KW); without KD in 2D. Weights of convolutions.
    Window,
    /// (C_out, C_in) of (C_out, C_in, 1, 1, 1): weights of fully connected layers.
    Matrix,
    /// (1, L, C) of (1, C, D, H, W), L = D * H * W: one vector for each token, which are the columns there and the rows here.
    Tokens,
}

impl Axes {
    /// Those of a parameter of which nothing else is said.
    pub fn usual(shape: Shape) -> Self {
        match shape == Shape::vector(shape.len()) {
            true => Self::Vector,
            false => Self::Window,
        }
    }

    /// The extents outside of a parameter of `shape`, in a 2D network (`planar`) or another.
    pub fn extents(self, shape: Shape, planar: bool) -> Vec<usize> {
        let [o, i, d, h, w] = shape.0;
        match self {
            Self::Vector => vec![shape.len()],
            Self::Window if planar && d == 1 => vec![o, i, h, w],
            Self::Window => shape.0.to_vec(),
            Self::Matrix => vec![o, i],
            Self::Tokens => vec![1, d * h * w, i],
        }
    }

    /// Whether extents found outside are those of a parameter of `shape`. A 2D weight may lack the depth, a fully connected
    /// layer may be kept as a convolution or the other way round, and a vector may have axes of one element.
    pub fn is_same(self, found: &[usize], shape: Shape) -> bool {
        let is_one_vector = || found.iter().filter(|&&n| n != 1).count() <= 1;
        match (self, found) {
            (Self::Vector, _) => found.iter().product::<usize>() == shape.len() && is_one_vector(),
            (Self::Tokens, _) => found == self.extents(shape, false),
            (_, &[o, i]) => shape.0 == [o, i, 1, 1, 1],
            (_, &[o, i, h, w]) => shape.0 == [o, i, 1, h, w],
            (_, all) => shape.0.as_slice() == all,
        }
    }

    /// The elements as they lie here, of those as they lie outside.
    pub fn inwards(self, shape: Shape, data: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Tokens => transposed(&data, shape.voxels(), shape.c()),
            Self::Vector | Self::Window | Self::Matrix => data,
        }
    }

    /// The elements as they lie outside, of those as they lie here.
    pub fn outwards(self, shape: Shape, data: &[f32]) -> Vec<f32> {
        match self {
            Self::Tokens => transposed(data, shape.c(), shape.voxels()),
            Self::Vector | Self::Window | Self::Matrix => data.to_vec(),
        }
    }
}

/// A matrix of `rows` times `columns`, transposed.
fn transposed(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let column = |c: usize| (0..rows).map(move |r| data[r * columns + c]);
    (0..columns).flat_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_turned_and_turned_back() {
        let shape = Shape::new(1, 2, 1, 1, 3);
        let outside = vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        let inside = Axes::Tokens.inwards(shape, outside.clone());
        assert_eq!(inside, [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
        assert_eq!(Axes::Tokens.outwards(shape, &inside), outside);
        assert_eq!(Axes::Tokens.extents(shape, true), [1, 3, 2]);
        assert!(Axes::Tokens.is_same(&[1, 3, 2], shape));
        assert!(!Axes::Tokens.is_same(&[1, 2, 3], shape));
    }

    #[test]
    fn weights_lack_the_depth_in_2d() {
        let window = Shape::new(8, 4, 1, 3, 3);
        assert!(Axes::Window.is_same(&[8, 4, 3, 3], window));
        assert!(!Axes::Window.is_same(&[4, 8, 3, 3], window));
        assert_eq!(Axes::Window.extents(window, true), [8, 4, 3, 3]);
        assert_eq!(Axes::Window.extents(window, false), [8, 4, 1, 3, 3]);
        let matrix = Shape::new(8, 4, 1, 1, 1);
        assert!(
            Axes::Matrix.is_same(&[8, 4], matrix) && Axes::Matrix.is_same(&[8, 4, 1, 1], matrix)
        );
        assert_eq!(Axes::Vector.extents(Shape::vector(5), false), [5]);
        assert!(Axes::Vector.is_same(&[], Shape::scalar()));
        assert!(Axes::Vector.is_same(&[1, 1, 5], Shape::vector(5)));
        assert!(!Axes::Vector.is_same(&[4], Shape::vector(5)));
        let depthwise = Shape::new(4, 1, 3, 3, 3);
        assert!(!Axes::Window.is_same(&[1, 4, 3, 3, 3], depthwise));
    }
}
