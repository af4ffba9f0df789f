//! What was trained in the folder that a verb is given.

use std::path::Path;

use super::CliError;
use crate::classify::Description;
use crate::run::RunFolder;

/// The folder of a run, by what was trained in it.
pub(super) enum Trained {
    /// A network that segments, with plan.json.
    Segmenter(RunFolder),
    /// A network that tells the class of whole images, with classifier.json.
    Classifier(RunFolder),
}

impl Trained {
    /// What was trained at `path`.
    ///
    /// # Errors
    /// [`CliError::Input`] where there is no run; it says to give `wanted`.
    pub fn at(path: &Path, wanted: &str) -> Result<Self, CliError> {
        let folder = RunFolder::new(path);
        if folder.plan().is_file() {
            return Ok(Self::Segmenter(folder));
        }
        if Description::file(&folder).is_file() {
            return Ok(Self::Classifier(folder));
        }
        let problem = match path {
            path if path.is_dir() => "no plan.json in it",
            path if path.exists() => "is a file, not the folder of a run",
            _ => "no such folder",
        };
        Err(CliError::input(path, format!("{problem}; give {wanted}")))
    }
}
