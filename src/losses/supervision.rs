//! Weights of the losses of several heads over a run.

use serde::{Deserialize, Serialize};

/// How much each head's loss counts, finest head first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Supervision {
    /// nnU-Net's: 1, 1/2, 1/4, …, the coarsest 0, divided by their sum.
    #[default]
    Halving,
    /// The same throughout.
    Fixed {
        /// One for each head.
        weights: Vec<f32>,
    },
    /// Wang et al. 2015: the finest head counts 1, the others alpha_t, with alpha_t = alpha_(t-1) * (1 - t / T) in epoch
    /// t of T. An epoch has [`Supervision::EPOCH`] steps; a shorter run is one epoch, in which nothing decays.
    Decay {
        /// alpha_0.
        initial: f64,
    },
}

/// Weights that do not fit the network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SupervisionError {
    /// The wrong number of weights.
    #[error(
        "{found} deep-supervision weights for {heads} heads; give one for each head, finest first"
    )]
    Count {
        /// Heads of the network.
        heads: usize,
        /// Weights given.
        found: usize,
    },
    /// A weight that cannot be one.
    #[error("deep-supervision weight {0}; weights must be finite and not negative")]
    Value(f64),
}

impl Supervision {
    /// Steps of an epoch: nnU-Net's.
    pub const EPOCH: u64 = 250;

    /// Wang's, with the alpha_0 of the paper.
    pub const WANG: Self = Self::Decay { initial: 0.3 };

    /// The weights of `heads` heads, finest first, at `step` of `steps`, step 0 first.
    ///
    /// # Errors
    /// As [`Supervision::weights`].
    pub fn at_step(
        &self,
        heads: usize,
        step: u64,
        steps: u64,
    ) -> Result<Vec<f32>, SupervisionError> {
        self.weights(heads, step / Self::EPOCH, steps.div_ceil(Self::EPOCH))
    }

    /// The weights of `heads` heads, finest first, in epoch `t` of `total`, t = 0 first.
    ///
    /// # Errors
    /// [`SupervisionError`] where fixed weights are too few or many, or a weight is negative or not finite.
    pub fn weights(&self, heads: usize, t: u64, total: u64) -> Result<Vec<f32>, SupervisionError> {
        let weights = match self {
            Self::Halving => halving(heads),
            Self::Fixed { weights } => weights.clone(),
            Self::Decay { initial } => {
                let share = |k: u64| 1.0 - k as f64 / total.max(1) as f64;
                let alpha = initial * (1..=t.min(total)).map(share).product::<f64>();
                let mut weights = vec![alpha as f32; heads];
                if let Some(finest) = weights.first_mut() {
                    *finest = 1.0;
                }
                weights
            }
        };
        if weights.len() != heads {
            return Err(SupervisionError::Count {
                heads,
                found: weights.len(),
            });
        }
        match weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
            Some(&w) => Err(SupervisionError::Value(f64::from(w))),
            None => Ok(weights),
        }
    }
}

fn halving(heads: usize) -> Vec<f32> {
    let mut weights: Vec<f64> = (0..heads).map(|i| 0.5_f64.powf(i as f64)).collect();
    if let [_, .., coarsest] = weights.as_mut_slice() {
        *coarsest = 0.0;
    }
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| (w / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_is_nnu_nets() {
        let weights = Supervision::Halving.weights(5, 0, 1000).unwrap();
        let expected = [8.0, 4.0, 2.0, 1.0, 0.0].map(|w| w / 15.0);
        for (w, e) in weights.iter().zip(expected) {
            assert!((f64::from(*w) - e).abs() < 1e-7, "{weights:?}");
        }
        assert_eq!(Supervision::Halving.weights(1, 0, 1).unwrap(), [1.0]);
        assert_eq!(Supervision::Halving.weights(2, 0, 1).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn decay_multiplies_from_epoch_to_epoch() {
        let decay = Supervision::Decay { initial: 0.3 };
        let mut alpha = 0.3;
        for t in 0..=20 {
            alpha *= 1.0 - f64::from(t) / 20.0;
            let weights = decay.weights(3, t as u64, 20).unwrap();
            assert_eq!(weights[0], 1.0);
            assert!((f64::from(weights[2]) - alpha).abs() < 1e-7);
        }
        assert_eq!(alpha, 0.0);
    }

    #[test]
    fn decay_counts_epochs_of_250_steps() {
        let decay = Supervision::Decay { initial: 0.3 };
        let alpha = |step, steps| decay.at_step(2, step, steps).unwrap()[1];
        assert_eq!(alpha(249, 25_000), 0.3);
        assert!((alpha(250, 25_000) - 0.3 * 0.99).abs() < 1e-6);
        assert!((alpha(500, 25_000) - 0.3 * 0.99 * 0.98).abs() < 1e-6);
        assert!(alpha(24_999, 25_000) < 1e-6);
        assert_eq!((alpha(0, 1), alpha(99, 100)), (0.3, 0.3));
    }

    #[test]
    fn unfit_weights_are_refused() {
        let fixed = |weights: &[f32]| Supervision::Fixed {
            weights: weights.to_vec(),
        };
        assert!(fixed(&[1.0, 0.5]).weights(2, 0, 1).is_ok());
        let short = fixed(&[1.0]).weights(2, 0, 1);
        assert_eq!(short, Err(SupervisionError::Count { heads: 2, found: 1 }));
        assert!(fixed(&[1.0, -1.0]).weights(2, 0, 1).is_err());
        assert!(fixed(&[1.0, f32::NAN]).weights(2, 0, 1).is_err());
    }
}
