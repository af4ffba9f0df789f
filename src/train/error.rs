//! What can end a training run.

use std::path::PathBuf;

use super::config::ConfigError;
use crate::dataset::DatasetError;
use crate::fsio::is_users_fault;
use crate::graph::GraphError;
use crate::losses::SupervisionError;
use crate::metrics::MetricsError;
use crate::models::ModelError;
use crate::report::curves::CurvesError;
use crate::report::picture::PictureError;
use crate::run::checkpoint::CheckpointError;
use crate::tune::{ChoicesError, TuneError};
use crate::volume::VolumeError;
use crate::weights::WeightsError;
use crate::words::extent;

fn listed(problems: &[DatasetError]) -> String {
    let lines = problems.iter().map(|problem| format!("\nand {problem}"));
    lines.collect()
}

/// An error of a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The data, in several places.
    #[error("{first}{}", listed(more))]
    Problems {
        /// The first problem of the data set.
        first: DatasetError,
        /// All others.
        more: Vec<DatasetError>,
    },
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A network that is too large for the device on this patch.
    #[error("{source}. A patch that would fit: --patch {}", extent(*patch))]
    TooLarge {
        /// What is too large, and by how much.
        source: Box<ModelError>,
        /// The patch that would fit.
        patch: [usize; 3],
    },
    /// The graph or the device.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The measuring of kernels.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// The file of what was measured.
    #[error(transparent)]
    Kernels(#[from] ChoicesError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Weights of others.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights of the heads.
    #[error(transparent)]
    Supervision(#[from] SupervisionError),
    /// A file of images or labels.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The metrics of the validation.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The picture of the validation.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The curves of the training.
    #[error(transparent)]
    Curves(#[from] CurvesError),
    /// A file of the run.
    #[error("{path}: {source}. Check the free space and the permissions of the folder", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// A run is there already.
    #[error("{path} already holds a run. Continue it with --resume, or give another folder", path = .0.display())]
    RunExists(PathBuf),
    /// The run was trained on other data.
    #[error("{run} was trained on {trained}, but {dataset} has {given}. {remedy}", run = run.display(), dataset = dataset.display())]
    OtherData {
        /// The run.
        run: PathBuf,
        /// The channels, ending or labels that it was trained on.
        trained: String,
        /// The data set.
        dataset: PathBuf,
        /// What that has instead.
        given: String,
        /// What to do.
        remedy: String,
    },
    /// The caller asked for an end.
    #[error("stopped after step {step}; go on with --resume")]
    Stopped {
        /// Steps done.
        step: usize,
    },
    /// Another process trains there.
    #[error("another process is training in {path}. Wait until it ends, or stop it, or give another folder", path = .0.display())]
    InUse(PathBuf),
    /// The folder holds something else.
    #[error("{path} is not a run of voxseg: {reason}", path = path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// Loss or gradients stopped being numbers.
    #[error(
        "step {step}: loss or gradients were not finite {times} times in a row. Start anew in another folder with a lower learning rate (learning_rate.initial; --learning-rate of `classify train`) or, where activations are stored as f16, with --precision f32, and look for extreme intensities in the images"
    )]
    NotFinite {
        /// The step.
        step: usize,
        /// How often.
        times: usize,
    },
    /// The thread that draws batches went away.
    #[error(
        "step {step}: the thread that prepares batches stopped (a mistake in voxseg; please report it). Continue with --resume"
    )]
    Loader {
        /// The step.
        step: usize,
    },
}

impl TrainError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Dataset(e) => e.is_users_fault(),
            Self::Model(e) => e.is_users_fault(),
            Self::Graph(e) => e.is_users_fault(),
            Self::Checkpoint(e) => e.is_users_fault(),
            Self::Volume(e) => e.is_users_fault(),
            Self::Weights(e) => e.is_users_fault(),
            Self::Config(e) => e.is_users_fault(),
            Self::Kernels(e) => e.is_users_fault(),
            Self::Tune(e) => e.is_users_fault(),
            Self::Io { source, .. } => is_users_fault(source),
            Self::Loader { .. } | Self::Metrics(_) | Self::Picture(_) | Self::Curves(_) => false,
            _ => true,
        }
    }
}
