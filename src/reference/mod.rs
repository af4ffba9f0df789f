//! The operators in plain f64 loops on the CPU: the truth that every kernel is compared with.

pub mod activation;
pub mod attention;
pub mod border;
pub mod conv;
pub mod dropout;
pub mod elementwise;
pub mod gram;
pub mod loss;
pub mod matmul;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod resample;
pub mod softmax;
mod tolerance;

pub use tolerance::{Deviation, Tolerance};

use crate::tensor::Shape;

/// All (n, c, z, y, x) of a shape in the order of memory.
fn indices(shape: Shape) -> impl Iterator<Item = [usize; 5]> {
    let [_, c, d, h, w] = shape.0;
    (0..shape.len()).map(move |i| {
        let (row, plane) = (i / w, i / w / h);
        [plane / d / c, plane / d % c, plane % d, row % h, i % w]
    })
}
