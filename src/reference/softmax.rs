//! Softmax over the channels in f64.

use crate::tensor::HostTensor;

/// Calls `visit` with the positions of the channels of each voxel.
fn for_each_voxel(x: &HostTensor<f64>, mut visit: impl FnMut(&[usize])) {
    let (voxels, per_sample) = (x.shape.voxels(), x.shape.per_sample());
    for n in 0..x.shape.n() {
        for v in 0..voxels {
            let column: Vec<usize> = (0..x.shape.c())
                .map(|c| n * per_sample + c * voxels + v)
                .collect();
            visit(&column);
        }
    }
}

/// y = exp(x) / sum over C of exp(x).
pub fn forward(x: &HostTensor<f64>) -> HostTensor<f64> {
    let mut y = x.clone();
    for_each_voxel(x, |column| {
        let largest = column.iter().map(|&i| x.data[i]).fold(f64::MIN, f64::max);
        let total: f64 = column.iter().map(|&i| (x.data[i] - largest).exp()).sum();
        for &i in column {
            y.data[i] = (x.data[i] - largest).exp() / total;
        }
    });
    y
}

/// dx = y * (dy - sum over C of y * dy), y the output.
pub fn backward(y: &HostTensor<f64>, dy: &HostTensor<f64>) -> HostTensor<f64> {
    let mut dx = y.clone();
    for_each_voxel(y, |column| {
        let inner: f64 = column.iter().map(|&i| y.data[i] * dy.data[i]).sum();
        for &i in column {
            dx.data[i] = y.data[i] * (dy.data[i] - inner);
        }
    });
    dx
}
