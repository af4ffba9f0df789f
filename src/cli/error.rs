//! What ends a verb early, and the exit code that it gives.

use std::io;
use std::path::{Path, PathBuf};

use crate::classify::ClassifyError;
use crate::dataset::DatasetError;
use crate::dataset::synthetic::SyntheticError;
use crate::fsio::is_users_fault;
use crate::gpu::GpuError;
use crate::graph::GraphError;
use crate::infer::InferError;
use crate::metrics::MetricsError;
use crate::models::ModelError;
use crate::postprocess::PostprocessError;
use crate::report::picture::PictureError;
use crate::train::{ConfigError, TrainError};
use crate::volume::VolumeError;
use crate::weights::WeightsError;

/// The exit code of a program that SIGINT ends.
pub(super) const INTERRUPTED: u8 = 130;

fn listed(errors: &[CliError]) -> String {
    let lines: Vec<String> = errors.iter().map(CliError::to_string).collect();
    lines.join("\nand ")
}

/// An error of a verb.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// Flags or arguments that make no sense, alone or together.
    #[error("{0}")]
    Usage(String),
    /// Stdout takes no more.
    #[error("the result cannot be written to stdout: {0}")]
    Stdout(io::Error),
    /// What was done is told already, but it is not all.
    #[error("{message}")]
    Partial {
        /// What is missing and why.
        message: String,
        /// The exit code that says so.
        exit_code: u8,
    },
    /// Several things at once, at least one.
    #[error("{}", listed(.0))]
    Several(Vec<CliError>),
    /// A file or folder that cannot serve.
    #[error("{path}: {problem}", path = path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A file or folder that the system refuses.
    #[error("{path}: cannot be {action}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A volume or picture.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A data set.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A network that is too large for the device on this patch.
    #[error("{source}. A patch that would fit: --patch {patch}")]
    TooLarge {
        /// What is too large, and by how much.
        source: Box<ModelError>,
        /// The patch that would fit, D,H,W.
        patch: String,
    },
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A training run.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The configuration of a training run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A trained network at work.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// A classifier.
    #[error(transparent)]
    Classify(ClassifyError),
    /// Weights of others.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The demo's data set.
    #[error(transparent)]
    Synthetic(#[from] SyntheticError),
    /// A filter on a segmentation.
    #[error(transparent)]
    Postprocess(#[from] PostprocessError),
    /// A picture of results.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

impl From<ClassifyError> for CliError {
    fn from(error: ClassifyError) -> Self {
        match error {
            ClassifyError::Train(error) => Self::Train(error),
            other => Self::Classify(other),
        }
    }
}

impl CliError {
    /// [`CliError::Input`].
    pub fn input(path: &Path, problem: impl ToString) -> Self {
        Self::Input {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// [`CliError::Io`] while reading.
    pub fn read(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action: "read",
            source,
        }
    }

    /// [`CliError::Io`] while writing.
    pub fn written(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action: "written",
            source,
        }
    }

    /// Whether the result is on stdout although it is not all.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Partial { .. } | Self::Stdout(_))
    }

    /// 2 where the user can mend it, 1 where it is ours or the machine's, 130 where the user ended it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Partial { exit_code, .. } => return *exit_code,
            Self::Train(TrainError::Stopped { .. }) => return INTERRUPTED,
            Self::Several(errors) => {
                let codes = errors.iter().map(Self::exit_code);
                return codes.min().unwrap_or(1);
            }
            _ => {}
        }
        let users = match self {
            Self::Usage(_) | Self::Input { .. } | Self::TooLarge { .. } | Self::Metrics(_) => true,
            Self::Config(e) => e.is_users_fault(),
            Self::Io { source, .. } => is_users_fault(source),
            Self::Volume(e) => e.is_users_fault(),
            Self::Dataset(e) => e.is_users_fault(),
            Self::Gpu(e) => e.is_users_fault(),
            Self::Graph(e) => e.is_users_fault(),
            Self::Train(e) => e.is_users_fault(),
            Self::Infer(e) => e.is_users_fault(),
            Self::Classify(e) => e.is_users_fault(),
            Self::Weights(e) => e.is_users_fault(),
            Self::Synthetic(SyntheticError::Volume(e)) => e.is_users_fault(),
            Self::Synthetic(_) => true,
            Self::Picture(_) | Self::Postprocess(_) | Self::Stdout(_) => false,
            Self::Partial { .. } | Self::Several(_) => false,
            Self::Model(e) => e.is_users_fault(),
        };
        if users { 2 } else { 1 }
    }
}
