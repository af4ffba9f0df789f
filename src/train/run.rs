//! A whole run: from a folder of labelled images to a trained network, its curves and its validation.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::TrainError;
use super::loader::{Draw, Fed};
use super::log::{Log, LogLine};
use super::memory::PlannedMemory;
use super::network::{TargetForm, TrainingStep, training_step};
use super::session::{Event, Session};
use super::summary::RunSummary;
use super::tuning::tuned;
use super::validation::Validator;
use super::{Fold, TrainConfig};
use crate::dataset::{
    Case, Dataset, DatasetError, Drawing, Fingerprint, Plan, PreparedCase, Remark, Split,
    check_case_count, check_integrity, data_text, draw_batch, fold_of, prepare_cases, splits_in,
    splits_of, write_splits,
};
use crate::fsio::remove_temporaries;
use crate::gpu::{AdapterClass, DeviceProfile, Gpu, GpuError};
use crate::graph::{GraphError, Parameters};
use crate::hash::Fnv;
use crate::infer::Predictor;
use crate::metrics::Evaluation;
use crate::models::{UNetConfig, fitting_patch};
use crate::report::curves::write_curves;
use crate::report::evaluated::write_evaluation;
use crate::run::checkpoint::{self, Checkpoint};
use crate::run::{RunFolder, RunLock, mirror_axes, network_of};
use crate::tensor::Shape;
use crate::words::extent;

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
    let (setup, _lock) = Setup::locked(&dataset, folder, config, options.resume, class, observe)?;
    for made in [folder.root().to_owned(), folder.prepared()] {
        remove_temporaries(&made);
    }
    let network = UNetConfig {
        precision: setup.config.precision,
        ..network_of(&setup.plan)
    };
    // Results do not depend on it, so that a run may be resumed under another one.
    let budget = config.memory_budget.or(setup.config.memory_budget);
    let within = |gpu: &Gpu| DeviceProfile {
        memory_budget: budget.map(|bytes| bytes.0),
        ..gpu.profile().clone()
    };
    let (plan, config) = (&setup.plan, &setup.config);
    let folds = Folds::of(&dataset, &setup, folder)?;
    observe(Event::Decided(Box::new(RunSummary {
        plan: plan.clone(),
        fold: config.fold,
        training: folds.train.len(),
        validation: folds.validate.len(),
        steps: setup.steps(),
    })));
    let planned = |gpu: &Gpu| -> Result<_, TrainError> {
        let step = fitting_step(&setup, &network, &within(gpu))?;
        let validation_bytes = match folds.validate.is_empty() {
            true => 0,
            false => Predictor::planned_bytes(&network, plan.patch, gpu.profile())?,
        };
        let memory = PlannedMemory::of(&step.program, validation_bytes);
        Ok((step, memory))
    };
    let (mut step, mut memory) = planned(&gpu)?;
    observe(Event::Planned(memory));
    let Prepared { train, validate } = prepare(&folds, &setup, folder, observe)?;
    let configuration = setup.hash(&train, &validate);
    let checkpoint = match options.resume {
        true => earlier(folder, &configuration)?,
        false => None,
    };
    setup.write_choices(folder)?;
    folds.write(folder)?;
    let tuned = tuned(&gpu, folder, step.program.graph(), options.tune, observe).await?;
    if let Some(gpu) = &tuned {
        let before = memory;
        (step, memory) = planned(gpu)?;
        if memory != before {
            observe(Event::Planned(memory));
        }
    }
    if let Some(found) = &checkpoint
        && is_complete(folder, found, &setup, &validate)
    {
        let log = Log::open(&folder.log(), found.info.step as u64)
            .map_err(|e| TrainError::io(folder.log(), e))?;
        return Ok(TrainReport {
            memory,
            log: log.lines().to_vec(),
            validation: None,
            was_complete: true,
        });
    }
    let gpu = tuned.unwrap_or(gpu);
    let mut parameters = Parameters::new(gpu, config.seed);
    parameters.ensure(step.program.graph())?;
    let validator = match validate.is_empty() {
        true => None,
        false => {
            let predictor = Predictor::new(&network, plan.patch, &mut parameters)?;
            Some(Validator::new(predictor, validate, plan.labels.clone()))
        }
    };
    let mut session = Session {
        config,
        folder,
        steps: setup.steps(),
        configuration,
        draw: batches(train, &setup),
        parameters: &mut parameters,
        validator: validator.as_ref(),
        profile: options.profile,
        stop: options.stop,
    };
    let log = session.run(step, checkpoint, observe).await?;
    if validator.is_some()
        && options
            .stop
            .is_some_and(|stop| stop.load(Ordering::Relaxed))
    {
        return Err(TrainError::Stopped {
            step: setup.steps(),
        });
    }
    let validation = finish(folder, &log, validator, observe).await?;
    Ok(TrainReport {
        memory,
        log,
        validation,
        was_complete: false,
    })
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

/// Whether all steps are done, and the validation after them where there are cases for one.
fn is_complete(
    folder: &RunFolder,
    found: &Checkpoint,
    setup: &Setup,
    validate: &[(Case, PreparedCase)],
) -> bool {
    let is_validated = validate.is_empty() || folder.validation().exists();
    found.info.step >= setup.steps() && folder.last().exists() && is_validated
}

/// The training step; where it is too large for the device, the error says which patch would fit.
fn fitting_step(
    setup: &Setup,
    network: &UNetConfig,
    device: &DeviceProfile,
) -> Result<TrainingStep, TrainError> {
    let (plan, config) = (&setup.plan, &setup.config);
    // For its error alone, before hours of preprocessing.
    config.supervision.weights(network.heads.len(), 0, 1)?;
    let optimizer = config.optimizer();
    let compile = |patch: [usize; 3]| {
        let shape = Shape::new(plan.batch, network.in_channels, 1, 1, 1).with_spatial(patch);
        let form = TargetForm::of(&plan.labels);
        training_step(network, shape, form, &config.loss, &optimizer, device)
    };
    compile(plan.patch).map_err(|source| {
        let fits = |patch| compile(patch).map(|_| ());
        match fitting_patch(network.total_stride(), plan.patch, fits) {
            Some(patch) => TrainError::TooLarge {
                source: source.into(),
                patch,
            },
            None => source.into(),
        }
    })
}

/// The configuration with every choice made, and the plan.
struct Setup {
    config: TrainConfig,
    plan: Plan,
    /// Whether config.toml lacks some of the choices still.
    is_unwritten: bool,
}

impl Setup {
    /// That of the run in `folder`, which is resumed or begun, and the lock on it. What cannot be set up leaves the
    /// folder as it was found.
    fn locked(
        dataset: &Dataset,
        folder: &RunFolder,
        config: &TrainConfig,
        resume: bool,
        class: AdapterClass,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<(Self, RunLock), TrainError> {
        let io = |source| TrainError::io(folder.root(), source);
        let in_use = || TrainError::InUse(folder.root().to_owned());
        let lock = folder.lock().map_err(io)?.ok_or_else(in_use)?;
        let setup = match resume && folder.config().exists() {
            true => Self::resume(dataset, folder, class, observe),
            false => Self::begin(dataset, folder, config, class, observe),
        };
        match setup {
            Ok(setup) => Ok((setup, lock)),
            Err(error) => {
                lock.withdraw();
                Err(error)
            }
        }
    }

    /// That of the run in `folder`, which may have been killed before it had a plan.
    fn resume(
        dataset: &Dataset,
        folder: &RunFolder,
        class: AdapterClass,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Self, TrainError> {
        let config = TrainConfig::read(&folder.config())?;
        config.validate_for(&dataset.description.labels)?;
        if !folder.plan().exists() {
            return Self::make(dataset, folder, &config, class, observe);
        }
        let plan = Plan::read(&folder.plan())?;
        check_same_kind(&plan, dataset, folder)?;
        let chosen = config.with_choices(&plan, class);
        Ok(Self {
            is_unwritten: chosen != config,
            config: chosen,
            plan,
        })
    }

    /// Makes good what a run that was killed early left out.
    fn write_choices(&self, folder: &RunFolder) -> Result<(), TrainError> {
        match self.is_unwritten {
            true => Ok(self.config.write(&folder.config())?),
            false => Ok(()),
        }
    }

    /// That of a new run. What is wrong with the data leaves no trace in `folder`.
    fn begin(
        dataset: &Dataset,
        folder: &RunFolder,
        config: &TrainConfig,
        class: AdapterClass,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Self, TrainError> {
        config.validate_for(&dataset.description.labels)?;
        refuse_existing(folder)?;
        // Of a run that ended before its first step: they must not be taken for those of this one.
        for stale in [folder.plan(), folder.kernels()] {
            match std::fs::remove_file(&stale) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(TrainError::io(stale, e));
                }
                _ => {}
            }
        }
        // First, so that a run that is killed while it measures its data can be resumed.
        config.write(&folder.config())?;
        Self::make(dataset, folder, config, class, observe).inspect_err(|_| {
            // The error matters more than a file that stays.
            let _ = std::fs::remove_file(folder.config());
        })
    }

    fn make(
        dataset: &Dataset,
        folder: &RunFolder,
        config: &TrainConfig,
        class: AdapterClass,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Self, TrainError> {
        let inspected = |done| observe(Event::Inspected(done, dataset.training.len()));
        let fingerprint = check_case_count(dataset)
            .and_then(|()| {
                let remark = |remark: Remark| observe(Event::Warning(remark.to_string()));
                Fingerprint::with_remarks(dataset, config.seed, inspected, remark)
            })
            .map_err(|first| with_all_problems(first, dataset, inspected))?;
        let plan = config.plan(&fingerprint, &dataset.description, class)?;
        if let Some(wanted) = config.batch.patch.filter(|wanted| *wanted != plan.patch) {
            observe(Event::Warning(format!(
                "--patch {} is rounded to {}, which the strides of the network divide",
                extent(wanted),
                extent(plan.patch)
            )));
        }
        fingerprint.write(&folder.fingerprint())?;
        // Before the choices: planned once more with them given, it might not be the same plan.
        plan.write(&folder.plan())?;
        let config = config.with_choices(&plan, class);
        config.write(&folder.config())?;
        Ok(Self {
            config,
            plan,
            is_unwritten: false,
        })
    }

    fn steps(&self) -> usize {
        self.config.schedule.steps.unwrap_or(1)
    }

    /// A hash of all that decides the numbers: the plan, the configuration but for the budget of memory, and the names and
    /// voxels of the cases.
    fn hash(&self, train: &[PreparedCase], validate: &[(Case, PreparedCase)]) -> String {
        let of = |case: &PreparedCase| (case.id().to_owned(), case.content());
        let train: Vec<_> = train.iter().map(of).collect();
        let validate: Vec<_> = validate.iter().map(|(_, case)| of(case)).collect();
        let config = TrainConfig {
            memory_budget: None,
            ..self.config.clone()
        };
        let text = serde_json::json!([self.plan, config, train, validate]).to_string();
        format!("{:016x}", Fnv::of(text.as_bytes()))
    }
}

/// A run may start in a folder that is new or empty, or that holds only what is made before the first step: a run that
/// was killed or refused that early left nothing to lose.
fn refuse_existing(folder: &RunFolder) -> Result<(), TrainError> {
    let entries = match std::fs::read_dir(folder.root()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(TrainError::io(folder.root(), e)),
    };
    for entry in entries {
        let name = entry
            .map_err(|e| TrainError::io(folder.root(), e))?
            .file_name();
        if folder.is_preliminary(&name) {
            continue;
        }
        if folder.config().exists() {
            return Err(TrainError::RunExists(folder.root().to_owned()));
        }
        return Err(TrainError::NotARun {
            path: folder.root().to_owned(),
            reason: format!(
                "it holds {} but no config.toml; give a new or empty folder",
                name.display()
            ),
        });
    }
    Ok(())
}

/// An error of the data together with all others that the data set has: whoever mends one would else meet the next only
/// after another reading of all cases.
fn with_all_problems(
    first: DatasetError,
    dataset: &Dataset,
    inspected: impl Fn(usize),
) -> TrainError {
    if !first.is_users_fault() {
        return first.into();
    }
    let mut problems = check_integrity(dataset, inspected);
    match problems.len() {
        0 | 1 => first.into(),
        _ => TrainError::Problems {
            first: problems.remove(0),
            more: problems,
        },
    }
}

struct Prepared {
    train: Vec<PreparedCase>,
    validate: Vec<(Case, PreparedCase)>,
}

fn prepare(
    Folds {
        train, validate, ..
    }: &Folds,
    setup: &Setup,
    folder: &RunFolder,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<Prepared, TrainError> {
    let cases = [&train[..], validate].concat();
    let mut prepared = prepare_cases(
        &cases,
        &setup.plan.labels,
        &setup.plan.preprocessing,
        &folder.prepared(),
        setup.config.seed,
        |done| observe(Event::Prepared(done, cases.len())),
    )?;
    let held_out = prepared.split_off(train.len());
    Ok(Prepared {
        train: prepared,
        validate: validate.iter().cloned().zip(held_out).collect(),
    })
}

/// The cases of a run.
struct Folds {
    train: Vec<Case>,
    validate: Vec<Case>,
    /// All folds, where the folder of the run does not have them.
    unwritten: Option<Vec<Split>>,
}

impl Folds {
    /// Those of splits_final.json in the folder of the run, which may be the user's own, else those of the data set.
    fn of(dataset: &Dataset, setup: &Setup, folder: &RunFolder) -> Result<Self, TrainError> {
        let Fold::Number(fold) = setup.config.fold else {
            return Ok(Self {
                train: dataset.training.clone(),
                validate: Vec::new(),
                unwritten: None,
            });
        };
        let ids: Vec<String> = dataset.training.iter().map(|c| c.id.clone()).collect();
        let own = folder.splits();
        let is_own = own.exists();
        let splits = match is_own {
            true => splits_in(&own, &ids)?,
            false => splits_of(&dataset.path, &ids, setup.config.seed)?,
        };
        let at = if is_own { &own } else { &dataset.path };
        let split = fold_of(at, &splits, fold)?;
        let cases = |ids: &[String]| {
            ids.iter()
                .filter_map(|id| dataset.case(id).cloned())
                .collect()
        };
        Ok(Self {
            train: cases(&split.train),
            validate: cases(&split.val),
            unwritten: (!is_own).then_some(splits),
        })
    }

    fn write(&self, folder: &RunFolder) -> Result<(), TrainError> {
        match &self.unwritten {
            Some(splits) => Ok(write_splits(&folder.splits(), splits)?),
            None => Ok(()),
        }
    }
}

/// Refuses a data set whose channels or labels are not those that the run was planned for.
fn check_same_kind(plan: &Plan, dataset: &Dataset, folder: &RunFolder) -> Result<(), TrainError> {
    let found = &dataset.description;
    let trained = plan
        .preprocessing
        .channels
        .iter()
        .map(|channel| &channel.name);
    if trained.eq(&found.channel_names) && plan.labels == found.labels {
        return Ok(());
    }
    Err(TrainError::OtherData {
        run: folder.root().to_owned(),
        trained: plan.data_text(),
        dataset: dataset.path.clone(),
        given: data_text(&found.channel_names, &found.file_ending, &found.labels),
    })
}

fn batches(cases: Vec<PreparedCase>, setup: &Setup) -> Arc<Draw> {
    let (plan, config) = (setup.plan.clone(), setup.config.clone());
    let form = TargetForm::of(&plan.labels);
    let axes = if config.batch.mirror {
        mirror_axes(&plan)
    } else {
        Vec::new()
    };
    Arc::new(move |step| {
        let how = Drawing {
            batch: plan.batch,
            patch: plan.patch,
            foreground: config.batch.foreground,
            mirror_axes: &axes,
        };
        let drawn = draw_batch(&cases, config.seed, step, &how)?;
        let annotated = |&label: &f32| f32::from(Some(label as u32) != plan.labels.ignore);
        Ok(Fed {
            voxel_weights: form
                .has_voxel_weights()
                .then(|| drawn.target.iter().map(annotated).collect()),
            target: match plan.labels.is_regions() {
                true => {
                    let voxels = plan.patch.iter().product();
                    plan.labels.labels_to_regions(&drawn.target, voxels)
                }
                false => drawn.target,
            },
            image: drawn.image,
        })
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
