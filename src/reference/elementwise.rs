//! Element by element operators.

use crate::tensor::HostTensor;

/// y = a + b.
pub fn add(a: &HostTensor<f64>, b: &HostTensor<f64>) -> HostTensor<f64> {
    HostTensor {
        shape: a.shape,
        data: a.data.iter().zip(&b.data).map(|(a, b)| a + b).collect(),
    }
}
