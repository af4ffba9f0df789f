//! What can end the training of a classifier, or its word on an image.

use std::path::{Path, PathBuf};

use crate::graph::GraphError;
use crate::models::ModelError;
use crate::run::checkpoint::CheckpointError;
use crate::train::{ConfigError, TrainError};
use crate::volume::VolumeError;
use crate::weights::WeightsError;

/// An error of a classifier.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifyError {
    /// A folder or list that holds no data set.
    #[error("{}: {problem}", path.display())]
    Layout {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A class without an image.
    #[error("{}: the class `{class}` has no image{}; add some, or remove its folder", path.display(), beside(*others))]
    EmptyClass {
        /// The folder.
        path: PathBuf,
        /// The class.
        class: String,
        /// Files that are no image that can be read.
        others: usize,
    },
    /// Nothing to tell apart.
    #[error("{}: all images are of the class `{class}`; a classifier needs images of two classes at least", path.display())]
    OneClass {
        /// The data set.
        path: PathBuf,
        /// The only class.
        class: String,
    },
    /// A class that only held-out images have.
    #[error("{}: its class `{label}` is none of the training images', which are {known}", path.display())]
    UnknownLabel {
        /// The image.
        path: PathBuf,
        /// Its class.
        label: String,
        /// The classes that there are.
        known: String,
    },
    /// An image that is there twice.
    #[error("{}: this image is in the data set already, as {}; an image must have one class, and must not be both trained on and held out", path.display(), first.display())]
    Duplicate {
        /// The image.
        path: PathBuf,
        /// Where it came first.
        first: PathBuf,
    },
    /// An image of other channels than the first.
    #[error("{}: {found} channel(s), but {} has {expected}; all images must be grey, or all in colour", path.display(), first.display())]
    Channels {
        /// The image.
        path: PathBuf,
        /// Its channels.
        found: usize,
        /// The image that came first.
        first: PathBuf,
        /// The channels of that.
        expected: usize,
    },
    /// An image of which the network says nothing.
    #[error("{}: the network gives no finite numbers for this image; its weights or its f16 storage overflow, so take another --checkpoint or --precision f32", path.display())]
    NotFinite {
        /// The image.
        path: PathBuf,
    },
    /// A network that tells classes of voxels.
    #[error("`{name}` segments, it does not classify; networks for whole images are {known}")]
    NotAClassifier {
        /// The name.
        name: String,
        /// The classifiers that there are.
        known: String,
    },
    /// The data set is not that of the run.
    #[error("{}: {problem}. Give the data set that the run was begun with, or start a new run in another folder", run.display())]
    OtherData {
        /// The run.
        run: PathBuf,
        /// In what they differ.
        problem: String,
    },
    /// An image.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Weights of others.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The graph or the device.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The loop.
    #[error(transparent)]
    Train(#[from] TrainError),
}

fn beside(others: usize) -> String {
    match others {
        0 => String::new(),
        n => format!(
            " that can be read, only {n} other file(s); images end in {}, and others must be converted",
            crate::volume::supported_endings().join(", ")
        ),
    }
}

impl ClassifyError {
    /// [`ClassifyError::Layout`].
    pub(super) fn layout(path: &Path, problem: impl Into<String>) -> Self {
        Self::Layout {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// A file or folder that the system refuses.
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        TrainError::io(path, source).into()
    }

    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Volume(e) => e.is_users_fault(),
            Self::Weights(e) => e.is_users_fault(),
            Self::Model(e) => e.is_users_fault(),
            Self::Graph(e) => e.is_users_fault(),
            Self::Checkpoint(e) => e.is_users_fault(),
            Self::Config(e) => e.is_users_fault(),
            Self::Train(e) => e.is_users_fault(),
            _ => true,
        }
    }
}
