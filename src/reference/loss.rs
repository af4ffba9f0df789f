//! Losses of segmentation and of the classes of images, and their gradients.
//!
//! Written in two steps that the kernels fuse: probabilities p and one-hot truth g first, then losses as functions of
//! them; gradients go back from p to the logits by the Jacobian of softmax or sigmoid.

use crate::tensor::{HostTensor, Shape};

/// A loss and its gradient with respect to logits or probabilities.
#[derive(Clone, Debug)]
pub struct Graded {
    /// The loss.
    pub loss: f64,
    /// Its gradient, (N, C, D, H, W).
    pub gradient: HostTensor<f64>,
}

/// A score of one class from I = sum(p g), P = sum(p^k), G = sum(g), with its derivatives by I and P.
pub struct Score {
    /// The score.
    pub value: f64,
    /// d value / d I.
    pub by_intersection: f64,
    /// d value / d P.
    pub by_predicted: f64,
}

/// All (n, c, voxel) positions of `shape`, with the place of each in memory.
fn positions(shape: Shape) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let (c, voxels) = (shape.c(), shape.voxels());
    (0..shape.len()).map(move |at| (at / voxels / c, at / voxels % c, at % voxels, at))
}

/// p = softmax of logits (N, C, D, H, W) over C.
pub fn softmax(x: &HostTensor<f64>) -> HostTensor<f64> {
    let mut p = x.clone();
    let (voxels, per_sample) = (x.shape.voxels(), x.shape.per_sample());
    for n in 0..x.shape.n() {
        for i in 0..voxels {
            let at: Vec<usize> = (0..x.shape.c())
                .map(|c| n * per_sample + c * voxels + i)
                .collect();
            let largest = at.iter().map(|&a| x.data[a]).fold(f64::MIN, f64::max);
            let sum: f64 = at.iter().map(|&a| (x.data[a] - largest).exp()).sum();
            for &a in &at {
                p.data[a] = (x.data[a] - largest).exp() / sum;
            }
        }
    }
    p
}

/// p = 1 / (1 + e^-x).
pub fn sigmoid(x: &HostTensor<f64>) -> HostTensor<f64> {
    let data = x.data.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
    HostTensor {
        shape: x.shape,
        data,
    }
}

/// dL/dx from p = softmax(x) and dL/dp: dx_c = p_c (dp_c - sum_j p_j dp_j).
pub fn through_softmax(p: &HostTensor<f64>, dp: &HostTensor<f64>) -> HostTensor<f64> {
    let mut mean = vec![0.0; p.shape.n() * p.shape.voxels()];
    for (n, _, i, at) in positions(p.shape) {
        mean[n * p.shape.voxels() + i] += p.data[at] * dp.data[at];
    }
    let data = positions(p.shape)
        .map(|(n, _, i, at)| p.data[at] * (dp.data[at] - mean[n * p.shape.voxels() + i]));
    HostTensor {
        shape: p.shape,
        data: data.collect(),
    }
}

/// dL/dx from p = sigmoid(x) and dL/dp: dx = p (1 - p) dp.
pub fn through_sigmoid(p: &HostTensor<f64>, dp: &HostTensor<f64>) -> HostTensor<f64> {
    let data = p.data.iter().zip(&dp.data).map(|(p, d)| p * (1.0 - p) * d);
    HostTensor {
        shape: p.shape,
        data: data.collect(),
    }
}

/// Labels (N, 1, D, H, W) as g (N, C, D, H, W), and 1 for each voxel that counts (N, 1, D, H, W): not of the ignored
/// label and of one of the `classes`.
pub fn one_hot(
    labels: &HostTensor<f64>,
    classes: usize,
    ignore_label: Option<u32>,
) -> (HostTensor<f64>, HostTensor<f64>) {
    let mut g = HostTensor::zeros(labels.shape.with_c(classes));
    let mut mask = HostTensor::zeros(labels.shape);
    let voxels = labels.shape.voxels();
    for (at, &label) in labels.data.iter().enumerate() {
        let counts = (0.0..classes as f64).contains(&label)
            && ignore_label.is_none_or(|ignored| f64::from(ignored) != label);
        if counts {
            mask.data[at] = 1.0;
            let (n, i) = (at / voxels, at % voxels);
            g.data[n * classes * voxels + label as usize * voxels + i] = 1.0;
        }
    }
    (g, mask)
}

/// -sum(v (1 - p_t)^gamma log p_t) / divisor of logits against g, with v (N, 1, D, H, W) the weight of each voxel, its
/// class weight and mask included; 0 where the divisor is. `gamma` 0 is cross-entropy.
pub fn softmax_pixel_loss(
    x: &HostTensor<f64>,
    g: &HostTensor<f64>,
    v: &HostTensor<f64>,
    gamma: f64,
    divisor: f64,
) -> Graded {
    let (voxels, per_sample) = (x.shape.voxels(), x.shape.per_sample());
    let scale = if divisor > 0.0 { 1.0 / divisor } else { 0.0 };
    let p = softmax(x);
    let mut graded = Graded {
        loss: 0.0,
        gradient: HostTensor::zeros(x.shape),
    };
    for (n, t, i, at) in positions(x.shape) {
        if g.data[at] == 0.0 {
            continue;
        }
        let place = |c: usize| n * per_sample + c * voxels + i;
        let classes = 0..x.shape.c();
        let largest = classes
            .clone()
            .map(|c| x.data[place(c)])
            .fold(f64::MIN, f64::max);
        let sum: f64 = classes
            .clone()
            .map(|c| (x.data[place(c)] - largest).exp())
            .sum();
        let log_p = x.data[at] - largest - sum.ln();
        let rest: f64 = classes
            .clone()
            .filter(|&c| c != t)
            .map(|c| p.data[place(c)])
            .sum();
        let (value, slope) = focal(log_p, rest, gamma);
        let weight = v.data[n * voxels + i] * scale;
        graded.loss += weight * value;
        for c in classes {
            let by_logit = if c == t { rest } else { -p.data[place(c)] };
            graded.gradient.data[place(c)] += weight * slope * by_logit;
        }
    }
    graded
}

/// As [`softmax_pixel_loss`] for sigmoid and regions g, each channel by itself; v (N, 1, D, H, W).
pub fn sigmoid_pixel_loss(
    x: &HostTensor<f64>,
    g: &HostTensor<f64>,
    v: &HostTensor<f64>,
    gamma: f64,
    divisor: f64,
) -> Graded {
    let mut graded = Graded {
        loss: 0.0,
        gradient: HostTensor::zeros(x.shape),
    };
    for (n, _, i, at) in positions(x.shape) {
        let sign = 2.0 * g.data[at] - 1.0;
        let z = sign * x.data[at];
        let rest = 1.0 / (1.0 + z.exp());
        let log_p = z.min(0.0) - (-z.abs()).exp().ln_1p();
        let (value, slope) = focal(log_p, rest, gamma);
        let weight = v.data[n * x.shape.voxels() + i] / divisor;
        graded.loss += weight * value;
        graded.gradient.data[at] = weight * slope * rest * sign;
    }
    graded
}

/// -mean over N of sum over K of q log p of logits (N, K, 1, 1, 1) against classes (N, 1, 1, 1, 1), p = softmax,
/// q = (1 - smoothing) one-hot + smoothing / K; a sample whose number is no class adds nothing.
pub fn class_entropy(x: &HostTensor<f64>, classes: &HostTensor<f64>, smoothing: f64) -> Graded {
    let (n, k) = (x.shape.n(), x.shape.c());
    let mut graded = Graded {
        loss: 0.0,
        gradient: HostTensor::zeros(x.shape),
    };
    for (i, logits) in x.data.chunks_exact(k).enumerate() {
        if !(0.0..k as f64).contains(&classes.data[i]) {
            continue;
        }
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = logits.iter().map(|v| (v - largest).exp()).sum();
        for (c, &logit) in logits.iter().enumerate() {
            let own = f64::from(c == classes.data[i] as usize);
            let q = (1.0 - smoothing) * own + smoothing / k as f64;
            let log_p = logit - largest - total.ln();
            graded.loss -= q * log_p / n as f64;
            graded.gradient.data[i * k + c] = (log_p.exp() - q) / n as f64;
        }
    }
    graded
}

/// -(1 - p)^gamma log p and its derivative by log p; rest = 1 - p.
fn focal(log_p: f64, rest: f64, gamma: f64) -> (f64, f64) {
    let held = rest.powf(gamma);
    let slope = if gamma == 0.0 {
        -1.0
    } else {
        gamma * rest.powf(gamma - 1.0) * log_p.exp() * log_p - held
    };
    (-held * log_p, slope)
}

/// I, P, G of each sample and class, `[n][c]`, over the voxels of `mask` (N, 1, D, H, W); P = sum(p^power).
pub fn overlap_sums(
    p: &HostTensor<f64>,
    g: &HostTensor<f64>,
    mask: &HostTensor<f64>,
    power: i32,
) -> Vec<Vec<[f64; 3]>> {
    let mut sums = vec![vec![[0.0; 3]; p.shape.c()]; p.shape.n()];
    for (n, c, i, at) in positions(p.shape) {
        let m = mask.data[n * p.shape.voxels() + i];
        let of = &mut sums[n][c];
        of[0] += m * p.data[at] * g.data[at];
        of[1] += m * p.data[at].powi(power);
        of[2] += m * g.data[at];
    }
    sums
}

/// Sums of the batch in place of those of each sample.
fn over_batch(sums: &[Vec<[f64; 3]>]) -> Vec<Vec<[f64; 3]>> {
    let classes = sums.first().map_or(0, Vec::len);
    let total = (0..classes)
        .map(|c| [0, 1, 2].map(|k| sums.iter().map(|s| s[c][k]).sum()))
        .collect();
    vec![total]
}

/// How the overlap of classes is scored: from the (I, P, G) of all classes that count, the scores to average. Scores that
/// join classes give one value and spread its derivatives.
pub type Scoring<'a> = &'a dyn Fn(&[[f64; 3]]) -> Vec<Score>;

/// `offset` - mean of the scores over samples (or the batch) and classes from `first_class` on, and its gradient with
/// respect to p. `joint` says that the scores of one sample are shares of a single one, so that they are added.
#[derive(Clone, Copy)]
pub struct Overlap<'a> {
    /// The scores.
    pub scoring: Scoring<'a>,
    /// Exponent of p in P.
    pub power: i32,
    /// What the mean is taken from.
    pub offset: f64,
    /// Whether scores of one sample are shares of one.
    pub joint: bool,
    /// Whether sums run over the batch.
    pub batch: bool,
    /// The first class that counts.
    pub first_class: usize,
}

impl Overlap<'_> {
    /// The loss and its gradient with respect to p.
    pub fn loss(&self, p: &HostTensor<f64>, g: &HostTensor<f64>, mask: &HostTensor<f64>) -> Graded {
        let mut sums = overlap_sums(p, g, mask, self.power);
        if self.batch {
            sums = over_batch(&sums);
        }
        let scores: Vec<Vec<Score>> = sums
            .iter()
            .map(|s| (self.scoring)(&s[self.first_class..]))
            .collect();
        let per_sample = if self.joint { 1 } else { scores[0].len() };
        let number = (scores.len() * per_sample) as f64;
        let total: f64 = scores.iter().flatten().map(|s| s.value).sum();
        let mut gradient = HostTensor::zeros(p.shape);
        for (n, c, i, at) in positions(p.shape) {
            if c < self.first_class {
                continue;
            }
            let score = &scores[if self.batch { 0 } else { n }][c - self.first_class];
            let by_power = f64::from(self.power) * p.data[at].powi(self.power - 1);
            let slope = score.by_intersection * g.data[at] + score.by_predicted * by_power;
            gradient.data[at] = -mask.data[n * p.shape.voxels() + i] * slope / number;
        }
        Graded {
            loss: self.offset - total / number,
            gradient,
        }
    }
}

/// (2 I + s) / max(P + G + s, 1e-8) of each class.
pub fn dice_scores(sums: &[[f64; 3]], smooth: f64) -> Vec<Score> {
    sums.iter()
        .map(|[i, p, g]| {
            let below = (p + g + smooth).max(1e-8);
            let value = (2.0 * i + smooth) / below;
            Score {
                value,
                by_intersection: 2.0 / below,
                by_predicted: -value / below,
            }
        })
        .collect()
}

/// (I + s) / (I + alpha (P - I) + beta (G - I) + s) of each class.
pub fn tversky_scores(sums: &[[f64; 3]], alpha: f64, beta: f64, smooth: f64) -> Vec<Score> {
    sums.iter()
        .map(|[i, p, g]| {
            let below = i + alpha * (p - i) + beta * (g - i) + smooth;
            let value = (i + smooth) / below;
            Score {
                value,
                by_intersection: 1.0 / below - value * (1.0 - alpha - beta) / below,
                by_predicted: -value * alpha / below,
            }
        })
        .collect()
}

/// 2 sum_c(w I) / sum_c(w (P + G)), w = 1 / G^2, for classes without a voxel the largest of the others'; the share of each
/// class in the numerator is its value.
pub fn generalised_scores(sums: &[[f64; 3]]) -> Vec<Score> {
    let inverse = |g: f64| if g > 0.0 { 1.0 / (g * g) } else { 0.0 };
    let largest = sums.iter().map(|s| inverse(s[2])).fold(0.0, f64::max);
    let weight = |s: &[f64; 3]| if s[2] > 0.0 { inverse(s[2]) } else { largest };
    let above: f64 = sums.iter().map(|s| 2.0 * weight(s) * s[0]).sum();
    let below: f64 = sums.iter().map(|s| weight(s) * (s[1] + s[2])).sum();
    sums.iter()
        .map(|s| Score {
            value: 2.0 * weight(s) * s[0] / below,
            by_intersection: 2.0 * weight(s) / below,
            by_predicted: -above * weight(s) / (below * below),
        })
        .collect()
}

/// The mean of (a - b)^2 over all elements, a scalar.
pub fn mean_squared(a: &HostTensor<f64>, b: &HostTensor<f64>) -> HostTensor<f64> {
    let pairs = a.data.iter().zip(&b.data);
    let sum: f64 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
    HostTensor {
        shape: Shape::scalar(),
        data: vec![sum / a.data.len() as f64],
    }
}

/// The gradient of [`mean_squared`] with respect to a, for the upstream gradient dy.
pub fn mean_squared_gradient(a: &HostTensor<f64>, b: &HostTensor<f64>, dy: f64) -> HostTensor<f64> {
    let scale = 2.0 * dy / a.data.len() as f64;
    let pairs = a.data.iter().zip(&b.data);
    HostTensor {
        shape: a.shape,
        data: pairs.map(|(a, b)| scale * (a - b)).collect(),
    }
}
