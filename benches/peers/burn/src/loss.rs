//! The losses that burn does not have, from its tensor operations: logits (N, C, D, H, W), labels (N, 1, D, H, W).

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// One channel for each class.
fn one_hot(labels: &Tensor<5>, classes: usize) -> Tensor<5> {
    let of = |class: usize| labels.clone().equal_elem(class as f32).float();
    Tensor::cat((0..classes).map(of).collect(), 1)
}

/// Soft Dice, the mean over the classes but the background.
fn overlap(p: Tensor<5>, g: Tensor<5>) -> Tensor<1> {
    let classes = p.dims()[1];
    let sums = |t: Tensor<5>| t.sum_dims(&[2, 3, 4]);
    let below = sums(p.clone()) + sums(g.clone()) + 1e-5;
    let dice = (sums(p * g) * 2.0 + 1e-5) / below.clamp_min(1e-8);
    dice.narrow(1, 1, classes - 1).mean()
}

/// Cross-entropy - overlap.
pub fn dice_ce(logits: Tensor<5>, labels: &Tensor<5>) -> Tensor<1> {
    let g = one_hot(labels, logits.dims()[1]);
    let log_p = log_softmax(logits, 1);
    let entropy = -(log_p.clone() * g.clone()).sum_dim(1).mean();
    entropy - overlap(log_p.exp(), g)
}

/// Focal loss of gamma 2 - overlap.
pub fn dice_focal(logits: Tensor<5>, labels: &Tensor<5>) -> Tensor<1> {
    let g = one_hot(labels, logits.dims()[1]);
    let log_p = log_softmax(logits, 1);
    let log_truth = (log_p.clone() * g.clone()).sum_dim(1);
    let rest = -log_truth.clone().exp() + 1.0;
    let focal = -(rest.clone() * rest * log_truth).mean();
    focal - overlap(log_p.exp(), g)
}
