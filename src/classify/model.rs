//! A trained classifier at work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::predictor::Predictor;
use super::scores::{most_probable, probabilities};
use super::{ClassifyError, Description};
use crate::gpu::Gpu;
use crate::graph::Parameters;
use crate::infer::Weights;
use crate::run::{RunFolder, checkpoint};

/// Images that are classified at once.
const BATCH: usize = 8;

/// What a classifier says of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Classified {
    /// The most probable class, an index into the classes of the run.
    pub class: usize,
    /// The probability of each class.
    pub probabilities: Vec<f64>,
}

/// The network of a run with its weights.
#[derive(Debug)]
pub struct Classifier {
    description: Description,
    predictor: Predictor,
    checkpoint: (PathBuf, usize),
}

impl Classifier {
    /// Loads the run at `folder` with these weights.
    ///
    /// # Errors
    /// [`ClassifyError`] where it is no run of a classifier, has no such checkpoint, or the device is too small.
    pub fn load(folder: &Path, weights: Weights, gpu: Arc<Gpu>) -> Result<Self, ClassifyError> {
        let folder = RunFolder::new(folder);
        let description = Description::read(&folder)?;
        let path = weights.file(&folder);
        if !path.exists() {
            let name = path.file_name().unwrap_or_default().display();
            let problem = format!("has no {name} yet; train it, or give another --checkpoint");
            return Err(ClassifyError::layout(folder.root(), problem));
        }
        let found = checkpoint::load(&path)?;
        let mut parameters = Parameters::new(gpu, 0);
        let predictor = Predictor::new(&description, BATCH, &mut parameters)?;
        found.restore(&mut parameters)?;
        Ok(Self {
            description,
            predictor,
            checkpoint: (path, found.info.step),
        })
    }

    /// The network, its classes, and how images are made ready.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The file of the weights, and the steps that they were trained for.
    pub fn checkpoint(&self) -> (&Path, usize) {
        (&self.checkpoint.0, self.checkpoint.1)
    }

    /// Classifies the images of some files. `each` hears of each in order; what cannot be read does not keep the others from
    /// being classified. It says whether to go on.
    ///
    /// # Errors
    /// The device's.
    pub async fn classify(
        &self,
        paths: &[PathBuf],
        each: &mut dyn FnMut(&Path, Result<Classified, ClassifyError>) -> bool,
    ) -> Result<(), ClassifyError> {
        for chunk in paths.chunks(self.predictor.batch()) {
            let preparation = &self.description.preparation;
            let mut pixels = Vec::with_capacity(chunk.len() * preparation.len());
            let mut faults = Vec::with_capacity(chunk.len());
            for path in chunk {
                let image = preparation.read(path);
                faults.push(image.map(|image| pixels.extend(image)).err());
            }
            let mut logits = self.predictor.logits(pixels).await?.into_iter();
            for (path, fault) in chunk.iter().zip(faults) {
                let found = match fault {
                    Some(fault) => Err(fault.into()),
                    None => logits.next().map(|logits| said(&logits)).ok_or_else(|| {
                        ClassifyError::layout(path, "the device gave no answer for this image")
                    }),
                };
                if !each(path, found) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn said(logits: &[f32]) -> Classified {
    Classified {
        class: most_probable(logits),
        probabilities: probabilities(logits),
    }
}
