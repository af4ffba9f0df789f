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
use crate::gpu::{DeviceProfile, Gpu, GpuError};
use crate::graph::{GraphError, Parameters};
use crate::report::curves::write_curves;
use crate::run::checkpoint::{self, Checkpoint};
use crate::run::{RunFolder, network_tensors};
use crate::train::{
    Event, Log, LogLine, Look, PlannedMemory, Session, TargetForm, TrainError, TrainingStep,
    training_step, tuned,
};

/// How a run is started, beside its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyOptions<'a> {
    /// Go on from the latest checkpoint of an earlier run in the folder, bit for bit.
    pub resume: bool,
    /// Measure which kernels are the fastest for this network on this adapter and use those, now and when the run is
    /// resumed.
    pub tune: bool,
    /// Time the dispatches of an early step and report them by operator ([`Event::Profile`]).
    pub profile: bool,
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
    if options.profile && !gpu.has_timestamps() {
        return Err(GraphError::from(GpuError::NoTimestamps).into());
    }
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
    planned: Planned,
    checkpoint: Option<Checkpoint>,
}

/// The training step, and the memory that it and a look at the held-out images take.
struct Planned {
    step: TrainingStep,
    memory: PlannedMemory,
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
        let planned = Planned::of(&setup, gpu.profile())?;
        planned.warn_of_single_images(&setup, observe);
        observe(Event::Planned(planned.memory));
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
            planned,
            checkpoint,
        };
        Ok((run, begun))
    }

    async fn train(self, begun: Begun, gpu: Arc<Gpu>) -> Result<ClassifyReport, ClassifyError> {
        let Begun {
            planned,
            checkpoint,
        } = begun;
        if let Some(found) = checkpoint.as_ref().filter(|found| self.is_complete(found)) {
            return self.nothing_left(found, planned.memory);
        }
        let (gpu, Planned { step, memory }) = self.tune(gpu, planned).await?;
        let Self {
            setup,
            folder,
            options,
            observe,
        } = self;
        let (config, images, network) =
            (setup.config.loop_config(), setup.images(), setup.network()?);
        let (steps, classes) = (setup.steps(), setup.description.classes);
        let mut parameters = Parameters::new(gpu, config.seed);
        parameters.ensure(step.program.graph())?;
        if checkpoint.is_none() && folder.start().exists() {
            checkpoint::load(&folder.start())?.insert_all(&mut parameters)?;
        }
        let validator = match setup.validation.images.is_empty() {
            true => None,
            false => Some(Validator {
                predictor: Predictor::new(&network, images, &mut parameters)?,
                pictures: setup.validation,
                classes: classes.clone(),
            }),
        };
        let mut session = Session {
            config: &config,
            folder,
            steps,
            configuration: setup.hash,
            draw: batches(setup.train, &setup.config, images.n()),
            parameters: &mut parameters,
            validator: validator.as_ref(),
            profile: options.profile,
            stop: options.stop,
        };
        let log = session.run(step, checkpoint, observe).await?;
        let is_stopped = options.stop.is_some_and(|s| s.load(Ordering::Relaxed));
        if validator.is_some() && is_stopped {
            return Err(TrainError::Stopped { step: steps }.into());
        }
        let records: Vec<_> = log.iter().map(LogLine::record).collect();
        write_curves(&folder.curves(), &records).map_err(TrainError::from)?;
        let validation = match &validator {
            None => None,
            Some(validator) => Some(validator.judge(folder, observe).await?),
        };
        Ok(ClassifyReport {
            memory,
            log,
            classes,
            validation,
            was_complete: false,
        })
    }

    /// The device with the kernels that were measured to be the fastest, where they are or were to be, and the step
    /// planned for them.
    async fn tune(
        &self,
        gpu: Arc<Gpu>,
        planned: Planned,
    ) -> Result<(Arc<Gpu>, Planned), ClassifyError> {
        let whole = self
            .options
            .tune
            .then(|| step_of(&self.setup, gpu.profile()));
        let whole = whole.transpose()?;
        let graph = whole.as_ref().map(|step| step.program.graph());
        let found = tuned(&gpu, self.folder, graph, self.observe).await?;
        let Some(gpu) = found else {
            return Ok((gpu, planned));
        };
        let again = Planned::of(&self.setup, gpu.profile())?;
        if again.memory != planned.memory {
            (self.observe)(Event::Planned(again.memory));
        }
        Ok((gpu, again))
    }

    /// Whether all steps are done, and the validation after them where there are images for one.
    fn is_complete(&self, found: &Checkpoint) -> bool {
        let has_validation = !self.setup.validation.images.is_empty();
        let is_judged = !has_validation || self.folder.validation().exists();
        found.info.step >= self.setup.steps() && self.folder.last().exists() && is_judged
    }

    /// The report of a run that was complete before.
    fn nothing_left(
        self,
        found: &Checkpoint,
        memory: PlannedMemory,
    ) -> Result<ClassifyReport, ClassifyError> {
        let path = self.folder.log();
        let log = Log::open(&path, found.info.step as u64);
        let log = log.map_err(|e| ClassifyError::io(&path, e))?;
        Ok(ClassifyReport {
            memory,
            log: log.lines().to_vec(),
            classes: self.setup.description.classes,
            validation: None,
            was_complete: true,
        })
    }
}

impl Planned {
    /// For the memory budget of `setup` on `device`.
    fn of(setup: &Setup, device: &DeviceProfile) -> Result<Self, ClassifyError> {
        let (network, images) = (setup.network()?, setup.images());
        let config = setup.config.loop_config();
        // For its error alone, before the first step.
        let weights = config.supervision().weights(network.heads(), 0, 1);
        weights.map_err(TrainError::from)?;
        let within = DeviceProfile {
            memory_budget: setup.config.memory_budget.map(|bytes| bytes.0),
            ..device.clone()
        };
        let step = step_of(setup, &within)?;
        let bytes = match setup.validation.images.is_empty() {
            true => 0,
            false => Predictor::planned_bytes(&network, images, device)?,
        };
        let memory = PlannedMemory::of(&step.program, bytes);
        Ok(Self { step, memory })
    }

    /// A batch norm of one image may see a single value of a channel, which is then its own mean: it gives 0, whatever the
    /// image.
    fn warn_of_single_images(&self, setup: &Setup, observe: &(dyn Fn(Event) + Sync)) {
        let graph = self.step.program.graph();
        let has_batch_norm = || {
            let names = network_tensors(graph).into_keys();
            names
                .into_iter()
                .any(|name| name.ends_with(".running_mean"))
        };
        if setup.batch() == 1 && has_batch_norm() {
            let model = &setup.config.model;
            observe(Event::Warning(format!(
                "{model} has batch norms, which learn little from one image a step; give --batch 2 or more"
            )));
        }
    }
}

/// Hears of the number of an image, the class that it is taken for, and its logits.
type Hear<'a> = dyn FnMut(usize, Option<usize>, &[f32]) + 'a;

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
    /// Classifies all images; `each` hears of each.
    async fn scores(&self, each: &mut Hear<'_>) -> Result<Scores, TrainError> {
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
        let mut keep = |at: usize, found: Option<usize>, logits: &[f32]| {
            let image = &self.pictures.images[at];
            cases.push(json!({
                "image": image.path.display().to_string(),
                "label": self.classes[image.class],
                "predicted": found.map(|class| &self.classes[class]),
                "probability": found.map(|class| probabilities(logits)[class]),
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

/// The training step of `setup` on `device`.
fn step_of(setup: &Setup, device: &DeviceProfile) -> Result<TrainingStep, ClassifyError> {
    let config = setup.config.loop_config();
    let step = training_step(
        &setup.network()?,
        setup.images(),
        TargetForm::CLASSES,
        &config.loss,
        &config.optimizer(),
        device,
    )?;
    Ok(step)
}
