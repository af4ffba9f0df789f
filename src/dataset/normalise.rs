//! Bringing the intensities of a channel to a common scale.

use serde::{Deserialize, Serialize};

use super::fingerprint::IntensityProperties;

/// Least divisor, so that a constant image becomes zeros and not NaN.
const SMALLEST: f64 = 1e-8;

/// How the intensities of a channel are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Mean 0 and standard deviation 1 in each image.
    ZScore,
    /// Clipped to the 0.5 and 99.5 percentiles of the foreground of all training cases, then with
    /// their mean and standard deviation: for scanners with an absolute scale.
    Ct,
    /// As they are.
    None,
    /// The smallest becomes 0, the largest 1.
    #[serde(rename = "rescale_to_0_1")]
    RescaleTo01,
    /// Divided by 255.
    #[serde(rename = "rgb_to_0_1")]
    RgbTo01,
}

impl Normalisation {
    /// What nnU-Net does with a channel of this name in dataset.json: `CT`, `noNorm`,
    /// `rescale_to_0_1` and `rgb_to_0_1` in any case, z-score for all others.
    pub fn of_channel(name: &str) -> Self {
        match name.to_lowercase().as_str() {
            "ct" => Self::Ct,
            "nonorm" => Self::None,
            "rescale_to_0_1" | "rescale_0_1" => Self::RescaleTo01,
            "rgb_to_0_1" => Self::RgbTo01,
            _ => Self::ZScore,
        }
    }

    /// Normalises `channel` (D, H, W) in place.
    ///
    /// `global` is used by [`Normalisation::Ct`] alone. With a `mask` (D, H, W), the z-score takes
    /// its statistics from the voxels inside and leaves the others as they are.
    pub fn apply(self, channel: &mut [f32], global: &IntensityProperties, mask: Option<&[bool]>) {
        match self {
            Self::ZScore => match mask {
                Some(mask) => z_score_within(channel, mask),
                None => z_score(channel),
            },
            Self::Ct => {
                let (low, high) = (global.percentile_00_5, global.percentile_99_5);
                shift_and_scale(channel, global.mean, global.std, |v| v.max(low).min(high));
            }
            Self::None => {}
            Self::RescaleTo01 => {
                let (low, high) = range(channel);
                shift_and_scale(channel, low, high - low, |v| v);
            }
            Self::RgbTo01 => shift_and_scale(channel, 0.0, 255.0, |v| v),
        }
    }
}

fn shift_and_scale(channel: &mut [f32], shift: f64, scale: f64, before: impl Fn(f64) -> f64) {
    let scale = scale.max(SMALLEST);
    for value in channel {
        *value = ((before(f64::from(*value)) - shift) / scale) as f32;
    }
}

fn z_score(channel: &mut [f32]) {
    let (mean, std) = mean_and_std(|| channel.iter().copied());
    shift_and_scale(channel, mean, std, |v| v);
}

fn z_score_within(channel: &mut [f32], mask: &[bool]) {
    let inside = || {
        channel
            .iter()
            .zip(mask)
            .filter_map(|(&v, &m)| m.then_some(v))
    };
    let (mean, std) = mean_and_std(inside);
    let scale = std.max(SMALLEST);
    for (value, _) in channel.iter_mut().zip(mask).filter(|(_, inside)| **inside) {
        *value = ((f64::from(*value) - mean) / scale) as f32;
    }
}

/// Mean and standard deviation of the population; 0 and 0 of nothing.
fn mean_and_std<I: Iterator<Item = f32>>(values: impl Fn() -> I) -> (f64, f64) {
    let (count, sum) = values().fold((0u64, 0.0), |(n, s), v| (n + 1, s + f64::from(v)));
    if count == 0 {
        return (0.0, 0.0);
    }
    let mean = sum / count as f64;
    let squares: f64 = values().map(|v| (f64::from(v) - mean).powi(2)).sum();
    (mean, (squares / count as f64).sqrt())
}

fn range(channel: &[f32]) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    channel.iter().fold(start, |(low, high), &v| {
        (low.min(f64::from(v)), high.max(f64::from(v)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOBAL: IntensityProperties = IntensityProperties {
        mean: 10.0,
        median: 0.0,
        std: 2.0,
        min: 0.0,
        max: 0.0,
        percentile_99_5: 14.0,
        percentile_00_5: 6.0,
    };

    fn apply(how: Normalisation, values: &[f32], mask: Option<&[bool]>) -> Vec<f32> {
        let mut channel = values.to_vec();
        how.apply(&mut channel, &GLOBAL, mask);
        channel
    }

    #[test]
    fn names_select_the_scheme() {
        for (name, how) in [
            ("CT", Normalisation::Ct),
            ("noNorm", Normalisation::None),
            ("rescale_to_0_1", Normalisation::RescaleTo01),
            ("rgb_to_0_1", Normalisation::RgbTo01),
            ("T1", Normalisation::ZScore),
        ] {
            assert_eq!(Normalisation::of_channel(name), how, "{name}");
        }
    }

    #[test]
    fn each_scheme_does_what_it_says() {
        let values = [1.0, 3.0, 5.0, 7.0];
        // Deviation 3, so that the quotients are exact.
        let z = apply(Normalisation::ZScore, &[1.0, 7.0, 1.0, 7.0], None);
        assert_eq!(z, [-1.0, 1.0, -1.0, 1.0]);
        let ct = apply(Normalisation::Ct, &[0.0, 6.0, 12.0, 99.0], None);
        assert_eq!(ct, [-2.0, -2.0, 1.0, 2.0]);
        let rescaled = apply(Normalisation::RescaleTo01, &values, None);
        assert_eq!(rescaled, [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
        assert_eq!(apply(Normalisation::RgbTo01, &[51.0], None), [0.2]);
        assert_eq!(apply(Normalisation::None, &values, None), values);
    }

    #[test]
    fn the_mask_bounds_the_z_score() {
        let mask = [true, false, true];
        let z = apply(Normalisation::ZScore, &[2.0, 0.0, 4.0], Some(&mask));
        assert_eq!(z, [-1.0, 0.0, 1.0]);
        let nothing = apply(Normalisation::ZScore, &[2.0, 4.0], Some(&[false; 2]));
        assert_eq!(nothing, [2.0, 4.0]);
    }

    #[test]
    fn a_constant_image_becomes_zeros() {
        for how in [Normalisation::ZScore, Normalisation::RescaleTo01] {
            assert_eq!(apply(how, &[7.0; 5], None), [0.0; 5]);
        }
    }
}
