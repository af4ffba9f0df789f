//! What can go wrong between a folder of cases and a batch.

use std::io;
use std::path::{Path, PathBuf};

use crate::fsio::is_users_fault;
use crate::volume::VolumeError;

/// Why a data set, one of its cases or a prepared case cannot be used.
///
/// Every message names the file, what was expected, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The system could not read or write.
    #[error("{}: cannot be {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },

    /// A folder of the raw layout is missing.
    #[error("{}: no such folder; {remedy}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
        /// How to make it right.
        remedy: &'static str,
    },

    /// A JSON file that is no JSON, or not of the expected form.
    #[error("{}: {reason}; correct the file", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        reason: String,
    },

    /// A key of dataset.json that is missing or makes no sense.
    #[error("{}: key \"{key}\": expected {expected}, found {found}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// The key, with dots for nesting.
        key: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },

    /// A folder without a single case.
    #[error("{}: no images in it; expected files named like CASE_0000{ending}{hint}", path.display())]
    NoCases {
        /// The folder.
        path: PathBuf,
        /// The ending that dataset.json promises.
        ending: String,
        /// What is there instead.
        hint: String,
    },

    /// A file of the wanted ending whose name carries no channel number.
    #[error("{}: the name carries no channel number; rename it to CASE_0000{ending} (the channel in four digits)", path.display())]
    NoChannelNumber {
        /// The file.
        path: PathBuf,
        /// The ending of the data set.
        ending: String,
    },

    /// One of several channels of a case is not there.
    #[error("{}: not there, but case {case} has other channels; every case needs all {channels} channels of dataset.json", path.display())]
    MissingChannel {
        /// The file that was expected.
        path: PathBuf,
        /// The case.
        case: String,
        /// Number of channels.
        channels: usize,
    },

    /// A channel that dataset.json does not name.
    #[error("{}: channel {channel}, but only {channels} channel(s) are named (0 to {}); name it in dataset.json or remove the file", path.display(), channels - 1)]
    SurplusChannel {
        /// The file.
        path: PathBuf,
        /// Its number.
        channel: usize,
        /// Number of channels.
        channels: usize,
    },

    /// A file that is named as an image of a case but is of another kind, or of none that can be read.
    #[error("{}: cannot be used beside images that end in {ending}; convert it, or take it out of the folder", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// The ending of the data set.
        ending: String,
    },

    /// Two files for one channel of a case.
    #[error("{} and {} are the same channel of the same case; remove one of them", path.display(), other.display())]
    Twice {
        /// One file.
        path: PathBuf,
        /// The other.
        other: PathBuf,
    },

    /// A file holds more or fewer channels than it should.
    #[error("{}: case {case} has {found} channel(s) in its file(s), expected {expected}; name each channel in dataset.json's channel_names (a colour picture has three)", path.display())]
    ChannelCount {
        /// The first file of the case.
        path: PathBuf,
        /// The case.
        case: String,
        /// As named.
        expected: usize,
        /// In the files.
        found: usize,
    },

    /// A training case without a label.
    #[error("{}: not there; every image of imagesTr needs a label of this name, add it or move case {case} to imagesTs", path.display())]
    MissingLabel {
        /// The file that was expected.
        path: PathBuf,
        /// The case.
        case: String,
    },

    /// A label without an image.
    #[error("{}: no image of case {case} in imagesTr; add it or remove the label", path.display())]
    StrayLabel {
        /// The label.
        path: PathBuf,
        /// The case.
        case: String,
    },

    /// `numTraining` does not agree with the folder.
    #[error("{}: numTraining is {promised}, but imagesTr holds {found} case(s); add the missing ones or correct the number", path.display())]
    CaseCount {
        /// dataset.json.
        path: PathBuf,
        /// As written.
        promised: usize,
        /// In the folder.
        found: usize,
    },

    /// A label file with values that dataset.json does not name.
    #[error("{}: label(s) {} ({count} voxels, the first at (D, H, W) = {first:?}) are not in dataset.json, which has {}; correct the label file or name them", path.display(), list(found), list(allowed))]
    LabelValue {
        /// The label file.
        path: PathBuf,
        /// The values, ascending, at most eight.
        found: Vec<u32>,
        /// What dataset.json has.
        allowed: Vec<u32>,
        /// Voxels of such values.
        count: usize,
        /// Index of the first of them.
        first: [usize; 3],
    },

    /// A volume without a single voxel.
    #[error("{}: no voxels, its shape (D, H, W) is {shape:?}; export it again", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// D, H, W.
        shape: [usize; 3],
    },

    /// A spacing in the header that makes the resampled volume absurdly large.
    #[error("{}: resampling it from a spacing (D, H, W) of {found:?} mm to {target:?} mm gives {shape:?} voxels, more than fit into memory; correct the spacing in its header, or plan a coarser one", path.display())]
    Resampled {
        /// The first image file of the case.
        path: PathBuf,
        /// Its spacing.
        found: [f64; 3],
        /// The spacing of the plan.
        target: [f64; 3],
        /// What would come out.
        shape: [usize; 3],
    },

    /// A file of splits that does not fit the cases, or a fold that it does not have.
    #[error("{}: {reason}", path.display())]
    Split {
        /// The file of splits, or the folder of the data set where there is none.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },

    /// A prepared case that is cut off, of another program or of another version.
    #[error("{}: {reason}; delete the file, it is made again from the images", path.display())]
    Prepared {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A plan or a setting that the data cannot follow.
    #[error("plan: {what} must be {expected}, found {found}")]
    Plan {
        /// Which number.
        what: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },

    /// Arrays whose sizes do not belong together.
    #[error("{what}: {found} values, expected {expected}")]
    Size {
        /// Which array.
        what: &'static str,
        /// Values needed.
        expected: usize,
        /// Values given.
        found: usize,
    },

    /// A file that cannot be read as an image or label map.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

impl DatasetError {
    /// Whether the user can set it right by giving other files or settings (exit code 2) rather
    /// than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Volume(error) => error.is_users_fault(),
            Self::Io { source, .. } => is_users_fault(source),
            Self::Size { .. } => false,
            _ => true,
        }
    }

    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action: "read",
            source,
        }
    }

    pub(super) fn written(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action: "written",
            source,
        }
    }

    pub(super) fn json(path: &Path, error: &serde_json::Error) -> Self {
        Self::Json {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn prepared(path: &Path, reason: impl Into<String>) -> Self {
        Self::Prepared {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

fn list(values: &[u32]) -> String {
    let words: Vec<String> = values.iter().map(u32::to_string).collect();
    words.join(", ")
}
