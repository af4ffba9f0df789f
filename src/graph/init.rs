//! How a parameter starts.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::tensor::Shape;

/// The first value of a parameter or state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All elements the same.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// He et al. 2015, eq. 14-15: normal with std = sqrt(2 / ((1 + a^2) * fan_in)), fan_in = C_in/groups * KD * KH * KW
    /// of a weight (C_out, C_in / groups, KD, KH, KW); `a` is the negative slope of the activation that follows.
    KaimingNormal {
        /// Negative slope.
        a: f32,
    },
    /// Uniform in [-bound, bound], bound = 1 / sqrt(fan_in): what PyTorch gives a bias beside a weight of that fan-in.
    UniformFanIn {
        /// Inputs summed into one output.
        fan_in: usize,
    },
}

impl Init {
    /// Draws the elements of a tensor of `shape` in order.
    pub fn fill(&self, shape: Shape, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let len = shape.len();
        match *self {
            Self::Constant(v) => vec![v; len],
            Self::Normal { std } => (0..len).map(|_| normal(rng) * std).collect(),
            Self::KaimingNormal { a } => {
                let fan_in = shape.per_sample().max(1) as f32;
                let std = (2.0 / ((1.0 + a * a) * fan_in)).sqrt();
                (0..len).map(|_| normal(rng) * std).collect()
            }
            Self::UniformFanIn { fan_in } => {
                let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
                (0..len).map(|_| rng.random_range(-bound..=bound)).collect()
            }
        }
    }
}

/// A standard normal by Box and Muller (1958), in f64 so that the tail is not cut by f32.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
