//! The fully connected layer.

use crate::tensor::{HostTensor, Shape};

/// Element (row, column) of a tensor (rows, columns, 1, 1, 1).
fn element(t: &HostTensor<f64>, row: usize, column: usize) -> f64 {
    t.at([row, column, 0, 0, 0])
}

fn fill(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> HostTensor<f64> {
    HostTensor {
        shape: Shape::new(rows, columns, 1, 1, 1),
        data: (0..rows * columns)
            .map(|i| value(i / columns, i % columns))
            .collect(),
    }
}

/// y = x w^T + b; x (N, C_in, 1, 1, 1), w (C_out, C_in, 1, 1, 1), b (1, C_out, 1, 1, 1), y (N, C_out, 1, 1, 1).
pub fn linear(
    x: &HostTensor<f64>,
    w: &HostTensor<f64>,
    b: Option<&HostTensor<f64>>,
) -> HostTensor<f64> {
    fill(x.shape.n(), w.shape.n(), |n, o| {
        let sum: f64 = (0..x.shape.c())
            .map(|i| element(x, n, i) * element(w, o, i))
            .sum();
        sum + b.map_or(0.0, |b| element(b, 0, o))
    })
}

/// The gradients (dx, dw, db) of [`linear`].
pub fn linear_backward(
    x: &HostTensor<f64>,
    w: &HostTensor<f64>,
    dy: &HostTensor<f64>,
) -> [HostTensor<f64>; 3] {
    let (samples, inputs, outputs) = (x.shape.n(), x.shape.c(), w.shape.n());
    [
        fill(samples, inputs, |n, i| {
            (0..outputs)
                .map(|o| element(dy, n, o) * element(w, o, i))
                .sum()
        }),
        fill(outputs, inputs, |o, i| {
            (0..samples)
                .map(|n| element(dy, n, o) * element(x, n, i))
                .sum()
        }),
        fill(1, outputs, |_, o| {
            (0..samples).map(|n| element(dy, n, o)).sum()
        }),
    ]
}
