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
    /// One set for each voxel of each sample, over its channels: layer normalisation of tokens.
    PerVoxel,
}

impl Sets {
    /// Number of sets.
    pub fn count(self, shape: Shape) -> usize {
        match self {
            Self::PerSample { groups } => shape.n() * groups,
            Self::PerChannel => shape.c(),
            Self::PerVoxel => shape.n() * shape.voxels(),
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
            Self::PerVoxel => i / shape.per_sample() * shape.voxels() + i % shape.voxels(),
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

/// The constants of a normalisation: scale, shift (C each, or N * C where each sample has its own), activation and its slopes (C, or 1 for all).
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

/// The gradients of a normalisation; those of the slopes are (1, C, 1, 1, 1), those of scale and shift too or, where each
/// sample has its own, (N, C, 1, 1, 1).
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
    /// The place of the scale and the shift of element i.
    fn place(&self, shape: Shape, i: usize) -> usize {
        i / shape.voxels() % self.gamma.len()
    }

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
            let at = self.place(xhat.shape, i);
            *v = self.gamma[at] * *v + self.beta[at];
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
        let affine = Shape::new(self.gamma.len() / shape.c(), shape.c(), 1, 1, 1);
        let mut dgamma = HostTensor::zeros(affine);
        let mut dbeta = HostTensor::zeros(affine);
        let count = sets.count(shape);
        let share = if through_stats {
            count as f64 / x.data.len() as f64
        } else {
            0.0
        };
        let (mut a, mut b) = (vec![0.0; count], vec![0.0; count]);
        for (i, &d) in dz.data.iter().enumerate() {
            let (at, set) = (self.place(shape, i), sets.of(shape, i));
            dbeta.data[at] += d;
            dgamma.data[at] += d * xhat.data[i];
            a[set] += self.gamma[at] * d * share;
            b[set] += self.gamma[at] * d * xhat.data[i] * share;
        }
        let mut dx = dz;
        for (i, d) in dx.data.iter_mut().enumerate() {
            let (at, set) = (self.place(shape, i), sets.of(shape, i));
            *d = rstd[set] * (self.gamma[at] * *d - a[set] - b[set] * xhat.data[i]);
        }
        Gradients {
            dx,
            dgamma,
            dbeta,
            dslopes,
        }
    }
}

/// The rows of `table` (S, C, 1, 1, 1) that `index` (N, 1, 1, 1, 1) names; a row that is not there is NaN.
pub fn select_rows(table: &HostTensor<f64>, index: &HostTensor<f64>) -> HostTensor<f64> {
    let channels = table.shape.c();
    let row = |&wanted: &f64| {
        let known = (0..table.shape.n()).find(|&s| s as f64 == wanted);
        (0..channels).map(move |c| known.map_or(f64::NAN, |s| table.data[s * channels + c]))
    };
    HostTensor {
        shape: Shape::new(index.shape.n(), channels, 1, 1, 1),
        data: index.data.iter().flat_map(row).collect(),
    }
}

/// The gradient of [`select_rows`] with respect to a table of `rows` rows.
pub fn select_rows_backward(
    rows: usize,
    index: &HostTensor<f64>,
    dy: &HostTensor<f64>,
) -> HostTensor<f64> {
    let channels = dy.shape.c();
    let mut dtable = HostTensor::zeros(Shape::new(rows, channels, 1, 1, 1));
    for (row, wanted) in dy.data.chunks(channels).zip(&index.data) {
        for (c, d) in row.iter().enumerate() {
            dtable.data[*wanted as usize * channels + c] += d;
        }
    }
    dtable
}

/// Mean and sqrt(biased variance + eps) of each channel of each sample, (N, C, 1, 1, 1) each.
pub fn mean_deviation(x: &HostTensor<f64>, eps: f64) -> [HostTensor<f64>; 2] {
    let shape = Shape::new(x.shape.n(), x.shape.c(), 1, 1, 1);
    let groups = x.shape.c();
    let (mean, variance) = statistics(x, Sets::PerSample { groups });
    let deviation = variance.iter().map(|v| (v + eps).sqrt()).collect();
    [mean, deviation].map(|data| HostTensor { shape, data })
}

/// The gradient of [`mean_deviation`] with respect to x, for those of the mean and of the deviation.
pub fn mean_deviation_backward(
    x: &HostTensor<f64>,
    eps: f64,
    [dmean, ddeviation]: [&HostTensor<f64>; 2],
) -> HostTensor<f64> {
    let [mean, deviation] = mean_deviation(x, eps);
    let voxels = x.shape.voxels();
    let mut dx = x.clone();
    for (i, v) in dx.data.iter_mut().enumerate() {
        let row = i / voxels;
        let through_deviation = (*v - mean.data[row]) / deviation.data[row];
        *v = (dmean.data[row] + ddeviation.data[row] * through_deviation) / voxels as f64;
    }
    dx
}
