//! What the training of a classifier can be told.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ClassifyError;
use crate::bytes::Bytes;
use crate::fsio::write_atomic;
use crate::gpu::AdapterClass;
use crate::losses::{LossConfig, Supervision};
use crate::optim::{OptimizerConfig, Schedule};
use crate::style::Fault;
use crate::tensor::Element;
use crate::train::{ConfigError, Length, TrainConfig};

/// A configuration file with every key, as `voxseg classify train --help` shows it.
pub const CLASSIFY_EXAMPLE: &str = include_str!("example.toml");

/// The network where none is named: small enough for any adapter.
pub const DEFAULT_MODEL: &str = "mobilenet_v3_small";

/// Times that a run sees each image, where nobody says how many steps it has.
const EPOCHS: usize = 30;

/// Least and most steps of such a run. Below the first the running statistics of MobileNetV3's batch norms, which take
/// in 1 % a step, are still those of the start.
const STEPS: (usize, usize) = (600, 50_000);

/// Most steps of any run: years, and numbers of images far within 64 bits.
const MOST_STEPS: usize = 1_000_000_000;

/// Images a step on a GPU, and on an adapter that computes on the CPU.
const BATCH: (usize, usize) = (64, 16);

/// Most images a step.
const MOST_BATCH: usize = 4096;

/// Largest extent of an image that is trained on, in pixels.
pub(super) const MOST_EXTENT: usize = 8192;

/// AdamW's usual learning rate.
const RATE: f64 = 1e-3;

/// The configuration of a classifier's training; config.toml of a run has every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifyConfig {
    /// The network, as `voxseg models` names it.
    pub model: String,
    /// Seed of the weights, the split and every random choice.
    pub seed: u64,
    /// H, W that images are resized to; where `None` the extent of the largest image, but the published extent of the network
    /// where that is smaller, where the network takes no image as small as these, and where its weights belong to one extent.
    pub size: Option<[usize; 2]>,
    /// Device memory that a training step may plan for; where it does not suffice, forward values are made again in the
    /// backward part, with the same results. No bound where `None`.
    pub memory_budget: Option<Bytes>,
    /// How activations and their gradients are stored: with f16 in about half of the memory, with dynamic loss scaling.
    pub precision: Element,
    /// Optimiser steps; 30 epochs, from 600 to 50,000, where `None`.
    pub steps: Option<usize>,
    /// Images a step; 64 on a GPU, else 16, and no more than there are, where `None`.
    pub batch: Option<usize>,
    /// Steps from one checkpoint to the next; a twentieth of all where `None`.
    pub checkpoint_every: Option<usize>,
    /// Steps from one look at the held-out images to the next; a tenth of all where `None`, 0 for never.
    pub validate_every: Option<usize>,
    /// Whether images are mirrored at random, left to right.
    pub mirror: bool,
    /// Share of the extent by which images are shifted at random, at most.
    pub shift: f64,
    /// Share of the truth that is spread evenly over all classes.
    pub label_smoothing: f32,
    /// The held-out images: a folder or CSV file like the data set.
    pub validation: Option<PathBuf>,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// The largest learning rate where only the steps decide the rest of the schedule; 1e-3 where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_learning_rate: Option<f64>,
    /// The learning rate over the steps, whatever [`Self::peak_learning_rate`] says; where `None` a cosine from that after a
    /// rise over a twentieth of the steps, at most 500.
    pub learning_rate: Option<Schedule>,
    /// Weights of the heads of networks with several; those of the network's source where `None`.
    pub supervision: Option<Supervision>,
}

impl Default for ClassifyConfig {
    fn default() -> Self {
        Self {
            model: DEFAULT_MODEL.to_owned(),
            seed: 0,
            size: None,
            memory_budget: None,
            precision: Element::F32,
            steps: None,
            batch: None,
            checkpoint_every: None,
            validate_every: None,
            mirror: true,
            shift: 0.1,
            label_smoothing: 0.0,
            validation: None,
            optimizer: OptimizerConfig::adamw(),
            peak_learning_rate: None,
            learning_rate: None,
            supervision: None,
        }
    }
}

impl ClassifyConfig {
    /// Reads a TOML file, config.toml of a run.
    ///
    /// # Errors
    /// [`ClassifyError`] where it cannot be read, has an unknown key or a value that makes no sense.
    pub fn read(path: &Path) -> Result<Self, ClassifyError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.to_owned(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|e| {
            let problem = format!("{e}\nRun `voxseg classify train --help` for the keys");
            ClassifyError::layout(path, problem)
        })?;
        config.check()?;
        Ok(config)
    }

    /// Writes it as TOML, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), ClassifyError> {
        let text = toml::to_string_pretty(self)
            .map_err(|e| ClassifyError::layout(path, format!("cannot be written: {e}")))?;
        write_atomic(path, |w| w.write_all(text.as_bytes())).map_err(|e| ClassifyError::io(path, e))
    }

    /// Refuses numbers that make no sense, whatever the data.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the first of them.
    pub fn check(&self) -> Result<(), ConfigError> {
        let count = |v: Option<usize>| v.unwrap_or(1);
        let shown = |v: &dyn std::fmt::Debug| format!("{v:?}");
        let own = Fault::first([
            (
                self.size
                    .unwrap_or([1; 2])
                    .iter()
                    .all(|n| (1..=MOST_EXTENT).contains(n)),
                "size",
                "two numbers from 1 to 8192",
                shown(&self.size.unwrap_or_default()),
            ),
            (
                (1..=MOST_BATCH).contains(&count(self.batch)),
                "batch",
                "from 1 to 4096",
                shown(&count(self.batch)),
            ),
            (
                (1..=MOST_STEPS).contains(&count(self.steps)),
                "steps",
                "from 1 to 1000000000",
                shown(&count(self.steps)),
            ),
            (
                count(self.checkpoint_every) >= 1,
                "checkpoint_every",
                "at least 1",
                shown(&count(self.checkpoint_every)),
            ),
            (
                (0.0..=0.5).contains(&self.shift),
                "shift",
                "from 0 to 0.5",
                shown(&self.shift),
            ),
            (
                (0.0..1.0).contains(&self.label_smoothing),
                "label_smoothing",
                "from 0 to below 1",
                shown(&self.label_smoothing),
            ),
        ]);
        let rate = self.learning_rate.and_then(|schedule| schedule.fault());
        let peak = schedule(self.peak_learning_rate.unwrap_or(RATE), 1);
        let peak = peak.fault().map(|fault| Fault {
            key: "peak_learning_rate",
            ..fault
        });
        let parts = [
            ("", own),
            ("", peak),
            ("optimizer.", self.optimizer.fault()),
            ("learning_rate.", rate),
        ];
        for (table, fault) in parts {
            if let Some(fault) = fault {
                return Err(ConfigError::Value {
                    key: format!("{table}{}", fault.key),
                    expected: fault.expected,
                    found: fault.found,
                });
            }
        }
        Ok(())
    }

    /// The same with every choice made, for `images` training images of `size` on this kind of adapter, and a network whose
    /// heads by its source are weighed by `supervision`.
    pub(super) fn with_choices(
        &self,
        images: usize,
        size: [usize; 2],
        supervision: Supervision,
        class: AdapterClass,
    ) -> Self {
        let usual = match class {
            AdapterClass::Gpu => BATCH.0,
            AdapterClass::CpuLike => BATCH.1,
        };
        let batch = self.batch.unwrap_or(usual.min(images.max(2)));
        let epochs = (EPOCHS * images).div_ceil(batch);
        let steps = self.steps.unwrap_or(epochs.clamp(STEPS.0, STEPS.1));
        let peak = self.peak_learning_rate.unwrap_or(RATE);
        Self {
            size: Some(size),
            batch: Some(batch),
            steps: Some(steps),
            checkpoint_every: Some(self.checkpoint_every.unwrap_or(steps.div_ceil(20))),
            validate_every: Some(self.validate_every.unwrap_or(steps.div_ceil(10))),
            peak_learning_rate: None,
            learning_rate: Some(self.learning_rate.unwrap_or(schedule(peak, steps))),
            supervision: Some(self.supervision.clone().unwrap_or(supervision)),
            ..self.clone()
        }
    }

    /// What the loop is told.
    pub(super) fn loop_config(&self) -> TrainConfig {
        TrainConfig {
            seed: self.seed,
            precision: self.precision,
            schedule: Length {
                steps: self.steps,
                checkpoint_every: self.checkpoint_every,
                validate_every: self.validate_every,
                ..Length::default()
            },
            loss: LossConfig::cross_entropy(self.label_smoothing),
            supervision: self.supervision.clone(),
            optimizer: Some(self.optimizer),
            learning_rate: self.learning_rate,
            ..TrainConfig::default()
        }
    }
}

/// Up over the first twentieth of the steps, then half a cosine down to 0.
fn schedule(rate: f64, steps: usize) -> Schedule {
    Schedule::Cosine {
        initial: rate,
        last: 0.0,
        warm_up: (steps / 20).min(500) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_rate_rises_over_the_same_share_of_the_steps_as_the_usual_one() {
        let chosen = |rate: Option<f64>, images: usize| {
            let config = ClassifyConfig {
                peak_learning_rate: rate,
                ..ClassifyConfig::default()
            };
            let (usual, gpu) = (Supervision::Halving, AdapterClass::Gpu);
            config.with_choices(images, [24; 2], usual, gpu)
        };
        for (images, expected) in [(20, 30), (10_000, 234), (1_000_000, 500)] {
            for rate in [None, Some(3e-4)] {
                let Some(Schedule::Cosine {
                    initial, warm_up, ..
                }) = chosen(rate, images).learning_rate
                else {
                    panic!("a cosine");
                };
                assert_eq!((initial, warm_up), (rate.unwrap_or(RATE), expected));
            }
        }
    }

    #[test]
    fn a_schedule_of_the_users_own_stays_as_it_is() {
        let own = Schedule::Constant { initial: 0.02 };
        let config = ClassifyConfig {
            peak_learning_rate: Some(3e-4),
            learning_rate: Some(own),
            ..ClassifyConfig::default()
        };
        let chosen = config.with_choices(100, [24; 2], Supervision::Halving, AdapterClass::CpuLike);
        assert_eq!(
            (chosen.learning_rate, chosen.peak_learning_rate),
            (Some(own), None)
        );
    }
}
