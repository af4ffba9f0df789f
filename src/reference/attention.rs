//! Multi-head self-attention in f64, with the whole matrix of weights.

use crate::tensor::HostTensor;

/// Where the parts of a sample's head lie: queries, keys and values (N, 3 E, D, H, W) side by side.
struct Head<'a> {
    qkv: &'a HostTensor<f64>,
    first: [usize; 3],
    channels: usize,
    tokens: usize,
}

impl Head<'_> {
    /// Element `c` of token `t` of part 0 (queries), 1 (keys) or 2 (values).
    fn at(&self, part: usize, c: usize, t: usize) -> f64 {
        self.qkv.data[self.index(part, c, t)]
    }

    fn index(&self, part: usize, c: usize, t: usize) -> usize {
        self.first[part] + c * self.tokens + t
    }

    fn scale(&self) -> f64 {
        1.0 / (self.channels as f64).sqrt()
    }

    /// The weights p[i][j] of query i, and the logarithm of their denominator.
    fn weights(&self, i: usize) -> (Vec<f64>, f64) {
        let score = |j: usize| -> f64 {
            let products = (0..self.channels).map(|c| self.at(0, c, i) * self.at(1, c, j));
            self.scale() * products.sum::<f64>()
        };
        let scores: Vec<f64> = (0..self.tokens).map(score).collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        let weights = scores.iter().map(|s| (s - largest).exp() / total).collect();
        (weights, largest + total.ln())
    }
}

/// Calls `visit` with each head, and its first element in (N, E, D, H, W) and in (N, heads, D, H, W).
fn for_each_head(
    qkv: &HostTensor<f64>,
    heads: usize,
    mut visit: impl FnMut(&Head<'_>, usize, usize),
) {
    let (tokens, all) = (qkv.shape.voxels(), qkv.shape.c() / 3);
    let channels = all / heads;
    for n in 0..qkv.shape.n() {
        for h in 0..heads {
            let first = [0, 1, 2].map(|part| (n * 3 * all + part * all + h * channels) * tokens);
            let head = Head {
                qkv,
                first,
                channels,
                tokens,
            };
            visit(
                &head,
                (n * all + h * channels) * tokens,
                (n * heads + h) * tokens,
            );
        }
    }
}

/// y = softmax(q . k / sqrt(d)) v for each head, (N, E, D, H, W), and the logarithms of the denominators, (N, heads, D, H, W).
pub fn forward(qkv: &HostTensor<f64>, heads: usize) -> [HostTensor<f64>; 2] {
    let mut y = HostTensor::zeros(qkv.shape.with_c(qkv.shape.c() / 3));
    let mut logarithms = HostTensor::zeros(qkv.shape.with_c(heads));
    for_each_head(qkv, heads, |head, to_y, to_row| {
        for i in 0..head.tokens {
            let (weights, logarithm) = head.weights(i);
            logarithms.data[to_row + i] = logarithm;
            for c in 0..head.channels {
                let terms = weights.iter().enumerate();
                y.data[to_y + c * head.tokens + i] = terms.map(|(j, p)| p * head.at(2, c, j)).sum();
            }
        }
    });
    [y, logarithms]
}

/// The gradient of `qkv` for the upstream gradient dy (N, E, D, H, W).
pub fn backward(qkv: &HostTensor<f64>, heads: usize, dy: &HostTensor<f64>) -> HostTensor<f64> {
    let mut grad = HostTensor::zeros(qkv.shape);
    for_each_head(qkv, heads, |head, to_y, _| {
        let upstream = |c: usize, i: usize| dy.data[to_y + c * head.tokens + i];
        for i in 0..head.tokens {
            let (weights, _) = head.weights(i);
            let of_weight = |j: usize| -> f64 {
                (0..head.channels)
                    .map(|c| upstream(c, i) * head.at(2, c, j))
                    .sum()
            };
            let dp: Vec<f64> = (0..head.tokens).map(of_weight).collect();
            let mean: f64 = weights.iter().zip(&dp).map(|(p, d)| p * d).sum();
            for (j, (p, d)) in weights.iter().zip(&dp).enumerate() {
                let ds = p * (d - mean) * head.scale();
                for c in 0..head.channels {
                    grad.data[head.index(0, c, i)] += ds * head.at(1, c, j);
                    grad.data[head.index(1, c, j)] += ds * head.at(0, c, i);
                    grad.data[head.index(2, c, j)] += p * upstream(c, i);
                }
            }
        }
    });
    grad
}
