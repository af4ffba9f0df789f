//! Element by element operators.

use crate::tensor::HostTensor;

/// y = a + b.
pub fn add(a: &HostTensor<f64>, b: &HostTensor<f64>) -> HostTensor<f64> {
    HostTensor {
        shape: a.shape,
        data: a.data.iter().zip(&b.data).map(|(a, b)| a + b).collect(),
    }
}

/// y = a * b.
pub fn multiply(a: &HostTensor<f64>, b: &HostTensor<f64>) -> HostTensor<f64> {
    HostTensor {
        shape: a.shape,
        data: a.data.iter().zip(&b.data).map(|(a, b)| a * b).collect(),
    }
}

/// y[n, c] = scale[n, c] * x[n, c]; x (N, C, D, H, W), scale (N, C, 1, 1, 1).
pub fn scale_channels(x: &HostTensor<f64>, scale: &HostTensor<f64>) -> HostTensor<f64> {
    let mut y = x.clone();
    for (i, v) in y.data.iter_mut().enumerate() {
        *v *= scale.data[i / x.shape.voxels()];
    }
    y
}

/// sum(a * b) over the voxels of each channel of each sample, (N, C, 1, 1, 1): the gradient of the scale.
pub fn channel_products(a: &HostTensor<f64>, b: &HostTensor<f64>) -> HostTensor<f64> {
    let mut y = HostTensor::zeros(a.shape.with_spatial([1, 1, 1]));
    let voxels = a.shape.voxels();
    for (i, (a, b)) in a.data.iter().zip(&b.data).enumerate() {
        y.data[i / voxels] += a * b;
    }
    y
}

/// y[n, c, v] = scale[n, v] * x[n, c, v]; x (N, C, D, H, W), scale (N, 1, D, H, W).
pub fn scale_voxels(x: &HostTensor<f64>, scale: &HostTensor<f64>) -> HostTensor<f64> {
    let mut y = x.clone();
    let (voxels, per_sample) = (x.shape.voxels(), x.shape.per_sample());
    for (i, v) in y.data.iter_mut().enumerate() {
        *v *= scale.data[i / per_sample * voxels + i % voxels];
    }
    y
}

/// sum(a * b) over the channels of each voxel, (N, 1, D, H, W): the gradient of the scale of [`scale_voxels`].
pub fn channel_dot(a: &HostTensor<f64>, b: &HostTensor<f64>) -> HostTensor<f64> {
    let mut y = HostTensor::zeros(a.shape.with_c(1));
    let (voxels, per_sample) = (a.shape.voxels(), a.shape.per_sample());
    for (i, (a, b)) in a.data.iter().zip(&b.data).enumerate() {
        y.data[i / per_sample * voxels + i % voxels] += a * b;
    }
    y
}
