//! Activation functions in f64.

use crate::tensor::{HostTensor, Shape};

/// A function of one number and, for some, a slope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// max(z, 0).
    Relu,
    /// z where z > 0, else slope * z: leaky ReLU and PReLU.
    Leaky,
    /// min(max(z, 0), 6).
    Relu6,
    /// z * hard sigmoid(z).
    HardSwish,
    /// min(max(z + 3, 0), 6) / 6.
    HardSigmoid,
    /// 1 / (1 + exp(-z)).
    Sigmoid,
    /// z.
    Identity,
}

impl Function {
    /// The function.
    pub fn value(self, z: f64, slope: f64) -> f64 {
        match self {
            Self::Relu => z.max(0.0),
            Self::Leaky => z.max(0.0) + slope * z.min(0.0),
            Self::Relu6 => z.clamp(0.0, 6.0),
            Self::HardSwish => z * Self::HardSigmoid.value(z, slope),
            Self::HardSigmoid => (z + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Sigmoid => 1.0 / (1.0 + (-z).exp()),
            Self::Identity => z,
        }
    }

    /// Its derivative with respect to z; at a corner what PyTorch takes.
    pub fn derivative(self, z: f64, slope: f64) -> f64 {
        match self {
            Self::Relu => f64::from(z > 0.0),
            Self::Leaky if z > 0.0 => 1.0,
            Self::Leaky => slope,
            Self::Relu6 => f64::from(z > 0.0 && z < 6.0),
            Self::HardSwish if z <= -3.0 => 0.0,
            Self::HardSwish if z >= 3.0 => 1.0,
            Self::HardSwish => z / 3.0 + 0.5,
            Self::HardSigmoid => f64::from(z > -3.0 && z < 3.0) / 6.0,
            Self::Sigmoid => {
                let s = self.value(z, slope);
                s * self.value(-z, slope)
            }
            Self::Identity => 1.0,
        }
    }

    /// Its derivative with respect to the slope.
    pub fn slope_derivative(self, z: f64) -> f64 {
        match self {
            Self::Leaky => z.min(0.0),
            _ => 0.0,
        }
    }
}

/// The slope of channel c: one of C, or one for all.
pub fn slope_of(slopes: &[f64], c: usize) -> f64 {
    slopes[c.min(slopes.len() - 1)]
}

/// y = f(x); x, y (N, C, D, H, W), `slopes` C or 1 of them.
pub fn forward(f: Function, x: &HostTensor<f64>, slopes: &[f64]) -> HostTensor<f64> {
    let mut y = x.clone();
    for (i, v) in y.data.iter_mut().enumerate() {
        *v = f.value(*v, slope_of(slopes, channel(x.shape, i)));
    }
    y
}

/// dx and the gradient of the slopes (1, C, 1, 1, 1), for the upstream gradient dy.
pub fn backward(
    f: Function,
    x: &HostTensor<f64>,
    slopes: &[f64],
    dy: &HostTensor<f64>,
) -> (HostTensor<f64>, HostTensor<f64>) {
    let mut dx = dy.clone();
    let mut dslopes = HostTensor::zeros(Shape::vector(x.shape.c()));
    for (i, (d, &z)) in dx.data.iter_mut().zip(&x.data).enumerate() {
        let c = channel(x.shape, i);
        dslopes.data[c] += *d * f.slope_derivative(z);
        *d *= f.derivative(z, slope_of(slopes, c));
    }
    (dx, dslopes)
}

/// The channel of element i.
pub fn channel(shape: Shape, i: usize) -> usize {
    i / shape.voxels() % shape.c()
}
