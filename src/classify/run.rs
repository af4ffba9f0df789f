//! A whole run: from images in folders to a trained classifier, its curves and its scores.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::batches::batches;
use super::description::write_json;
use super::pictures::Pictures;
use super::predictor::Predictor;
use super::scores::{Scores, probabilities};
use super::setup::{Setup, configuration};
use super::{ClassifyConfig, ClassifyError};
use crate::fsio::remove_temporaries;
use crate::gpu::{DeviceProfile, Gpu};
use crate::graph::Parameters;
use crate::report::curves::write_curves;
use crate::run::RunFolder;
use crate::run::checkpoint::{self, Checkpoint};
use crate::train::{
    Event, LogLine, Look, PlannedMemory, Session, TargetForm, TrainError, TrainingStep,
    training_step,
};

/// How a run is started, beside its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyOptions<'a> {
    /// Go on from the latest checkpoint of an earlier run in the folder, bit for bit.
    pub resume: bool,
    /// Weights to begin with: a PyTorch checkpoint, a safetensors file, or a run of a classifier.
    pub from: Option<&'a Path>,
    /// Once it is true, training ends after the step in hand with a checkpoint and [`TrainError::Stopped`].
    pub stop: Option<&'a AtomicBool>,
}

/// What a finished run has to say.
#[derive(Debug)]
pub struct ClassifyReport {
    /// The device memory that it took.
    pub memory: PlannedMemory,
    /// Steps and looks at the held-out images.
    pub log: Vec<LogLine>,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The held-out images under the final weights; `None` where there are none, and where the run was complete already.
    pub validation: Option<Scores>,
    /// Whether the run was resumed but had nothing left to do.
    pub was_complete: bool,
}

/// Trains a classifier on `data` (see [`super::ImageSet::open`]) into `folder`. `observe` hears of all that happens, partly
/// from other threads.
///
/// # Errors
/// [`ClassifyError`]; what was trained up to the last checkpoint is kept.
pub async fn train(
    data: &Path,
    folder: &RunFolder,
    config: &ClassifyConfig,
    options: ClassifyOptions<'_>,
    gpu: Arc<Gpu>,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<ClassifyReport, ClassifyError> {
    let in_use = || TrainError::InUse(folder.root().to_owned());
    let io = |e| ClassifyError::io(folder.root(), e);
    let lock = folder.lock().map_err(io)?.ok_or_else(in_use)?;
    match Run::begin(data, folder, config, options, &gpu, observe) {
        Err(error) => {
            lock.withdraw();
            Err(error)
        }
        Ok((run, begun)) => run.train(begun, gpu).await,
    }
}

/// A run that is set up.
struct Run<'a> {
    setup: Setup,
    folder: &'a RunFolder,
    options: ClassifyOptions<'a>,
    observe: &'a (dyn Fn(Event) + Sync),
}

/// What a run begins with.
struct Begun {
    step: TrainingStep,
    memory: PlannedMemory,
    checkpoint: Option<Checkpoint>,
}

impl<'a> Run<'a> {
    /// Reads the data and plans the step; writes nothing unless all is well.
    fn begin(
        data: &Path,
        folder: &'a RunFolder,
        config: &ClassifyConfig,
        options: ClassifyOptions<'a>,
        gpu: &Gpu,
        observe: &'a (dyn Fn(Event) + Sync),
    ) -> Result<(Self, Begun), ClassifyError> {
        let config = configuration(folder, config, options.resume)?;
        remove_temporaries(folder.root());
        let class = gpu.profile().class;
        let setup = Setup::of(data, folder, config, &options, class, observe)?;
        observe(Event::News(setup.words()));
        let (step, memory) = planned(&setup, gpu.profile())?;
        observe(Event::Planned(memory));
        let checkpoint = match options.resume && folder.latest().exists() {
            false => None,
            true => {
                let found = checkpoint::load(&folder.latest())?;
                found.expect_configuration(&setup.hash)?;
                Some(found)
            }
        };
        if !options.resume {
            setup.write(folder)?;
        }
        let run = Self {
            setup,
            folder,
            options,
            observe,
        };
        let begun = Begun {
            step,
            memory,
            checkpoint,
        };
        Ok((run, begun))
    }

    async fn train(self, begun: Begun, gpu: Arc<Gpu>) -> Result<ClassifyReport, ClassifyError> {
        let Begun {
            step,
            memory,
            checkpoint,
        } = begun;
        let (steps, batch) = (self.setup.steps(), self.setup.batch());
        let has_validation = !self.setup.validation.images.is_empty();
        let (folder, classes) = (self.folder, self.setup.description.classes.clone());
        let is_judged = !has_validation || folder.validation().exists();
        if let Some(found) = &checkpoint
            && found.info.step >= steps
            && folder.last().exists()
            && is_judged
        {
            return Ok(ClassifyReport {
                memory,
                log: Vec::new(),
                classes,
                validation: None,
                was_complete: true,
            });
        }
        let config = self.setup.config.loop_config();
        let mut parameters = Parameters::new(gpu, config.seed);
        parameters.ensure(step.program.graph())?;
        if checkpoint.is_none() && folder.start().exists() {
            checkpoint::load(&folder.start())?.insert_all(&mut parameters)?;
        }
        let setup = self.setup;
        let validator = match has_validation {
            false => None,
            true => Some(Validator {
                predictor: Predictor::new(&setup.description, batch, &mut parameters)?,
                pictures: setup.validation,
                classes: classes.clone(),
            }),
        };
        let mut session = Session {
            config: &config,
            folder,
            steps,
            configuration: setup.hash,
            draw: batches(setup.train, &setup.config, batch),
            parameters: &mut parameters,
            validator: validator.as_ref(),
            profile: false,
            stop: self.options.stop,
        };
        let log = session.run(step, checkpoint, self.observe).await?;
        let is_stopped = self.options.stop.is_some_and(|s| s.load(Ordering::Relaxed));
        if validator.is_some() && is_stopped {
            return Err(TrainError::Stopped { step: steps }.into());
        }
        let records: Vec<_> = log.iter().map(LogLine::record).collect();
        write_curves(&folder.curves(), &records).map_err(TrainError::from)?;
        let validation = match &validator {
            None => None,
            Some(validator) => Some(validator.judge(folder, self.observe).await?),
        };
        Ok(ClassifyReport {
            memory,
            log,
            classes,
            validation,
            was_complete: false,
        })
    }
}

/// The training step, and the memory that it and a look at the held-out images take.
fn planned(
    setup: &Setup,
    device: &DeviceProfile,
) -> Result<(TrainingStep, PlannedMemory), ClassifyError> {
    let network = setup.description.network()?;
    let config = setup.config.loop_config();
    // For its error alone, before the first step.
    let weights = config.supervision().weights(network.heads(), 0, 1);
    weights.map_err(TrainError::from)?;
    let step = training_step(
        &network,
        setup.description.batch(setup.batch()),
        TargetForm::CLASSES,
        &config.loss,
        &config.optimizer(),
        device,
    )?;
    let bytes = match setup.validation.images.is_empty() {
        true => 0,
        false => Predictor::planned_bytes(&setup.description, setup.batch(), device)?,
    };
    let memory = PlannedMemory::of(&step.program, bytes);
    Ok((step, memory))
}

/// Classifies the held-out images with the weights that are being trained.
struct Validator {
    predictor: Predictor,
    pictures: Pictures,
    classes: Vec<String>,
}

impl Look for Validator {
    const KEEP: f64 = 0.0;

    async fn look(&self, step: u64) -> Result<(f64, LogLine), TrainError> {
        let scores = self.scores(&mut |_, _, _| ()).await?;
        let accuracy = scores.accuracy();
        let line = LogLine::Classified {
            step,
            accuracy,
            top5: scores.top5(),
            loss: scores.loss(),
        };
        Ok((accuracy, line))
    }
}

impl Validator {
    /// Classifies all images; `each` hears of the number of each, the class that it is taken for, and its logits.
    async fn scores(
        &self,
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<Scores, TrainError> {
        let mut scores = Scores::new(self.classes.len());
        let images = &self.pictures.images;
        for first in (0..images.len()).step_by(self.predictor.batch()) {
            let end = images.len().min(first + self.predictor.batch());
            let mut pixels = Vec::new();
            for at in first..end {
                pixels.extend_from_slice(&self.pictures.get(at)?);
            }
            for (at, logits) in (first..end).zip(self.predictor.logits(pixels).await?) {
                let found = scores.add(images[at].class, &logits);
                each(at, found, &logits);
            }
        }
        Ok(scores)
    }

    /// The scores at the end, written to the run with what was said of each image.
    async fn judge(
        &self,
        folder: &RunFolder,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Scores, ClassifyError> {
        let of = self.pictures.images.len();
        observe(Event::Validated(0, of));
        let mut cases: Vec<Value> = Vec::with_capacity(of);
        let mut keep = |at: usize, found: usize, logits: &[f32]| {
            let image = &self.pictures.images[at];
            cases.push(json!({
                "image": image.path,
                "label": self.classes[image.class],
                "predicted": self.classes[found],
                "probability": probabilities(logits)[found],
            }));
            observe(Event::Validated(at + 1, of));
        };
        let scores = self.scores(&mut keep).await?;
        let mut document = scores.to_json(&self.classes);
        document["cases"] = json!(cases);
        write_json(&folder.validation(), &document)?;
        Ok(scores)
    }
}
