//! What lies in the folder of a run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::fsio::is_temporary;

/// The files of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The run at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The effective configuration, all keys.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// What was planned from the data: enough to predict without the data set.
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// The fingerprint that the plan was made from.
    pub fn fingerprint(&self) -> PathBuf {
        self.root.join("dataset_fingerprint.json")
    }

    /// The five folds.
    pub fn splits(&self) -> PathBuf {
        self.root.join("splits_final.json")
    }

    /// The preprocessed cases; may be deleted, and is made again when needed.
    pub fn prepared(&self) -> PathBuf {
        self.root.join("prepared")
    }

    /// The file that a training process locks; see [`RunFolder::lock`].
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("train.lock")
    }

    /// The kernels that measuring chose; only where the run was tuned.
    pub fn kernels(&self) -> PathBuf {
        self.root.join("kernels.json")
    }

    /// Whether the file `name` of the folder was made before the first step, so that nothing is lost when it is made
    /// anew. A configuration without a fingerprint is that of a run to resume, or the user's own.
    pub(crate) fn is_preliminary(&self, name: &OsStr) -> bool {
        let is = |path: PathBuf| path.file_name() == Some(name);
        is_temporary(name)
            || is(self.lock_file())
            || is(self.fingerprint())
            || is(self.plan())
            || is(self.splits())
            || is(self.kernels())
            || is(self.prepared())
            || is(self.start())
            || is(self.config()) && (self.fingerprint().exists() || self.start().exists())
    }

    /// One JSON object a line: steps and validations.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// The weights that training begins with, where they are those of another run.
    pub fn start(&self) -> PathBuf {
        self.root.join("checkpoint_start.safetensors")
    }

    /// The newest checkpoint, which `--resume` takes.
    pub fn latest(&self) -> PathBuf {
        self.root.join("checkpoint_latest.safetensors")
    }

    /// The checkpoint with the best validation Dice (moving average).
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoint_best.safetensors")
    }

    /// The checkpoint of the last step.
    pub fn last(&self) -> PathBuf {
        self.root.join("checkpoint_final.safetensors")
    }

    /// Loss and validation Dice over the steps.
    pub fn curves(&self) -> PathBuf {
        self.root.join("progress.svg")
    }

    /// Validation cases with truth and prediction side by side.
    pub fn picture(&self) -> PathBuf {
        self.root.join("validation.png")
    }

    /// The metrics of the validation cases.
    pub fn validation(&self) -> PathBuf {
        self.root.join("validation.json")
    }

    /// The predicted label maps of the validation cases.
    pub fn predictions(&self) -> PathBuf {
        self.root.join("validation")
    }
}
