//! A trained network out of a run folder, ready to segment images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{InferenceOptions, Predictor};
use crate::dataset::{Case, DatasetError, LoadedCase, Plan, RestoredLabels, load_image};
use crate::gpu::Gpu;
use crate::graph::{GraphError, Parameters, Profile};
use crate::models::ModelError;
use crate::run::checkpoint::{self, CheckpointError};
use crate::run::{RunFolder, network_of};
use crate::tensor::Element;
use crate::volume::{LabelMap, VolumeError};

/// Why an image could not be segmented.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// The folder is no run, or its plan cannot be read.
    #[error("{path} holds no trained network: {reason}. Give the folder that `voxseg train -o` wrote", path = path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The image.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The result's geometry.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The graph or the device.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl InferError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::NotARun { .. } => true,
            Self::Checkpoint(e) => e.is_users_fault(),
            Self::Dataset(e) => e.is_users_fault(),
            Self::Volume(e) => e.is_users_fault(),
            Self::Model(e) => e.is_users_fault(),
            Self::Graph(e) => e.is_users_fault(),
        }
    }
}

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// That of the last step; of a run that has not ended, the newest.
    #[default]
    Final,
    /// That with the best validation Dice.
    Best,
    /// The newest.
    Latest,
}

impl Weights {
    /// The file of it in a run.
    pub fn file(self, folder: &RunFolder) -> PathBuf {
        match self {
            Self::Final if folder.last().exists() => folder.last(),
            Self::Final | Self::Latest => folder.latest(),
            Self::Best => folder.best(),
        }
    }
}

/// A trained network with the plan that it was trained under.
#[derive(Debug)]
pub struct Model {
    plan: Plan,
    predictor: Predictor,
    checkpoint: PathBuf,
    step: usize,
}

impl Model {
    /// Loads the network of the run at `folder`.
    ///
    /// # Errors
    /// [`InferError::NotARun`]; [`InferError::Checkpoint`] where the weights are cut off or of another network.
    pub fn load(folder: &Path, weights: Weights, gpu: Arc<Gpu>) -> Result<Self, InferError> {
        Self::load_as(folder, weights, Element::F32, gpu)
    }

    /// [`Model::load`] with activations stored as `precision`, whatever the network was trained with.
    ///
    /// # Errors
    /// Those of [`Model::load`]; [`GraphError::NoF16`] where the adapter has no f16.
    pub fn load_as(
        folder: &Path,
        weights: Weights,
        precision: Element,
        gpu: Arc<Gpu>,
    ) -> Result<Self, InferError> {
        let folder = RunFolder::new(folder);
        let not_a_run = |reason: &str| InferError::NotARun {
            path: folder.root().to_owned(),
            reason: reason.to_owned(),
        };
        if !folder.plan().exists() {
            return Err(not_a_run("it has no plan.json"));
        }
        let file = weights.file(&folder);
        if !file.exists() {
            let name = file.file_name().unwrap_or_default().display();
            return Err(not_a_run(&format!("it has no {name}")));
        }
        let plan = Plan::read(&folder.plan())?;
        let network = network_of(&plan)?.stored_as(precision);
        let mut parameters = Parameters::new(gpu, 0);
        let predictor = Predictor::new(&network, plan.patch, &mut parameters)?;
        let found = checkpoint::load(&file)?;
        found.restore(&mut parameters)?;
        Ok(Self {
            plan,
            predictor,
            checkpoint: file,
            step: found.info.step,
        })
    }

    /// The checkpoint that the weights are from, and its step.
    pub fn checkpoint(&self) -> (&Path, usize) {
        (&self.checkpoint, self.step)
    }

    /// The plan: spacing, patch, labels, normalisation.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Reads the image of `case` and segments it.
    ///
    /// # Errors
    /// As [`Model::segment_image`], and those of reading.
    pub async fn segment(
        &self,
        case: &Case,
        options: &InferenceOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<LabelMap, InferError> {
        let image = load_image(case, self.plan.preprocessing.channels.len())?;
        self.segment_image(image, options, progress).await
    }

    /// Segments an image; the result has exactly its geometry. `progress` hears of each patch: done, of all.
    ///
    /// # Errors
    /// [`InferError::Dataset`] where the channels do not fit the plan; the device's errors.
    pub async fn segment_image(
        &self,
        image: LoadedCase,
        options: &InferenceOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<LabelMap, InferError> {
        let geometry = image.geometry.clone();
        let prepared = self.plan.preprocessing.apply(image)?;
        let extent = prepared.record.resampled_shape;
        let mut restored = RestoredLabels::new(prepared.record, &self.plan.labels);
        let mut restore = |slices| restored.add(slices);
        let (mut done, of) = (0, self.patch_count(extent, options));
        let mut count = || {
            done += 1;
            progress(done, of);
        };
        self.predictor
            .predict_slices(&prepared.image, extent, options, &mut count, &mut restore)
            .await?;
        drop(prepared.image);
        Ok(LabelMap::new(geometry, restored.finish()?)?)
    }

    /// As [`Predictor::profile`].
    ///
    /// # Errors
    /// [`InferError::Graph`] with the device's errors.
    pub async fn profile(&self) -> Result<Profile, InferError> {
        Ok(self.predictor.profile().await?)
    }

    /// Number of patches that an image of `extent` (D, H, W) on the network's grid takes.
    pub fn patch_count(&self, extent: [usize; 3], options: &InferenceOptions) -> usize {
        self.predictor.patch_count(extent, options)
    }
}
