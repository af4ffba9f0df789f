//! dataset.json: what the files of a data set are.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::DatasetError;
use super::labels::{Labels, Target};
use crate::volume::supported_endings;
use crate::words::counted;

/// Name of the file that describes a data set.
pub const DESCRIPTION_FILE: &str = "dataset.json";

/// Labels are class indices of an `f32` loss target and are stored in 16 bits.
const LARGEST_LABEL: u64 = u16::MAX as u64;

/// The content of dataset.json (nnU-Net version 2).
///
/// A description of version 1 (`modality` instead of `channel_names`, labels from value to name, no
/// `file_ending`) is understood as well: labels are turned round and the ending is `.nii.gz`.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Name of each input channel, 0 first; the name selects the normalisation.
    pub channel_names: Vec<String>,
    /// The labels.
    pub labels: Labels,
    /// Ending of all image and label files, with its dot.
    pub file_ending: String,
    /// Number of training cases that the author promises.
    pub num_training: Option<usize>,
    /// Name of the data set, where it has one.
    pub name: Option<String>,
}

/// What the files of a data set are, in words: channels by name, ending, labels.
pub fn data_text(channels: &[String], ending: &str, labels: &Labels) -> String {
    let targets = labels.foreground.iter().map(|target| target.name.as_str());
    let targets: Vec<&str> = targets.collect();
    format!(
        "{} ({}) in {ending} files with {} {}",
        counted(channels.len(), "channel"),
        channels.join(", "),
        if labels.is_regions() {
            "regions"
        } else {
            "labels"
        },
        targets.join(", ")
    )
}

impl Description {
    /// Reads the dataset.json of the folder `dataset`.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::Json`], or [`DatasetError::Description`] naming the key.
    pub fn read(dataset: &Path) -> Result<Self, DatasetError> {
        let path = dataset.join(DESCRIPTION_FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| DatasetError::read(&path, e))?;
        Self::parse(&text, &path)
    }

    /// Understands `text`, which came from the file `path`.
    ///
    /// # Errors
    /// As [`Description::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, DatasetError> {
        let json: Value = serde_json::from_str(text).map_err(|e| DatasetError::json(path, &e))?;
        let Value::Object(keys) = json else {
            return Err(DatasetError::Json {
                path: path.to_owned(),
                reason: "the outermost value must be an object { ... }".into(),
            });
        };
        let reader = Reader { path, keys: &keys };
        Ok(Self {
            channel_names: reader.channel_names()?,
            labels: reader.labels()?,
            file_ending: reader.file_ending()?,
            num_training: reader.num_training()?,
            name: keys.get("name").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Number of input channels.
    pub fn channels(&self) -> usize {
        self.channel_names.len()
    }
}

/// Takes the keys of one file apart.
struct Reader<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn refuse<T>(
        &self,
        key: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Result<T, DatasetError> {
        Err(DatasetError::Description {
            path: PathBuf::from(self.path),
            key: key.into(),
            expected: expected.into(),
            found: found.into(),
        })
    }

    fn is_version_1(&self) -> bool {
        !self.keys.contains_key("channel_names") && self.keys.contains_key("modality")
    }

    fn object(&self, key: &str, expected: &str) -> Result<&Map<String, Value>, DatasetError> {
        match self.keys.get(key) {
            Some(Value::Object(map)) if !map.is_empty() => Ok(map),
            Some(other) => self.refuse(key, expected, brief(other)),
            None => self.refuse(key, expected, "no such key"),
        }
    }

    fn channel_names(&self) -> Result<Vec<String>, DatasetError> {
        let key = if self.is_version_1() {
            "modality"
        } else {
            "channel_names"
        };
        let map = self.object(key, r#"an object such as {"0": "CT"}"#)?;
        let mut names = vec![None; map.len()];
        for (number, name) in map {
            let slot = number.parse().ok().and_then(|n: usize| names.get_mut(n));
            match (slot, name.as_str()) {
                (Some(slot @ None), Some(name)) => *slot = Some(name.to_owned()),
                (Some(_), None) => {
                    return self.refuse(format!("{key}.{number}"), "a name", brief(name));
                }
                _ => {
                    let expected = format!("the numbers 0 to {} as keys", map.len() - 1);
                    return self.refuse(key, expected, format!("\"{number}\""));
                }
            }
        }
        // Every slot is filled: as many distinct numbers below the length as there are slots.
        Ok(names.into_iter().flatten().collect())
    }

    fn file_ending(&self) -> Result<String, DatasetError> {
        let known = || format!("one of {}", supported_endings().join(", "));
        match self.keys.get("file_ending") {
            Some(Value::String(ending)) => {
                let dotted = format!(".{}", ending.trim_start_matches('.'));
                if supported_endings().contains(&dotted.to_ascii_lowercase().as_str()) {
                    Ok(dotted)
                } else {
                    self.refuse("file_ending", known(), format!("\"{ending}\""))
                }
            }
            Some(other) => self.refuse("file_ending", known(), brief(other)),
            None if self.is_version_1() => Ok(".nii.gz".into()),
            None => self.refuse("file_ending", known(), "no such key"),
        }
    }

    fn num_training(&self) -> Result<Option<usize>, DatasetError> {
        match self.keys.get("numTraining") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(number) => Ok(Some(number)),
                None => self.refuse("numTraining", "a number of cases", brief(value)),
            },
        }
    }

    fn labels(&self) -> Result<Labels, DatasetError> {
        let entries = self.label_entries()?;
        let mut background = None;
        let mut ignore = None;
        let mut foreground: Vec<Target> = Vec::new();
        for (name, values) in entries {
            if name == "ignore" {
                ignore = Some(self.single(&name, &values)?);
            } else if values == [0] {
                if let Some(other) = background.replace(name.clone()) {
                    return self.refuse("labels", "one label 0", format!("{other} and {name}"));
                }
            } else if foreground.iter().any(|other| other.values == values) {
                let key = format!("labels.{name}");
                return self.refuse(key, "a value of its own", format!("{values:?} twice"));
            } else {
                foreground.push(Target { name, values });
            }
        }
        let Some(background) = background else {
            return self.refuse("labels", "a label 0 such as \"background\": 0", "none");
        };
        if foreground.is_empty() {
            return self.refuse(
                "labels",
                "at least one label besides the background",
                "none",
            );
        }
        let region_order = self.region_order(&foreground)?;
        if region_order.is_none() {
            foreground.sort_by_key(|target| target.values[0]);
        }
        let labels = Labels {
            background,
            foreground,
            region_order,
            ignore,
        };
        self.check_values(&labels)?;
        Ok(labels)
    }

    /// Name and values of each label, in the order of the file.
    fn label_entries(&self) -> Result<Vec<(String, Vec<u32>)>, DatasetError> {
        let expected = r#"an object such as {"background": 0, "tumour": 1}"#;
        let map = self.object("labels", expected)?;
        // Version 1 has them the other way round: from value to name.
        let reversed = map
            .iter()
            .all(|(k, v)| k.parse::<u32>().is_ok() && v.is_string());
        map.iter()
            .map(|(key, value)| {
                if reversed {
                    let number = Value::from(key.parse::<u64>().unwrap_or(u64::MAX));
                    let name = value.as_str().unwrap_or_default();
                    return Ok((name.to_owned(), self.label_values(name, &number)?));
                }
                Ok((key.clone(), self.label_values(key, value)?))
            })
            .collect()
    }

    fn label_values(&self, name: &str, value: &Value) -> Result<Vec<u32>, DatasetError> {
        let number = |v: &Value| v.as_u64().filter(|&n| n <= LARGEST_LABEL).map(|n| n as u32);
        let values: Option<Vec<u32>> = match value {
            Value::Array(list) => list.iter().map(number).collect(),
            single => number(single).map(|n| vec![n]),
        };
        match values {
            Some(mut values) if !values.is_empty() => {
                values.sort_unstable();
                values.dedup();
                Ok(values)
            }
            _ => {
                let expected = format!("a whole number of 0 to {LARGEST_LABEL}, or a list of them");
                self.refuse(format!("labels.{name}"), expected, brief(value))
            }
        }
    }

    fn single(&self, name: &str, values: &[u32]) -> Result<u32, DatasetError> {
        match values {
            [value] if *value > 0 => Ok(*value),
            _ => self.refuse(
                format!("labels.{name}"),
                "one number above 0",
                format!("{values:?}"),
            ),
        }
    }

    /// Regions are there where an entry is a list, or where their order is given.
    fn region_order(&self, foreground: &[Target]) -> Result<Option<Vec<u32>>, DatasetError> {
        const KEY: &str = "regions_class_order";
        let Some(order) = self.keys.get(KEY) else {
            if let Some(region) = foreground.iter().find(|target| target.values.len() > 1) {
                let expected = format!("{} labels, one per region", foreground.len());
                let found = format!("no such key, although label {} is a region", region.name);
                return self.refuse(KEY, expected, found);
            }
            return Ok(None);
        };
        let expected = format!(
            "a list of {} labels above 0, one per region, the region that covers the others last",
            foreground.len()
        );
        let number = |v: &Value| v.as_u64().filter(|n| (1..=LARGEST_LABEL).contains(n));
        let values: Option<Vec<u32>> = order
            .as_array()
            .and_then(|list| list.iter().map(|v| number(v).map(|n| n as u32)).collect());
        match values {
            Some(values) if values.len() == foreground.len() => Ok(Some(values)),
            _ => self.refuse(KEY, expected, brief(order)),
        }
    }

    fn check_values(&self, labels: &Labels) -> Result<(), DatasetError> {
        if let Some(region) = labels.foreground.iter().find(|target| target.contains(0)) {
            let key = format!("labels.{}", region.name);
            return self.refuse(key, "labels above 0", "the background's label 0");
        }
        if let Some(ignore) = labels.ignore
            && labels.values().last() != Some(&ignore)
        {
            let found = ignore.to_string();
            return self.refuse("labels.ignore", "the highest of all labels", found);
        }
        if let Some(ignore) = labels.ignore
            && let Some(target) = labels.foreground.iter().find(|t| t.contains(ignore))
        {
            let key = format!("labels.{}", target.name);
            return self.refuse(
                key,
                "labels other than the ignore label",
                ignore.to_string(),
            );
        }
        let consecutive = labels
            .foreground
            .iter()
            .zip(1..)
            .all(|(t, n)| t.values == [n]);
        if !labels.is_regions() && !consecutive {
            let found: Vec<u32> = labels.foreground.iter().map(|t| t.values[0]).collect();
            let expected = "consecutive labels 0, 1, 2, ... (renumber the label files)";
            return self.refuse("labels", expected, format!("0 and {found:?}"));
        }
        Ok(())
    }
}

/// A JSON value, short enough for a message.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
