//! What a run must remember to classify an image.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::MOST_EXTENT;
use super::{ClassifyError, Preparation};
use crate::fsio::write_atomic;
use crate::models::{Architecture, Form, MODELS, Model, Network, Task, model};
use crate::run::RunFolder;
use crate::tensor::Shape;

/// The network of a run, its classes, and how images are made ready: classifier.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The network, as `voxseg models` names it.
    pub model: String,
    /// The names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// How images are made ready.
    pub preparation: Preparation,
}

/// The classifier of that name.
///
/// # Errors
/// [`ClassifyError::Model`] where there is no network of that name, [`ClassifyError::NotAClassifier`] where it segments.
pub(super) fn classifier(name: &str) -> Result<&'static Model, ClassifyError> {
    let found = model(name)?;
    if found.task == Task::Classification {
        return Ok(found);
    }
    let classifiers = MODELS.iter().filter(|m| m.task == Task::Classification);
    let known: Vec<&str> = classifiers.map(|m| m.name).collect();
    Err(ClassifyError::NotAClassifier {
        name: name.to_owned(),
        known: known.join(", "),
    })
}

/// The network `model` for images of so many channels.
pub(super) fn architecture(
    model: &Model,
    channels: usize,
    classes: usize,
    [height, width]: [usize; 2],
) -> Result<Arc<dyn Architecture>, ClassifyError> {
    let form = Form {
        channels,
        classes,
        extent: [1, height, width],
    };
    Ok((model.of_form)(form)?)
}

impl Description {
    /// Where it lies in a run.
    pub fn file(folder: &RunFolder) -> PathBuf {
        folder.root().join("classifier.json")
    }

    /// That of a run.
    ///
    /// # Errors
    /// [`ClassifyError::Layout`] where `folder` is no run of a classifier, or its file is damaged.
    pub fn read(folder: &RunFolder) -> Result<Self, ClassifyError> {
        let path = Self::file(folder);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let problem = "is no run of a classifier: it has no classifier.json; give the folder that `voxseg classify train -o` made";
                return Err(ClassifyError::layout(folder.root(), problem));
            }
            Err(e) => return Err(ClassifyError::io(&path, e)),
        };
        let damaged = |reason: String| {
            ClassifyError::layout(&path, format!("{reason}; put back a copy of it"))
        };
        let found: Self = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let Preparation {
            channels,
            size,
            mean,
            deviation,
        } = &found.preparation;
        // Pictures are grey or in colour.
        let fits = [1, 3].contains(channels)
            && [mean.len(), deviation.len()] == [*channels; 2]
            && deviation.iter().all(|d| *d > 0.0)
            && size.iter().all(|n| (1..=MOST_EXTENT).contains(n));
        match fits && found.classes.len() >= 2 {
            true => Ok(found),
            false => Err(damaged("its numbers do not fit together".to_owned())),
        }
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, folder: &RunFolder) -> Result<(), ClassifyError> {
        write_json(&Self::file(folder), &serde_json::json!(self))
    }

    /// The network.
    ///
    /// # Errors
    /// [`ClassifyError`] where there is no such classifier, or it does not take images of this size.
    pub fn network(&self) -> Result<Network, ClassifyError> {
        let made = architecture(
            classifier(&self.model)?,
            self.preparation.channels,
            self.classes.len(),
            self.preparation.size,
        )?;
        Ok(Network::new(made))
    }

    /// The shape of a batch of images (N, C, 1, H, W).
    pub(super) fn batch(&self, images: usize) -> Shape {
        let [height, width] = self.preparation.size;
        Shape::new(images, self.preparation.channels, 1, height, width)
    }
}

/// Writes `document` indented, whole or not at all.
pub(super) fn write_json(path: &Path, document: &serde_json::Value) -> Result<(), ClassifyError> {
    let text = format!("{document:#}\n");
    write_atomic(path, |w| w.write_all(text.as_bytes())).map_err(|e| ClassifyError::io(path, e))
}
