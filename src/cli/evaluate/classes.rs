//! What is measured: the classes of dataset.json, or the labels that the truth has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::EvaluateArgs;
use super::cases::CaseFiles;
use crate::cli::CliError;
use crate::dataset::{DESCRIPTION_FILE, Description, Labels, check_label_values};
use crate::metrics::{Class, Settings, Unit};
use crate::run::classes_of;
use crate::volume::{LabelMap, read_labels};

/// More labels than any table of classes has: such files are images, or count instances.
const MOST_LABELS: usize = 1000;

/// The classes to measure and the labels that files may hold.
#[derive(Debug)]
pub(super) struct Classes {
    /// The classes.
    pub settings: Settings,
    /// Those of dataset.json, where there is one.
    labels: Option<Labels>,
}

impl Classes {
    /// The classes or regions of dataset.json.
    ///
    /// # Errors
    /// [`CliError::Metrics`] where they cannot be measured.
    pub fn named(labels: &Labels) -> Result<Self, CliError> {
        Ok(Self {
            settings: Settings::new(classes_of(labels))?.with_ignore(labels.ignore),
            labels: Some(labels.clone()),
        })
    }

    /// A class per label above 0 of the truth files, named by its number.
    ///
    /// # Errors
    /// The first file that cannot be read; [`CliError::Input`] where there is no label, or far too many.
    pub fn found_in(cases: &[CaseFiles], truth: &Path) -> Result<Self, CliError> {
        let mut found = BTreeSet::new();
        for batch in cases.chunks(rayon::current_num_threads()) {
            let labels: Vec<_> = batch.par_iter().map(|c| read_labels(&c.truth)).collect();
            for (case, map) in batch.iter().zip(labels) {
                found.extend(labels_of(&map?));
                if found.len() > MOST_LABELS {
                    let problem = format!(
                        "more than {MOST_LABELS} different labels up to this file; is it an image instead of a label map? Otherwise name the classes with --dataset"
                    );
                    return Err(CliError::input(&case.truth, problem));
                }
            }
        }
        found.remove(&0);
        if found.is_empty() {
            let problem = "no label above 0 and no dataset.json; name the classes with --dataset";
            return Err(CliError::input(truth, problem));
        }
        let classes = found
            .iter()
            .map(|label| Class::new(label.to_string(), [*label]));
        Ok(Self {
            settings: Settings::new(classes.collect())?,
            labels: None,
        })
    }

    /// Another tolerance of the NSD in mm.
    ///
    /// # Errors
    /// [`CliError::Metrics`] where it is negative or no number.
    pub fn with_tolerance(self, mm: f64) -> Result<Self, CliError> {
        Ok(Self {
            settings: self.settings.with_nsd_tolerance(mm)?,
            ..self
        })
    }

    /// Distances in this unit.
    pub fn with_unit(self, unit: Unit) -> Self {
        Self {
            settings: self.settings.with_unit(unit),
            ..self
        }
    }

    /// Refuses a file with labels that dataset.json does not name.
    ///
    /// # Errors
    /// [`CliError::Dataset`] naming file, labels and the first voxel.
    pub fn check(&self, path: &Path, map: &LabelMap) -> Result<(), CliError> {
        if let Some(labels) = &self.labels {
            check_label_values(path, map, labels)?;
        }
        Ok(())
    }

    /// Labels that no class has, where the classes are those that the truth happens to have.
    pub fn strangers(&self, labels: &BTreeSet<u32>) -> BTreeSet<u32> {
        let known =
            |label: u32| label == 0 || self.settings.classes().iter().any(|c| c.contains(label));
        labels
            .iter()
            .copied()
            .filter(|&label| self.labels.is_none() && !known(label))
            .collect()
    }
}

/// The different labels of a map.
pub(super) fn labels_of(map: &LabelMap) -> BTreeSet<u32> {
    // Neighbours are nearly always equal, and a set is slow to ask.
    map.labels()
        .chunk_by(|a, b| a == b)
        .map(|run| run[0])
        .collect()
}

/// Labels in words, the first few of them.
pub(super) fn list(labels: &BTreeSet<u32>) -> String {
    const SHOWN: usize = 8;
    let mut words: Vec<String> = labels.iter().take(SHOWN).map(u32::to_string).collect();
    if labels.len() > SHOWN {
        words.push("...".into());
    }
    words.join(", ")
}

/// The dataset.json of `--dataset`, or the first one in or above TRUTH and PRED.
///
/// # Errors
/// [`CliError`] where `--dataset` names none, or where the one found is damaged.
pub(super) fn find_description(args: &EvaluateArgs) -> Result<Option<Description>, CliError> {
    if let Some(path) = &args.dataset {
        let file = if path.is_dir() {
            path.join(DESCRIPTION_FILE)
        } else {
            path.clone()
        };
        return read_description(&file).map(Some);
    }
    let places = [&args.truth, &args.prediction].map(|path| folder_of(path));
    let candidates = places
        .iter()
        .flat_map(|folder| [folder.clone(), folder.join("..")])
        .map(|folder| folder.join(DESCRIPTION_FILE));
    candidates
        .into_iter()
        .find(|file| file.is_file())
        .map(|file| read_description(&file))
        .transpose()
}

fn read_description(file: &Path) -> Result<Description, CliError> {
    let text = std::fs::read_to_string(file).map_err(|e| CliError::read(file, e))?;
    Ok(Description::parse(&text, file)?)
}

fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
