//! Learning rates over a run.

use serde::{Deserialize, Serialize};

use crate::style::Fault;

/// The learning rate as a function of time t of T; the unit of t (epoch, iteration) is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The same throughout.
    Constant {
        /// Learning rate.
        initial: f64,
    },
    /// initial * (1 - t / T)^power; nnU-Net has 0.01 and 0.9, stepped once an epoch.
    Poly {
        /// Learning rate at t = 0.
        initial: f64,
        /// Exponent.
        #[serde(default = "power")]
        power: f64,
    },
    /// Linear from initial / warm_up to `initial` over the first `warm_up` units, then half a cosine down to `last`
    /// (Loshchilov and Hutter 2017).
    Cosine {
        /// Learning rate after the warm-up.
        initial: f64,
        /// Learning rate at t = T.
        #[serde(default)]
        last: f64,
        /// Units of the warm-up; 0 for none.
        #[serde(default)]
        warm_up: u64,
    },
    /// initial * factor^(number of whole `every` in t).
    Step {
        /// Learning rate at t = 0.
        initial: f64,
        /// Multiplied in after each `every` units.
        factor: f64,
        /// Units between two changes; 0 for no change.
        every: u64,
    },
}

/// nnU-Net's exponent.
fn power() -> f64 {
    0.9
}

impl Default for Schedule {
    fn default() -> Self {
        Self::poly(0.01)
    }
}

impl Schedule {
    /// nnU-Net's decay from `initial`.
    pub fn poly(initial: f64) -> Self {
        Self::Poly {
            initial,
            power: power(),
        }
    }

    /// The first number that makes no sense.
    pub fn fault(&self) -> Option<Fault> {
        let amount = |key, v: f64| {
            // As the device will see it.
            let is_right = (v as f32).is_finite() && v >= 0.0;
            (is_right, key, "a number from 0 on", v)
        };
        let rate = |v: f64| {
            let is_right = (v as f32).is_finite() && v > 0.0;
            (is_right, "initial", "a number above 0", v)
        };
        match *self {
            Self::Constant { initial } => Fault::first([rate(initial)]),
            Self::Poly { initial, power } => Fault::first([rate(initial), amount("power", power)]),
            Self::Cosine { initial, last, .. } => {
                Fault::first([rate(initial), amount("last", last)])
            }
            Self::Step {
                initial, factor, ..
            } => {
                let is_share = factor > 0.0 && factor <= 1.0;
                let factor = (is_share, "factor", "above 0 and at most 1", factor);
                Fault::first([rate(initial), factor])
            }
        }
    }

    /// The learning rate at `t` of `total`, t = 0 first. From `total` on it stays at the last value.
    pub fn rate(&self, t: u64, total: u64) -> f64 {
        let t = t.min(total);
        let share = |t: u64, total: u64| t as f64 / total.max(1) as f64;
        match *self {
            Self::Constant { initial } => initial,
            Self::Poly { initial, power } => initial * (1.0 - share(t, total)).powf(power),
            Self::Cosine {
                initial, warm_up, ..
            } if t < warm_up => initial * share(t + 1, warm_up),
            Self::Cosine {
                initial,
                last,
                warm_up,
            } => {
                let angle =
                    std::f64::consts::PI * share(t - warm_up, total.saturating_sub(warm_up));
                last + 0.5 * (initial - last) * (1.0 + angle.cos())
            }
            Self::Step {
                initial,
                factor,
                every,
            } => {
                let changes = t.checked_div(every).unwrap_or(0);
                initial * factor.powf(changes as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn poly_falls_from_the_first_rate_to_zero() {
        let poly = Schedule::default();
        close(poly.rate(0, 1000), 0.01);
        close(poly.rate(500, 1000), 0.01 * 0.5_f64.powf(0.9));
        close(poly.rate(1000, 1000), 0.0);
        close(poly.rate(5000, 1000), 0.0);
    }

    #[test]
    fn cosine_warms_up_then_falls() {
        let cosine = Schedule::Cosine {
            initial: 1.0,
            last: 0.1,
            warm_up: 4,
        };
        close(cosine.rate(0, 104), 0.25);
        close(cosine.rate(3, 104), 1.0);
        close(cosine.rate(4, 104), 1.0);
        close(cosine.rate(54, 104), 0.55);
        close(cosine.rate(104, 104), 0.1);
    }

    #[test]
    fn step_changes_at_whole_multiples() {
        let step = Schedule::Step {
            initial: 1.0,
            factor: 0.1,
            every: 30,
        };
        close(step.rate(29, 90), 1.0);
        close(step.rate(30, 90), 0.1);
        close(step.rate(60, 90), 0.01);
    }

    #[test]
    fn numbers_that_make_no_sense_are_named() {
        assert_eq!(Schedule::default().fault(), None);
        for (text, key) in [
            ("kind = \"constant\"\ninitial = -0.1", "initial"),
            ("kind = \"constant\"\ninitial = nan", "initial"),
            ("kind = \"constant\"\ninitial = 1e39", "initial"),
            ("kind = \"poly\"\ninitial = 0.0\npower = 0.9", "initial"),
            ("kind = \"poly\"\ninitial = 0.1\npower = -1.0", "power"),
            (
                "kind = \"cosine\"\ninitial = 0.1\nlast = inf\nwarm_up = 0",
                "last",
            ),
            (
                "kind = \"step\"\ninitial = 0.1\nfactor = 1.5\nevery = 1",
                "factor",
            ),
        ] {
            let schedule: Schedule = toml::from_str(text).unwrap();
            assert_eq!(schedule.fault().map(|f| f.key), Some(key), "{text}");
        }
    }

    #[test]
    fn times_of_no_length_do_not_divide_by_zero() {
        for schedule in [
            Schedule::default(),
            Schedule::Cosine {
                initial: 1.0,
                last: 0.0,
                warm_up: 9,
            },
            Schedule::Step {
                initial: 1.0,
                factor: 0.1,
                every: 0,
            },
        ] {
            assert!(schedule.rate(0, 0).is_finite());
            assert!(schedule.rate(3, 2).is_finite());
        }
    }
}
