//! Which prediction belongs to which truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::{CliError, Output};
use crate::volume::{ending_of, supported_endings};

/// The files of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CaseFiles {
    /// File name without its ending.
    pub name: String,
    /// The truth.
    pub truth: PathBuf,
    /// The prediction, where there is one.
    pub prediction: Option<PathBuf>,
}

/// All cases, and what has no truth.
#[derive(Debug)]
pub(super) struct Pairing {
    /// One per truth, in order of the names.
    pub cases: Vec<CaseFiles>,
    /// Predictions without a truth.
    strays: Vec<PathBuf>,
}

/// Label files by the name of their case.
type Files = BTreeMap<String, Vec<PathBuf>>;

impl Pairing {
    /// Pairs two files, or the files of two folders by name. `ending` is that of the data set: where
    /// a folder has such files, those of other endings are no truths.
    ///
    /// # Errors
    /// [`CliError`] where something is missing, empty or ambiguous, or where no case has a prediction.
    pub fn find(prediction: &Path, truth: &Path, ending: Option<&str>) -> Result<Self, CliError> {
        match (kind(prediction)?, kind(truth)?) {
            (Kind::File, Kind::File) => Ok(Self {
                cases: vec![CaseFiles {
                    name: case_name(truth).unwrap_or_else(|| truth.display().to_string()),
                    truth: truth.to_owned(),
                    prediction: Some(prediction.to_owned()),
                }],
                strays: Vec::new(),
            }),
            (Kind::Folder, Kind::Folder) => Self::of_folders(prediction, truth, ending),
            (p, t) => Err(CliError::Usage(format!(
                "PRED ({}) is a {} and TRUTH ({}) a {}; give two folders or two files",
                prediction.display(),
                p.word(),
                truth.display(),
                t.word(),
            ))),
        }
    }

    fn of_folders(prediction: &Path, truth: &Path, ending: Option<&str>) -> Result<Self, CliError> {
        let mut truths = label_files(truth)?;
        if let Some(ending) = ending.filter(|e| truths.values().flatten().any(|p| has(p, e))) {
            for files in truths.values_mut() {
                files.retain(|path| has(path, ending));
            }
            truths.retain(|_, files| !files.is_empty());
        }
        let mut predictions = label_files(prediction)?;
        let first_prediction = predictions.values().flatten().next().cloned();
        let mut cases = Vec::with_capacity(truths.len());
        for (name, files) in truths {
            let truth = only(files)?;
            let found = predictions.remove(&name);
            cases.push(CaseFiles {
                prediction: found.map(|files| closest(files, &truth)).transpose()?,
                name,
                truth,
            });
        }
        if let (true, Some(stranger)) = (
            cases.iter().all(|c| c.prediction.is_none()),
            first_prediction,
        ) {
            let problem = format!(
                "no prediction for any of the {} case(s) of {}; a prediction must have the name of its truth, such as {}, found {}",
                cases.len(),
                truth.display(),
                cases[0].name,
                stranger.display(),
            );
            return Err(CliError::input(prediction, problem));
        }
        Ok(Self {
            cases,
            strays: predictions.into_values().flatten().collect(),
        })
    }

    /// Says what has no counterpart.
    pub fn warn(&self, output: &Output) {
        for case in self.cases.iter().filter(|c| c.prediction.is_none()) {
            output.news(&format!(
                "warning: no prediction of case {}; it counts as failure",
                case.name
            ));
        }
        for path in &self.strays {
            output.news(&format!(
                "warning: {}: no truth of this name; it is not measured",
                path.display()
            ));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
        }
    }
}

fn kind(path: &Path) -> Result<Kind, CliError> {
    let metadata = std::fs::metadata(path).map_err(|e| CliError::read(path, e))?;
    Ok(if metadata.is_dir() {
        Kind::Folder
    } else {
        Kind::File
    })
}

fn has(path: &Path, ending: &str) -> bool {
    ending_of(path).is_some_and(|known| known.eq_ignore_ascii_case(ending))
}

/// The name of a label file without its ending; `None` where the format is unknown.
fn case_name(path: &Path) -> Option<String> {
    let ending = ending_of(path)?;
    let name = path.file_name()?.to_string_lossy();
    Some(name[..name.len() - ending.len()].to_owned())
}

/// The visible label files of a folder. A broken link is one as well: reading it will say so.
fn label_files(folder: &Path) -> Result<Files, CliError> {
    let read = |e| CliError::read(folder, e);
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = case_name(&path).filter(|name| !name.starts_with('.'));
        if let Some(name) = name.filter(|name| !name.is_empty() && !path.is_dir()) {
            files.entry(name).or_default().push(path);
        }
    }
    if files.is_empty() {
        let problem = format!(
            "no label files in it; their names must end in {}",
            supported_endings().join(", ")
        );
        return Err(CliError::input(folder, problem));
    }
    for files in files.values_mut() {
        files.sort_unstable();
        // Header and voxels of a pair are one file in two.
        if files.iter().any(|path| has(path, ".hdr")) {
            files.retain(|path| !has(path, ".img") && !has(path, ".img.gz"));
        }
    }
    Ok(files)
}

fn only(mut files: Vec<PathBuf>) -> Result<PathBuf, CliError> {
    let last = files.pop();
    match (last, files.first()) {
        (Some(only), None) => Ok(only),
        (Some(last), Some(first)) => Err(CliError::input(
            &last,
            format!(
                "is of the same case as {}; remove one of them",
                first.display()
            ),
        )),
        (None, _) => Err(CliError::Usage("a case without files".into())),
    }
}

/// Of several predictions of a case, the one in the format of its truth.
fn closest(files: Vec<PathBuf>, truth: &Path) -> Result<PathBuf, CliError> {
    let same = files
        .iter()
        .find(|path| ending_of(path) == ending_of(truth));
    match same {
        Some(path) => Ok(path.clone()),
        None => only(files),
    }
}
