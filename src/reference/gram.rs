//! Gram matrices of feature maps.

use crate::tensor::{HostTensor, Shape};

fn row(x: &HostTensor<f64>, n: usize, c: usize) -> &[f64] {
    let voxels = x.shape.voxels();
    &x.data[(n * x.shape.c() + c) * voxels..][..voxels]
}

/// G[n, i, j] = sum over the voxels of x[n, i] x[n, j], divided by C D H W; x (N, C, D, H, W), G (N, 1, 1, C, C).
pub fn gram(x: &HostTensor<f64>) -> HostTensor<f64> {
    let (n, c) = (x.shape.n(), x.shape.c());
    let size = x.shape.per_sample() as f64;
    let entry = |at: usize| {
        let (sample, i, j) = (at / c / c, at / c % c, at % c);
        let pairs = row(x, sample, i).iter().zip(row(x, sample, j));
        pairs.map(|(a, b)| a * b).sum::<f64>() / size
    };
    HostTensor {
        shape: Shape::new(n, 1, 1, c, c),
        data: (0..n * c * c).map(entry).collect(),
    }
}

/// The gradient of [`gram`]: dx[n, i] = sum over j of (dG[n, i, j] + dG[n, j, i]) x[n, j], divided by C D H W.
pub fn gram_backward(x: &HostTensor<f64>, dgram: &HostTensor<f64>) -> HostTensor<f64> {
    let (c, voxels) = (x.shape.c(), x.shape.voxels());
    let size = x.shape.per_sample() as f64;
    let entry = |at: usize| {
        let (n, i, voxel) = (at / voxels / c, at / voxels % c, at % voxels);
        let weight = |i: usize, j: usize| dgram.data[(n * c + i) * c + j];
        let terms = (0..c).map(|j| (weight(i, j) + weight(j, i)) * row(x, n, j)[voxel]);
        terms.sum::<f64>() / size
    };
    HostTensor {
        shape: x.shape,
        data: (0..x.data.len()).map(entry).collect(),
    }
}
