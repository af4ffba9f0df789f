//! Dropout: the same random number as the kernel, the rest in f64.

use crate::tensor::HostTensor;

/// The number of a unit (an element, or a channel of a sample): pcg3d, Jarzynski and Olano 2020, first component.
pub fn draw(unit: u32, seed: u32, salt: u32) -> u32 {
    let [mut x, mut y, mut z] =
        [unit, seed, salt].map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    x = x.wrapping_add(y.wrapping_mul(z));
    y = y.wrapping_add(z.wrapping_mul(x));
    z = z.wrapping_add(x.wrapping_mul(y));
    [x, y, z] = [x, y, z].map(|v| v ^ (v >> 16));
    x.wrapping_add(y.wrapping_mul(z))
}

/// x / (1 - p) where the number of the element's unit is at least p * 2^32, else 0; `unit` elements make a unit.
pub fn apply(x: &HostTensor<f64>, p: f64, unit: usize, [seed, salt]: [u32; 2]) -> HostTensor<f64> {
    let threshold = (p * 2f64.powi(32)) as u32;
    let mut y = x.clone();
    for (i, v) in y.data.iter_mut().enumerate() {
        let kept = draw((i / unit) as u32, seed, salt) >= threshold;
        *v = if kept { *v / (1.0 - p) } else { 0.0 };
    }
    y
}
