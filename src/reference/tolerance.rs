//! How far a kernel may be from the reference.

use crate::tensor::HostTensor;

/// |d| <= rtol * (|ref| + rms(ref)) for each element, and a normalised mean square error of at most rtol^2 overall.
///
/// The bound follows from the arithmetic, not from what a kernel happens to reach: a sum of `terms` rounded
/// products errs by about sqrt(terms) * epsilon of the size of its result when the signs are mixed. The rms stands for
/// the size of the terms where the result itself cancels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative bound of one element.
    pub rtol: f64,
    /// How many times as far as usual the operator carries rounding.
    amplification: f64,
}

/// Distance of two neighbours of f16 between 1 and 2: what rounding towards zero costs at the most, as WGSL allows it.
const HALF_EPSILON: f64 = 1.0 / 1024.0;

/// Tensors stored as f16 that a result may go through: two operands, a copy in between, and itself.
const HALF_STORES: f64 = 4.0;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// The largest |d| as a share of what is allowed there; above 1 is a failure.
    pub used: f64,
    /// Sum of squared errors over sum of squared references.
    pub nmse: f64,
    /// Index of the worst element.
    pub worst: usize,
}

impl Tolerance {
    /// For results that are sums of `terms` f32 products.
    pub fn for_terms(terms: usize) -> Self {
        let epsilon = f64::from(f32::EPSILON);
        Self {
            rtol: epsilon * (8.0 + 4.0 * (terms.max(1) as f64).sqrt()),
            amplification: 1.0,
        }
    }

    /// The same with a bound `factor` times as wide, for functions that amplify rounding by that factor (exp,
    /// divisions by small numbers); say why where it is used.
    pub fn amplified(self, factor: f64) -> Self {
        Self {
            rtol: self.rtol * factor,
            amplification: self.amplification * factor,
        }
    }

    /// The same where activations are stored as f16 and computed with in f32: rounding them is all that is added. A sum
    /// of rounded terms errs by less than its largest relative error times the rms of its terms.
    pub fn with_f16_storage(self) -> Self {
        let storage = HALF_STORES * HALF_EPSILON * self.amplification;
        Self {
            rtol: self.rtol + storage,
            ..self
        }
    }

    /// Compares `found` with `expected`.
    ///
    /// # Errors
    /// A text with the worst element, both values and the bound, where a bound is broken, a value is not finite, or
    /// the shapes differ.
    pub fn compare(
        &self,
        what: &str,
        found: &HostTensor,
        expected: &HostTensor<f64>,
    ) -> Result<Deviation, String> {
        if found.shape != expected.shape {
            return Err(format!(
                "{what}: shape {} where {} was expected",
                found.shape, expected.shape
            ));
        }
        let len = expected.data.len().max(1) as f64;
        let square: f64 = expected.data.iter().map(|r| r * r).sum();
        let rms = (square / len).sqrt();
        let mut deviation = Deviation {
            used: 0.0,
            nmse: 0.0,
            worst: 0,
        };
        let mut error = 0.0;
        for (i, (&f, &r)) in found.data.iter().zip(&expected.data).enumerate() {
            let d = (f64::from(f) - r).abs();
            // A NaN fails every comparison, so it must be asked for.
            let used = if d.is_finite() {
                d / (self.rtol * (r.abs() + rms) + f64::from(f32::MIN_POSITIVE))
            } else {
                f64::INFINITY
            };
            if used > deviation.used {
                deviation.used = used;
                deviation.worst = i;
            }
            error += d * d;
        }
        deviation.nmse = error / square.max(f64::MIN_POSITIVE);
        if deviation.used <= 1.0 && error <= self.rtol * self.rtol * square.max(f64::MIN_POSITIVE) {
            return Ok(deviation);
        }
        let w = deviation.worst;
        Err(format!(
            "{what}: element {w} is {} where {} was expected; {:.3} of the tolerance (rtol {:.2e}, rms {rms:.3e}), nmse {:.2e}",
            found.data[w], expected.data[w], deviation.used, self.rtol, deviation.nmse
        ))
    }
}
