//! Optimiser steps and clipping.

use crate::tensor::HostTensor;

/// The Euclidean norm of all gradients together.
pub fn gradient_norm(grads: &[HostTensor<f64>]) -> f64 {
    let squares = grads.iter().flat_map(|g| &g.data).map(|v| v * v);
    squares.sum::<f64>().sqrt()
}

/// min(1, max_norm / (norm + 1e-6)), the factor of torch's `clip_grad_norm_`; 1 without a limit.
pub fn clip_scale(norm: f64, max_norm: Option<f64>) -> f64 {
    max_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

/// Stochastic gradient descent with momentum, as torch.optim.SGD without dampening.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Share of the last velocity that is kept.
    pub momentum: f64,
    /// Added to the gradient times the parameter.
    pub weight_decay: f64,
    /// Whether the step looks ahead along the momentum.
    pub nesterov: bool,
}

impl Sgd {
    /// One step of the parameter `w` and its velocity `m`, in place: g' = g + weight_decay w; m = momentum m + g';
    /// w -= lr (g' + momentum m) with Nesterov, else lr m. `g` is clipped already; all have one shape.
    pub fn step(&self, [w, m]: [&mut HostTensor<f64>; 2], g: &HostTensor<f64>, learning_rate: f64) {
        for ((w, m), g) in w.data.iter_mut().zip(&mut m.data).zip(&g.data) {
            let slope = g + self.weight_decay * *w;
            *m = self.momentum * *m + slope;
            let direction = if self.nesterov {
                slope + self.momentum * *m
            } else {
                *m
            };
            *w -= learning_rate * direction;
        }
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of the parameter, times the learning rate.
    pub weight_decay: f64,
}

impl AdamW {
    /// Step `t`, counted from 1, of the parameter `w` and its moments `m` and `v`, in place: m = beta1 m + (1 - beta1) g;
    /// v = beta2 v + (1 - beta2) g^2; w -= lr (mhat / (sqrt(vhat) + epsilon) + weight_decay w) with mhat =
    /// m / (1 - beta1^t), vhat = v / (1 - beta2^t). `g` is clipped already; all have one shape.
    pub fn step(
        &self,
        [w, m, v]: [&mut HostTensor<f64>; 3],
        g: &HostTensor<f64>,
        learning_rate: f64,
        t: u32,
    ) {
        let [rest1, rest2] = [self.beta1, self.beta2].map(|beta| 1.0 - beta.powf(f64::from(t)));
        for (i, g) in g.data.iter().enumerate() {
            let mean = self.beta1 * m.data[i] + (1.0 - self.beta1) * g;
            let square = self.beta2 * v.data[i] + (1.0 - self.beta2) * g * g;
            (m.data[i], v.data[i]) = (mean, square);
            let direction = mean / rest1 / ((square / rest2).sqrt() + self.epsilon);
            w.data[i] -= learning_rate * (direction + self.weight_decay * w.data[i]);
        }
    }
}
