//! Normalisation in f64: statistics, application and the whole gradient.

use super::activation::{self, Function, channel};
use crate::tensor::{HostTensor, Shape};

/// The set of elements that share statistics, by number, for each element of a tensor; and how many sets there are.
#[derive(Clone, Copy, Debug)]
pub enum Sets {
    /// One set for each group of `C / groups` channels of each sample; `groups` = C is instance normalisation.
    PerSample {
        /// Groups.
        groups: usize,
    },
    /// One set for each channel, over all samples.
    PerChannel,
}

impl Sets {
    /// Number of sets.
    pub fn count(self, shape: Shape) -> usize {
        match self {
            Self::PerSample { groups } => shape.n() * groups,
            Self::PerChannel => shape.c(),
        }
    }

    /// The set of element i.
    pub fn of(self, shape: Shape, i: usize) -> usize {
        let c = channel(shape, i);
        match self {
            Self::PerSample { groups } => {
                i / shape.per_sample() * groups + c / (shape.c() / groups)
            }
            Self::PerChannel => c,
        }
    }
}

/// Mean and biased variance of each set.
pub fn statistics(x: &HostTensor<f64>, sets: Sets) -> (Vec<f64>, Vec<f64>) {
    let count = sets.count(x.shape);
    let size = (x.data.len() / count) as f64;
    let average = |term: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; count];
        for (i, &v) in x.data.iter().enumerate() {
            let set = sets.of(x.shape, i);
            sums[set] += term(set, v) / size;
        }
        sums
    };
    let mean = average(&|_, v| v);
    let variance = average(&|set, v| (v - mean[set]).powi(2));
    (mean, variance)
}

/// 1 / sqrt(variance + eps).
pub fn rstd(variance: &[f64], eps: f64) -> Vec<f64> {
    variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect()
}

/// The constants of a normalisation: scale, shift (C each), activation and its slopes (C, or 1 for all).
#[derive(Clone, Debug)]
pub struct Layer {
    /// Scale.
    pub gamma: Vec<f64>,
    /// Shift.
    pub beta: Vec<f64>,
    /// Activation.
    pub function: Function,
    /// Its slopes.
    pub slopes: Vec<f64>,
}

/// The gradients of a normalisation; those of the parameters are (1, C, 1, 1, 1).
#[derive(Clone, Debug)]
pub struct Gradients {
    /// With respect to x.
    pub dx: HostTensor<f64>,
    /// With respect to gamma.
    pub dgamma: HostTensor<f64>,
    /// With respect to beta.
    pub dbeta: HostTensor<f64>,
    /// With respect to the slopes.
    pub dslopes: HostTensor<f64>,
}

impl Layer {
    fn normalised(
        &self,
        x: &HostTensor<f64>,
        sets: Sets,
        mean: &[f64],
        rstd: &[f64],
    ) -> HostTensor<f64> {
        let mut xhat = x.clone();
        for (i, v) in xhat.data.iter_mut().enumerate() {
            let set = sets.of(x.shape, i);
            *v = (*v - mean[set]) * rstd[set];
        }
        xhat
    }

    fn scaled(&self, xhat: &HostTensor<f64>) -> HostTensor<f64> {
        let mut z = xhat.clone();
        for (i, v) in z.data.iter_mut().enumerate() {
            let c = channel(xhat.shape, i);
            *v = self.gamma[c] * *v + self.beta[c];
        }
        z
    }

    /// y = act(gamma * (x - mean) * rstd + beta).
    pub fn forward(
        &self,
        x: &HostTensor<f64>,
        sets: Sets,
        mean: &[f64],
        rstd: &[f64],
    ) -> HostTensor<f64> {
        let z = self.scaled(&self.normalised(x, sets, mean, rstd));
        activation::forward(self.function, &z, &self.slopes)
    }

    /// The gradients for the upstream gradient dy; with `through_stats` mean and rstd depend on x.
    pub fn backward(
        &self,
        x: &HostTensor<f64>,
        sets: Sets,
        (mean, rstd): (&[f64], &[f64]),
        dy: &HostTensor<f64>,
        through_stats: bool,
    ) -> Gradients {
        let shape = x.shape;
        let xhat = self.normalised(x, sets, mean, rstd);
        let z = self.scaled(&xhat);
        let (dz, dslopes) = activation::backward(self.function, &z, &self.slopes, dy);
        let mut dgamma = HostTensor::zeros(Shape::vector(shape.c()));
        let mut dbeta = HostTensor::zeros(Shape::vector(shape.c()));
        let count = sets.count(shape);
        let share = if through_stats {
            count as f64 / x.data.len() as f64
        } else {
            0.0
        };
        let (mut a, mut b) = (vec![0.0; count], vec![0.0; count]);
        for (i, &d) in dz.data.iter().enumerate() {
            let (c, set) = (channel(shape, i), sets.of(shape, i));
            dbeta.data[c] += d;
            dgamma.data[c] += d * xhat.data[i];
            a[set] += self.gamma[c] * d * share;
            b[set] += self.gamma[c] * d * xhat.data[i] * share;
        }
        let mut dx = dz;
        for (i, d) in dx.data.iter_mut().enumerate() {
            let (c, set) = (channel(shape, i), sets.of(shape, i));
            *d = rstd[set] * (self.gamma[c] * *d - a[set] - b[set] * xhat.data[i]);
        }
        Gradients {
            dx,
            dgamma,
            dbeta,
            dslopes,
        }
    }
}
