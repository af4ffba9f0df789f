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
    /// z * Phi(z), Phi the distribution of the normal numbers.
    Gelu,
    /// z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 z^3))).
    GeluTanh,
    /// z where z > 0, else exp(z) - 1.
    Elu,
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
            Self::Gelu => z * normal(z),
            Self::GeluTanh => 0.5 * z * (1.0 + tanh_argument(z).tanh()),
            Self::Elu => z.max(0.0) + z.min(0.0).exp_m1(),
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
            Self::Gelu => normal(z) + z * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt(),
            Self::GeluTanh => {
                let t = tanh_argument(z).tanh();
                let steep = std::f64::consts::FRAC_2_PI.sqrt() * (1.0 + 3.0 * CUBE * z * z);
                0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * steep
            }
            Self::Elu => z.min(0.0).exp(),
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

/// The factor of z^3 in the approximation of Hendrycks and Gimpel 2016.
const CUBE: f64 = 0.044715;

fn tanh_argument(z: f64) -> f64 {
    std::f64::consts::FRAC_2_PI.sqrt() * (z + CUBE * z.powi(3))
}

/// Phi(z) = 1/2 + phi(z) * (z + z^3 / 3 + z^5 / (3 * 5) + ...), whose terms have one sign (Abramowitz and Stegun 26.2.11).
fn normal(z: f64) -> f64 {
    // Beyond, Phi differs from 0 or 1 by less than f64 resolves beside 1.
    let z = z.clamp(-8.5, 8.5);
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
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
