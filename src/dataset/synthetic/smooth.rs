//! Smooth random fields: sums of plane waves.

use std::f64::consts::TAU;
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A direction or position in mm: x, y, z.
pub(super) type Vector = [f64; 3];

pub(super) fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// A standard normal by Box and Muller (1958).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let u = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
}

/// A vector of the given length in a direction uniform on the sphere.
pub(super) fn random_direction(rng: &mut ChaCha8Rng, length: f64) -> Vector {
    let v = [normal(rng), normal(rng), normal(rng)];
    let scale = length / dot(v, v).sqrt().max(f64::MIN_POSITIVE);
    v.map(|x| x * scale)
}

struct Wave {
    /// Radians per mm.
    frequency: Vector,
    phase: f64,
}

/// A scalar field with mean 0 and a chosen standard deviation over space.
pub(super) struct SmoothField {
    waves: Vec<Wave>,
    amplitude: f64,
}

impl SmoothField {
    /// `count` plane waves in random directions with wavelengths (mm) drawn from a range, together
    /// of standard deviation `deviation`.
    pub fn random(
        rng: &mut ChaCha8Rng,
        count: usize,
        wavelengths: Range<f64>,
        deviation: f64,
    ) -> Self {
        let mut wave = || Wave {
            frequency: {
                let wavelength = rng.random_range(wavelengths.clone());
                random_direction(rng, TAU / wavelength)
            },
            phase: rng.random_range(0.0..TAU),
        };
        Self {
            waves: (0..count).map(|_| wave()).collect(),
            // A cosine has variance 1/2, and those of independent waves add up.
            amplitude: deviation * (2.0 / count as f64).sqrt(),
        }
    }

    /// The field at a position in mm.
    pub fn at(&self, position: Vector) -> f64 {
        let waves = self.waves.iter();
        let sum: f64 = waves
            .map(|w| (dot(w.frequency, position) + w.phase).cos())
            .sum();
        self.amplitude * sum
    }
}
