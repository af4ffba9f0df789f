//! Inputs away from kinks, and what operators should give for them, in f64.

use voxseg::reference::activation::Function;
use voxseg::reference::loss;
use voxseg::reference::norm::{Layer, Sets, rstd, statistics};
use voxseg::tensor::{HostTensor, Shape};

/// Added to variances.
pub const EPS: f32 = 1e-5;

/// Levels -7.5, -6.5, ..., 7.5 in a scattered order: none is normalised to nearly 0, where rounding would decide on which
/// side of a rectifier's corner a voxel lies.
pub fn levels(shape: Shape) -> HostTensor {
    HostTensor {
        shape,
        data: (0..shape.len())
            .map(|i| (i * 7919 / 13 % 16) as f32 - 7.5)
            .collect(),
    }
}

/// A class from 0 to 3 for each voxel of `shape`, scattered.
pub fn labels(shape: Shape) -> HostTensor {
    HostTensor {
        shape: shape.with_c(1),
        data: (0..shape.n() * shape.voxels())
            .map(|i| (i * 7919 / 13 % 4) as f32)
            .collect(),
    }
}

/// A vector of one value.
pub fn filled(len: usize, value: f32) -> HostTensor {
    HostTensor {
        shape: Shape::vector(len),
        data: vec![value; len],
    }
}

/// y, dx, dgamma, dbeta and the slopes' gradients of instance norm and `function`, from x, gamma, beta and dy.
pub fn instance_norm(
    [x, gamma, beta, dy]: [&HostTensor<f64>; 4],
    function: Function,
    slopes: Vec<f64>,
) -> Vec<HostTensor<f64>> {
    let sets = Sets::PerSample {
        groups: x.shape.c(),
    };
    let (mean, variance) = statistics(x, sets);
    let layer = Layer {
        gamma: gamma.data.clone(),
        beta: beta.data.clone(),
        function,
        slopes,
    };
    let rstd = rstd(&variance, f64::from(EPS));
    let y = layer.forward(x, sets, &mean, &rstd);
    let gradients = layer.backward(x, sets, (&mean, &rstd), dy, true);
    let parameters = [gradients.dgamma, gradients.dbeta, gradients.dslopes];
    [y, gradients.dx].into_iter().chain(parameters).collect()
}

/// The value of focal loss (cross-entropy where `gamma` is 0) plus soft Dice without background, and its gradient.
pub fn segmentation_loss(
    logits: &HostTensor<f64>,
    labels: &HostTensor<f64>,
    gamma: f64,
) -> Vec<HostTensor<f64>> {
    let shape = logits.shape;
    let (g, mask) = loss::one_hot(labels, shape.c(), None);
    let voxels = (shape.n() * shape.voxels()) as f64;
    let pixel = loss::softmax_pixel_loss(logits, &g, &mask, gamma, voxels);
    let overlap = loss::Overlap {
        scoring: &|sums| loss::dice_scores(sums, 1e-5),
        power: 1,
        offset: 0.0,
        joint: false,
        batch: false,
        first_class: 1,
    };
    let p = loss::softmax(logits);
    let dice = overlap.loss(&p, &g, &mask);
    let mut gradient = loss::through_softmax(&p, &dice.gradient);
    for (sum, part) in gradient.data.iter_mut().zip(&pixel.gradient.data) {
        *sum += part;
    }
    let value = HostTensor {
        shape: Shape::scalar(),
        data: vec![pixel.loss + dice.loss],
    };
    vec![value, gradient]
}
