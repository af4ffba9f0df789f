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
use crate::tensor::Element;

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
        Self::load_as(folder, weights, Element::F32, gpu)
    }

    /// [`Classifier::load`] with activations stored as `precision`, whatever the network was trained with.
    ///
    /// # Errors
    /// Those of [`Classifier::load`]; [`GraphError::NoF16`](crate::graph::GraphError::NoF16) where the adapter has no f16.
    pub fn load_as(
        folder: &Path,
        weights: Weights,
        precision: Element,
        gpu: Arc<Gpu>,
    ) -> Result<Self, ClassifyError> {
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
        let network = description.network()?.stored_as(precision);
        let predictor = Predictor::new(&network, description.batch(BATCH), &mut parameters)?;
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
                    None => said(path, logits.next().unwrap_or_default()),
                };
                if !each(path, found) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// What the logits of an image say; none at all say as little as those that are no numbers.
fn said(path: &Path, logits: Vec<f32>) -> Result<Classified, ClassifyError> {
    let class = most_probable(&logits).ok_or_else(|| ClassifyError::NotFinite {
        path: path.to_owned(),
    })?;
    Ok(Classified {
        class,
        probabilities: probabilities(&logits),
    })
}
