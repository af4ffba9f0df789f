//! From what the user left open to a run in which every choice is made.

use super::TrainConfig;
use super::config::ConfigError;
use super::error::TrainError;
use crate::dataset::{Budget, Dataset, Description, Fingerprint, Overrides, Plan, StageLists};
use crate::fsio::write_atomic;
use crate::gpu::AdapterClass;
use crate::losses::Supervision;
use crate::optim::{OptimizerConfig, Schedule};
use crate::run::{has_norms, network_of};
use crate::style::{DecoderStyle, LayerStyle};

/// Memory that nnU-Net's networks are planned for on a GPU, in gigabytes: its own default.
const GPU_GIGABYTES: f64 = 8.0;

/// Steps on a GPU: a tenth of nnU-Net's 1000 epochs of 250, where most of the gain lies.
const GPU_STEPS: usize = 25_000;

/// Steps on an adapter that computes on the CPU: what a small network needs to come close to its best.
const CPU_STEPS: usize = 500;

/// Runs below this many steps train with AdamW: the momentum of 0.99 of nnU-Net's SGD remembers a hundred steps and pays
/// only in long runs (450 steps on the left atrium data: docs/results.md).
const SHORT_RUN: usize = 5_000;

/// AdamW's learning rate at the start (the usual 1e-3 to 3e-3 of small networks), and that of nnU-Net's SGD; and both where no
/// norm scales back what a step makes larger: on the left atrium data the V-Net's loss was 10^8 after 30 steps that began at
/// 3e-3, and fell from 1.6 to 0.1 in 16 that began at 3e-4.
const ADAMW_RATE: f64 = 3e-3;
const SGD_RATE: f64 = 1e-2;
const ADAMW_RATE_WITHOUT_NORMS: f64 = 3e-4;
const SGD_RATE_WITHOUT_NORMS: f64 = 1e-3;

impl TrainConfig {
    /// The optimiser: the configured one, else AdamW for short runs and nnU-Net's SGD for long ones.
    pub fn optimizer(&self) -> OptimizerConfig {
        let short = self.schedule.steps.is_some_and(|steps| steps < SHORT_RUN);
        self.optimizer.unwrap_or(match short {
            true => OptimizerConfig::adamw(),
            false => OptimizerConfig::default(),
        })
    }

    /// The learning rate over the steps: the configured one, else a polynomial decay that suits the optimiser.
    pub fn learning_rate(&self) -> Schedule {
        self.learning_rate.unwrap_or(self.usual_rate(true))
    }

    /// The weights of the heads: the configured ones, else nnU-Net's; [`TrainConfig::planned`] fills in the network's own.
    pub fn supervision(&self) -> Supervision {
        self.supervision.clone().unwrap_or_default()
    }

    fn usual_rate(&self, has_norms: bool) -> Schedule {
        let initial = match (self.optimizer(), has_norms) {
            (OptimizerConfig::AdamW { .. }, true) => ADAMW_RATE,
            (OptimizerConfig::AdamW { .. }, false) => ADAMW_RATE_WITHOUT_NORMS,
            (OptimizerConfig::Sgd { .. }, true) => SGD_RATE,
            (OptimizerConfig::Sgd { .. }, false) => SGD_RATE_WITHOUT_NORMS,
        };
        Schedule::poly(initial)
    }

    /// Plans patch, batch and network for the data on this kind of adapter.
    ///
    /// # Errors
    /// [`TrainError::Dataset`] where an override makes no sense; [`TrainError::Config`] where the network is not for such
    /// images.
    pub(super) fn plan(
        &self,
        fingerprint: &Fingerprint,
        description: &Description,
        class: AdapterClass,
    ) -> Result<Plan, TrainError> {
        let budget = match (class, self.has_residual_encoder()) {
            (AdapterClass::Gpu, false) => Budget::nnunet(GPU_GIGABYTES),
            (AdapterClass::Gpu, true) => Budget::nnunet_residual(GPU_GIGABYTES),
            (AdapterClass::CpuLike, residual) => Budget {
                residual,
                ..Budget::cpu_like()
            },
        };
        let mut plan = Plan::new(description, fingerprint, &budget, &self.overrides())?;
        plan.model = Some(self.family_for(plan.preprocessing.planar)?);
        Ok(plan)
    }

    /// The configuration and the plan of a run on `dataset` on this kind of adapter, as training would decide them;
    /// `inspected` is called after each case with the number of cases read.
    ///
    /// # Errors
    /// [`TrainError`] of the first case that cannot be used, and where a choice makes no sense.
    pub fn planned(
        &self,
        dataset: &Dataset,
        class: AdapterClass,
        inspected: impl FnMut(usize),
    ) -> Result<(Self, Plan), TrainError> {
        self.validate_for(&dataset.description.labels)?;
        self.check_family()?;
        let fingerprint = Fingerprint::of(dataset, self.seed, inspected)?;
        let plan = self.plan(&fingerprint, &dataset.description, class)?;
        Ok((self.with_choices(&plan, class), plan))
    }

    /// What the planner is told.
    pub(super) fn overrides(&self) -> Overrides {
        let network = &self.network;
        Overrides {
            spacing: self.batch.spacing,
            patch: self.batch.patch,
            batch: self.batch.size,
            model: network.model.clone(),
            base_features: network.base_features,
            max_features: network.max_features,
            max_stages: network.max_stages,
            planar: self.planar(),
            stages: StageLists {
                features: network.features.clone(),
                kernels: network.kernels.clone(),
                strides: network.strides.clone(),
                encoder_blocks: network.encoder_blocks.clone(),
                decoder_blocks: network.decoder_blocks.clone(),
                heads: network.heads.clone(),
            },
            layers: LayerStyle {
                dropout: network.dropout.unwrap_or_default(),
                norm: network.norm.unwrap_or_default(),
                activation: network.activation.unwrap_or_default(),
            },
            decoder: DecoderStyle {
                head_style: network.head_style.unwrap_or_default(),
                attention_gates: network.attention_gates.unwrap_or_default(),
            },
            tokens: network.tokens,
        }
    }

    /// The configuration with every choice filled in that its network follows; on the same data it plans the same again.
    pub(super) fn with_choices(&self, plan: &Plan, class: AdapterClass) -> Self {
        let steps = self.schedule.steps.unwrap_or(match class {
            AdapterClass::Gpu => GPU_STEPS,
            AdapterClass::CpuLike => CPU_STEPS,
        });
        let mut config = self.clone();
        config.schedule.steps = Some(steps);
        config.optimizer = Some(config.optimizer());
        // A network that cannot be built is refused where it is.
        let has_norms = has_norms(plan).unwrap_or(true);
        let usual = || network_of(plan).map_or(Supervision::default(), |n| n.supervision());
        config.supervision = Some(self.supervision.clone().unwrap_or_else(usual));
        let rate = self.learning_rate.unwrap_or(config.usual_rate(has_norms));
        config.learning_rate = Some(rate);
        config.schedule.checkpoint_every =
            Some(self.schedule.checkpoint_every.unwrap_or(steps.div_ceil(20)));
        config.schedule.validate_every =
            Some(self.schedule.validate_every.unwrap_or(steps.div_ceil(5)));
        config.batch.size = Some(plan.batch);
        config.batch.patch = Some(plan.patch);
        config.batch.spacing = Some(plan.preprocessing.spacing);
        config.network = self.network.with_choices(plan);
        config
    }

    /// Writes it as TOML, whole or not at all.
    ///
    /// # Errors
    /// [`ConfigError::Io`].
    pub fn write(&self, path: &std::path::Path) -> Result<(), ConfigError> {
        let text = toml::to_string_pretty(self).map_err(|e| ConfigError::Parse {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        write_atomic(path, |w| w.write_all(text.as_bytes())).map_err(|source| ConfigError::Io {
            path: path.to_owned(),
            source,
        })
    }
}
