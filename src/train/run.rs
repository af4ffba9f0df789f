//! A whole run: from a folder of labelled images to a trained network, its curves and its validation.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::TrainConfig;
use super::cases::{Folds, batches, prepare};
use super::error::TrainError;
use super::log::{Log, LogLine};
use super::memory::PlannedMemory;
use super::network::{TargetForm, TrainingStep, training_step};
use super::session::{Event, Session};
use super::setup::Setup;
use super::summary::RunSummary;
use super::tuning::tuned;
use super::validation::Validator;
use crate::bytes::Bytes;
use crate::dataset::{Case, Dataset, PreparedCase};
use crate::fsio::remove_temporaries;
use crate::gpu::{DeviceProfile, Gpu, GpuError};
use crate::graph::{GraphError, Parameters};
use crate::infer::Predictor;
use crate::metrics::Evaluation;
use crate::models::{Network, fitting_patch};
use crate::report::curves::write_curves;
use crate::report::evaluated::write_evaluation;
use crate::run::checkpoint::{self, Checkpoint};
use crate::run::{RunFolder, network_of};
use crate::tensor::Shape;

/// What a finished run has to say.
#[derive(Debug)]
pub struct TrainReport {
    /// The device memory that it took.
    pub memory: PlannedMemory,
    /// Steps and validations.
    pub log: Vec<LogLine>,
    /// The validation cases in the geometry of their files; `None` where fold `all` left none, and where the run was
    /// complete already.
    pub validation: Option<Evaluation>,
    /// Whether the run was resumed but had nothing left to do.
    pub was_complete: bool,
}

/// How a run is started, beside its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrainOptions<'a> {
    /// Go on from the latest checkpoint of an earlier run in the folder, bit for bit, where there is one.
    pub resume: bool,
    /// Measure which kernels are the fastest for this network on this adapter and use those, now and when the run is
    /// resumed.
    pub tune: bool,
    /// Time the dispatches of an early step and report them by operator ([`Event::Profile`]).
    pub profile: bool,
    /// The run whose plan and weights a new run begins with: training goes on from them, with an optimiser that starts
    /// anew, on any data of the same channels and labels.
    pub from: Option<&'a Path>,
    /// Weights of others for the network that is planned, a PyTorch checkpoint or safetensors, to begin with; heads for
    /// another number of classes start anew.
    pub weights: Option<&'a Path>,
    /// Once it is true, training ends after the step in hand with a checkpoint and [`TrainError::Stopped`].
    pub stop: Option<&'a AtomicBool>,
}

/// Trains on `dataset` (nnU-Net's raw layout) into `folder`. `observe` hears of all that happens, partly from other
/// threads.
///
/// # Errors
/// [`TrainError`]; what was trained up to the last checkpoint is kept.
pub async fn train(
    dataset: &Path,
    folder: &RunFolder,
    config: &TrainConfig,
    options: TrainOptions<'_>,
    gpu: Arc<Gpu>,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<TrainReport, TrainError> {
    let dataset = Dataset::open(dataset)?;
    if options.profile && !gpu.has_timestamps() {
        return Err(GraphError::from(GpuError::NoTimestamps).into());
    }
    let class = gpu.profile().class;
    let (setup, _lock) = Setup::locked(&dataset, folder, config, options, class, observe)?;
    for made in [folder.root().to_owned(), folder.prepared()] {
        remove_temporaries(&made);
    }
    let run = Run {
        network: network_of(&setup.plan)?.stored_as(setup.config.precision),
        folds: Folds::of(&dataset, &setup, folder)?,
        // Results do not depend on it, so that a run may be resumed under another one.
        memory_budget: config.memory_budget.or(setup.config.memory_budget),
        setup,
        folder,
        options,
        observe,
    };
    run.train(gpu).await
}

/// A run that is set up.
struct Run<'a> {
    setup: Setup,
    folds: Folds,
    network: Network,
    memory_budget: Option<Bytes>,
    folder: &'a RunFolder,
    options: TrainOptions<'a>,
    observe: &'a (dyn Fn(Event) + Sync),
}

impl Run<'_> {
    async fn train(&self, gpu: Arc<Gpu>) -> Result<TrainReport, TrainError> {
        (self.observe)(Event::Decided(Box::new(self.summary())));
        // Before hours of preprocessing: what does not fit is refused at once.
        let (step, memory) = self.step_on(&gpu)?;
        (self.observe)(Event::Planned(memory));
        let cases = prepare(&self.folds, &self.setup, self.folder, self.observe)?;
        let configuration = self.setup.hash(&cases.train, &cases.validate);
        let checkpoint = match self.options.resume {
            true => earlier(self.folder, &configuration)?,
            false => None,
        };
        self.setup.write_choices(self.folder)?;
        self.folds.write(self.folder)?;
        let (gpu, step, memory) = self.tune(gpu, step, memory).await?;
        if let Some(found) = &checkpoint
            && self.is_complete(found, &cases.validate)
        {
            return self.nothing_left(found, memory);
        }
        let mut parameters = Parameters::new(gpu, self.setup.config.seed);
        parameters.ensure(step.program.graph())?;
        if checkpoint.is_none() && self.folder.start().exists() {
            checkpoint::load(&self.folder.start())?.insert_all(&mut parameters)?;
        }
        let validator = self.validator(cases.validate, &mut parameters)?;
        let mut session = Session {
            config: &self.setup.config,
            folder: self.folder,
            steps: self.setup.steps(),
            configuration,
            draw: batches(cases.train, &self.setup),
            parameters: &mut parameters,
            validator: validator.as_ref(),
            profile: self.options.profile,
            stop: self.options.stop,
        };
        let log = session.run(step, checkpoint, self.observe).await?;
        if validator.is_some() && self.is_stopped() {
            return Err(TrainError::Stopped {
                step: self.setup.steps(),
            });
        }
        let validation = finish(self.folder, &log, validator, self.observe).await?;
        Ok(TrainReport {
            memory,
            log,
            validation,
            was_complete: false,
        })
    }

    fn summary(&self) -> RunSummary {
        RunSummary {
            plan: self.setup.plan.clone(),
            fold: self.setup.config.fold,
            training: self.folds.train.len(),
            validation: self.folds.validate.len(),
            steps: self.setup.steps(),
        }
    }

    /// The training step planned for `gpu`, and the memory that it and the validation take.
    fn step_on(&self, gpu: &Gpu) -> Result<(TrainingStep, PlannedMemory), TrainError> {
        let step = self.step_within(self.memory_budget, gpu)?;
        let patch = self.setup.plan.patch;
        let validation_bytes = match self.folds.validate.is_empty() {
            true => 0,
            false => Predictor::planned_bytes(&self.network, patch, gpu.profile())?,
        };
        let memory = PlannedMemory::of(&step.program, validation_bytes);
        Ok((step, memory))
    }

    /// The training step planned for `gpu` within that budget.
    fn step_within(&self, budget: Option<Bytes>, gpu: &Gpu) -> Result<TrainingStep, TrainError> {
        let within = DeviceProfile {
            memory_budget: budget.map(|bytes| bytes.0),
            ..gpu.profile().clone()
        };
        fitting_step(&self.setup, &self.network, &within)
    }

    /// The device with the kernels that were measured to be the fastest, where they are or were to be, and the step
    /// planned for them.
    async fn tune(
        &self,
        gpu: Arc<Gpu>,
        step: TrainingStep,
        memory: PlannedMemory,
    ) -> Result<(Arc<Gpu>, TrainingStep, PlannedMemory), TrainError> {
        let whole = self.options.tune.then(|| self.step_within(None, &gpu));
        let whole = whole.transpose()?;
        let graph = whole.as_ref().map(|step| step.program.graph());
        let found = tuned(&gpu, self.folder, graph, self.observe).await?;
        let Some(gpu) = found else {
            return Ok((gpu, step, memory));
        };
        let (step, planned) = self.step_on(&gpu)?;
        if planned != memory {
            (self.observe)(Event::Planned(planned));
        }
        Ok((gpu, step, planned))
    }

    /// Whether all steps are done, and the validation after them where there are cases for one.
    fn is_complete(&self, found: &Checkpoint, validate: &[(Case, PreparedCase)]) -> bool {
        let is_validated = validate.is_empty() || self.folder.validation().exists();
        found.info.step >= self.setup.steps() && self.folder.last().exists() && is_validated
    }

    /// The report of a run that was complete before.
    fn nothing_left(
        &self,
        found: &Checkpoint,
        memory: PlannedMemory,
    ) -> Result<TrainReport, TrainError> {
        let path = self.folder.log();
        let log = Log::open(&path, found.info.step as u64).map_err(|e| TrainError::io(path, e))?;
        Ok(TrainReport {
            memory,
            log: log.lines().to_vec(),
            validation: None,
            was_complete: true,
        })
    }

    fn validator(
        &self,
        cases: Vec<(Case, PreparedCase)>,
        parameters: &mut Parameters,
    ) -> Result<Option<Validator>, TrainError> {
        if cases.is_empty() {
            return Ok(None);
        }
        let plan = &self.setup.plan;
        let predictor = Predictor::new(&self.network, plan.patch, parameters)?;
        let most = self.setup.config.schedule.validation_cases;
        let labels = plan.labels.clone();
        Ok(Some(Validator::new(predictor, cases, labels, most)))
    }

    fn is_stopped(&self) -> bool {
        let stop = self.options.stop;
        stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

/// The checkpoint to go on from, where there is one.
fn earlier(folder: &RunFolder, configuration: &str) -> Result<Option<Checkpoint>, TrainError> {
    if !folder.latest().exists() {
        return Ok(None);
    }
    let found = checkpoint::load(&folder.latest())?;
    found.expect_configuration(configuration)?;
    Ok(Some(found))
}

/// The training step; where it is too large for the device, the error says which patch would fit.
fn fitting_step(
    setup: &Setup,
    network: &Network,
    device: &DeviceProfile,
) -> Result<TrainingStep, TrainError> {
    let (plan, config) = (&setup.plan, &setup.config);
    // For its error alone, before hours of preprocessing.
    config.supervision().weights(network.heads(), 0, 1)?;
    let optimizer = config.optimizer();
    let compile = |patch: [usize; 3]| {
        let shape = Shape::new(plan.batch, network.in_channels(), 1, 1, 1).with_spatial(patch);
        let form = TargetForm::of(&plan.labels);
        training_step(network, shape, form, &config.loss, &optimizer, device)
    };
    compile(plan.patch).map_err(|source| {
        let fits = |patch| compile(patch).map(|_| ());
        match fitting_patch(plan.topology.divisor(), plan.patch, fits) {
            Some(patch) => TrainError::TooLarge {
                source: source.into(),
                patch,
            },
            None => source.into(),
        }
    })
}

async fn finish(
    folder: &RunFolder,
    log: &[LogLine],
    validator: Option<Validator>,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<Option<Evaluation>, TrainError> {
    let records: Vec<_> = log.iter().map(LogLine::record).collect();
    write_curves(&folder.curves(), &records)?;
    let Some(validator) = validator else {
        return Ok(None);
    };
    let evaluation = validator
        .evaluate(&folder.predictions(), &folder.picture(), observe)
        .await?;
    write_evaluation(&folder.validation(), &evaluation)
        .map_err(|e| TrainError::io(folder.validation(), e))?;
    Ok(Some(evaluation))
}
