//! Everything a training run can be told, as one TOML file; flags set the common ones.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::dataset::Labels;
use crate::fsio::is_users_fault;
use crate::losses::{LossConfig, Supervision};
use crate::models::{ModelError, check_decoder, planned_model};
use crate::ops::loss::MAX_CLASSES;
use crate::optim::{OptimizerConfig, Schedule};
use crate::style::{HeadStyle, Nonlinearity, Norm, TokenStyle, name_or_table_if_given};
use crate::tensor::Element;

/// A TOML file with every key and its default, explained; `voxseg train --help` prints it.
pub const CONFIG_EXAMPLE: &str = include_str!("example.toml");

/// The configuration of a training run. Every key has a default; an unknown key is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of the weights, the split and every random choice.
    pub seed: u64,
    /// Which fold is held out for validation.
    pub fold: Fold,
    /// Device memory that a training step may plan for; where it does not suffice, forward values are made again in the
    /// backward part, with the same results. No bound where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<Bytes>,
    /// How activations and their gradients are stored: with f16 in about half of the memory, with dynamic loss scaling.
    pub precision: Element,
    /// How long.
    pub schedule: Length,
    /// Batches.
    pub batch: BatchConfig,
    /// The network; what is left out is planned from the data and the adapter.
    pub network: NetworkConfig,
    /// The loss.
    pub loss: LossConfig,
    /// Weights of the deep-supervision heads; those of the network's source where `None`.
    pub supervision: Option<Supervision>,
    /// The optimiser; chosen by the number of steps where `None`.
    pub optimizer: Option<OptimizerConfig>,
    /// The learning rate over the steps; that which suits the optimiser where `None`.
    pub learning_rate: Option<Schedule>,
}

/// One of the five folds, or all cases for training and none for validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FoldText", into = "FoldText")]
pub enum Fold {
    /// Hold out fold 0 to 4.
    Number(usize),
    /// Train on everything.
    All,
}

impl Default for Fold {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// A fold as it stands in files: a number or `"all"`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum FoldText {
    Number(usize),
    Word(String),
}

impl TryFrom<FoldText> for Fold {
    type Error = String;

    fn try_from(text: FoldText) -> Result<Self, String> {
        match text {
            FoldText::Number(n) => Ok(Self::Number(n)),
            FoldText::Word(word) => word.parse(),
        }
    }
}

impl From<Fold> for FoldText {
    fn from(fold: Fold) -> Self {
        match fold {
            Fold::Number(n) => Self::Number(n),
            Fold::All => Self::Word("all".into()),
        }
    }
}

impl std::str::FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse()
            .map(Self::Number)
            .map_err(|_| format!("a fold is a number such as 0, or `all`; found `{text}`"))
    }
}

impl std::fmt::Display for Fold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// How long to train and how often to look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Length {
    /// Optimiser steps; planned by the kind of adapter where `None`.
    pub steps: Option<usize>,
    /// Steps from one checkpoint to the next; a twentieth of `steps` where `None`.
    pub checkpoint_every: Option<usize>,
    /// Steps from one validation to the next; a fifth of `steps` where `None`. 0 turns it off.
    pub validate_every: Option<usize>,
    /// Validation cases looked at while training; all of them at the end.
    pub validation_cases: usize,
}

impl Default for Length {
    fn default() -> Self {
        Self {
            steps: None,
            checkpoint_every: None,
            validate_every: None,
            validation_cases: 2,
        }
    }
}

/// How batches are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Patches a step; planned where `None`.
    pub size: Option<usize>,
    /// Patch extent (D, H, W) in voxels; planned where `None`.
    pub patch: Option<[usize; 3]>,
    /// Voxel spacing (D, H, W) in mm that images are resampled to; planned where `None`.
    pub spacing: Option<[f64; 3]>,
    /// Share of the patches that are centred on foreground, at least.
    pub foreground: f64,
    /// Whether patches are mirrored at random along each axis.
    pub mirror: bool,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            size: None,
            patch: None,
            spacing: None,
            foreground: 1.0 / 3.0,
            mirror: true,
        }
    }
}

/// The network, where it is not as planned. A network refuses keys that it does not follow ([`crate::models::Model::follows`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The family of the network, as `voxseg models` names it; nnU-Net's plain U-Net, or with `residual` its
    /// residual-encoder U-Net, where `None`. A name that ends in `2d` makes `planar` true; one that ends in `3d` is for
    /// volumes alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Channels of the finest stage; doubled with each stage up to `max_features`.
    pub base_features: Option<usize>,
    /// Channels of each stage, finest first, instead of `base_features` and `max_features`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<usize>>,
    /// The most channels of a stage.
    pub max_features: Option<usize>,
    /// Most stages.
    pub max_stages: Option<usize>,
    /// Residual blocks in the encoder of nnU-Net's network instead of plain convolutions; with `model`, which says it
    /// already, nothing else.
    pub residual: Option<bool>,
    /// Slices instead of volumes: kernels and strides of 1 along D. Where `None`, only if all cases are single slices.
    pub planar: Option<bool>,
    /// Kernel (D, H, W) of the convolutions of each stage, finest first, odd numbers.
    pub kernels: Option<Vec<[usize; 3]>>,
    /// Stride (D, H, W) into each stage; the first is 1.
    pub strides: Option<Vec<[usize; 3]>>,
    /// Convolutions of each encoder stage; with `residual` its residual blocks.
    pub encoder_blocks: Option<Vec<usize>>,
    /// Convolutions of each decoder stage, one entry fewer.
    pub decoder_blocks: Option<Vec<usize>>,
    /// Decoder stages with a segmentation head, ascending from 0, the finest; `[0]` for no deep supervision, all
    /// where `None`.
    pub heads: Option<Vec<usize>>,
    /// What becomes of the heads: outputs with losses of their own, or one sum.
    pub head_style: Option<HeadStyle>,
    /// Whether an attention gate weighs the voxels of each skip of a U-Net.
    pub attention_gates: Option<bool>,
    /// The transformer of a network on tokens.
    #[serde(skip_serializing_if = "TokenStyle::is_planned")]
    pub tokens: TokenStyle,
    /// Share of the channels that are dropped after each convolution in training.
    pub dropout: Option<f32>,
    /// Normalisation after each convolution.
    #[serde(deserialize_with = "name_or_table_if_given")]
    pub norm: Option<Norm>,
    /// Activation after each normalisation.
    #[serde(deserialize_with = "name_or_table_if_given")]
    pub activation: Option<Nonlinearity>,
}

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// The file is no valid configuration: an unknown key, a wrong type.
    #[error("{path}: {reason}\nRun `voxseg train --help` for the keys; `config.toml` in a run folder shows them all", path = path.display())]
    Parse {
        /// The file.
        path: std::path::PathBuf,
        /// Line, key, what was expected.
        reason: String,
    },
    /// The network cannot be trained so.
    #[error("configuration: `network.model` (--model): {0}")]
    Model(ModelError),
    /// Keys that would change nothing.
    #[error(
        "configuration: [network]: `{name}` (--model) does not follow {}: it has its own, or none. Leave out what it does not follow; `voxseg models {name}` says what it does",
        keys.join(", ")
    )]
    NotFollowed {
        /// The family of the network.
        name: String,
        /// The keys, in words.
        keys: Vec<String>,
    },
    /// A value makes no sense.
    #[error("configuration: `{key}` must be {expected}, found {found}")]
    Value {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// More classes than a loss takes.
    #[error(
        "`loss` takes at most {MAX_CLASSES} classes, the background among them, or regions; `labels` of dataset.json has {0}. Join labels, or train two networks on a part of them each"
    )]
    Classes(usize),
}

impl ConfigError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_users_fault(source),
            Self::Model(e) => e.is_users_fault(),
            Self::Parse { .. }
            | Self::Value { .. }
            | Self::NotFollowed { .. }
            | Self::Classes(_) => true,
        }
    }
}

impl TrainConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`ConfigError`]; an unknown key names its line.
    pub fn read(path: &std::path::Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.to_owned(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|e| ConfigError::Parse {
            path: path.to_owned(),
            reason: in_users_terms(&e.to_string()),
        })?;
        Ok(Self {
            loss: config.loss.or_usual_parts(),
            ..config
        })
    }

    /// Checks the values that only numbers can tell.
    ///
    /// # Errors
    /// [`ConfigError::Value`]; [`ConfigError::Model`] where no network of that name follows a plan.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let value = |key: &str, expected, found: String| {
            Err(ConfigError::Value {
                key: key.to_owned(),
                expected,
                found,
            })
        };
        if self.schedule.steps == Some(0) {
            return value("schedule.steps", "at least 1", "0".into());
        }
        if self.schedule.checkpoint_every == Some(0) {
            return value("schedule.checkpoint_every", "at least 1", "0".into());
        }
        if self.batch.size == Some(0) {
            return value("batch.size", "at least 1", "0".into());
        }
        if let Some(patch) = self.batch.patch
            && patch.contains(&0)
        {
            return value("batch.patch", "three numbers above 0", format!("{patch:?}"));
        }
        if let Some(spacing) = self.batch.spacing
            && spacing.iter().any(|s| !s.is_finite() || *s <= 0.0)
        {
            return value(
                "batch.spacing",
                "three lengths in mm above 0",
                format!("{spacing:?}"),
            );
        }
        if !(0.0..=1.0).contains(&self.batch.foreground) {
            return value(
                "batch.foreground",
                "between 0 and 1",
                self.batch.foreground.to_string(),
            );
        }
        if let Fold::Number(n) = self.fold
            && n >= crate::dataset::FOLDS
        {
            return value("fold", "0 to 4, or \"all\"", n.to_string());
        }
        if let Some(name) = &self.network.model {
            planned_model(name).map_err(ConfigError::Model)?;
            check_decoder(name, self.overrides().decoder).map_err(ConfigError::Model)?;
        }
        let tables = [
            ("network", self.overrides().network_fault()),
            ("loss", self.loss.fault()),
            ("optimizer", self.optimizer().fault()),
            ("learning_rate", self.learning_rate().fault()),
        ];
        let faults = tables.into_iter();
        match faults.filter_map(|(table, f)| Some((table, f?))).next() {
            Some((table, fault)) => value(
                &format!("{table}.{}", fault.key),
                fault.expected,
                fault.found,
            ),
            None => Ok(()),
        }
    }

    /// [`TrainConfig::validate`], and checks what depends on the classes of the data set.
    ///
    /// # Errors
    /// [`ConfigError::Value`] or [`ConfigError::Classes`].
    pub(super) fn validate_for(&self, labels: &Labels) -> Result<(), ConfigError> {
        self.validate()?;
        if labels.classes() > MAX_CLASSES {
            return Err(ConfigError::Classes(labels.classes()));
        }
        let Some(weights) = &self.loss.class_weights else {
            return Ok(());
        };
        let (expected, is_right) = match labels.is_regions() {
            true => ("left out where the labels are regions", false),
            false => (
                "a list with a number for each class, the background first",
                weights.len() == labels.classes(),
            ),
        };
        match is_right {
            true => Ok(()),
            false => Err(ConfigError::Value {
                key: "loss.class_weights".into(),
                expected,
                found: format!(
                    "{} for {}",
                    weights.len(),
                    labels.channel_names().join(", ")
                ),
            }),
        }
    }
}

/// The parser's words without the names of Rust's types.
fn in_users_terms(reason: &str) -> String {
    const WORDS: [(&str, &str); 9] = [
        ("expected usize", "expected a whole number from 0 on"),
        ("expected u64", "expected a whole number from 0 on"),
        ("expected f32", "expected a number"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        (
            "expected an array of length 3",
            "expected a list of three, [D, H, W]",
        ),
        ("expected a sequence", "expected a list"),
        (
            "invalid type: floating point",
            "invalid type: number with a fraction",
        ),
        ("internally tagged enum", "a table with `kind`,"),
    ];
    let replaced = |text: String, (ours, users): (&str, &str)| text.replace(ours, users);
    WORDS.into_iter().fold(reason.to_owned(), replaced)
}
