//! What a run is made with: the configuration with every choice made, and the plan; read from its folder, or made from the data.

use std::path::Path;

use super::error::TrainError;
use super::inherit::{foreign, inherited};
use super::session::Event;
use super::{TrainConfig, TrainOptions};
use crate::dataset::{
    Case, Dataset, DatasetError, Fingerprint, Plan, PreparedCase, Remark, check_case_count,
    check_integrity, data_text,
};
use crate::gpu::AdapterClass;
use crate::hash::Fnv;
use crate::run::{RunFolder, RunLock};
use crate::weights::WeightsFile;
use crate::words::extent;

/// The configuration with every choice made, and the plan.
pub(super) struct Setup {
    pub(super) config: TrainConfig,
    pub(super) plan: Plan,
    /// Whether config.toml lacks some of the choices still.
    is_unwritten: bool,
}

impl Setup {
    /// One that belongs to no folder.
    pub(super) fn chosen(config: TrainConfig, plan: Plan) -> Self {
        Self {
            config,
            plan,
            is_unwritten: false,
        }
    }

    /// That of the run in `folder`, which is resumed or begun, and the lock on it. What cannot be set up leaves the
    /// folder as it was found.
    pub(super) fn locked(
        dataset: &Dataset,
        folder: &RunFolder,
        config: &TrainConfig,
        options: TrainOptions<'_>,
        class: AdapterClass,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<(Self, RunLock), TrainError> {
        let io = |source| TrainError::io(folder.root(), source);
        let in_use = || TrainError::InUse(folder.root().to_owned());
        let lock = folder.lock().map_err(io)?.ok_or_else(in_use)?;
        let setup = match (options.resume && folder.config().exists(), options.from) {
            (true, _) => Self::resume(dataset, folder, class, observe),
            (false, None) => Self::begin(dataset, folder, config, options.weights, class, observe),
            (false, Some(run)) => {
                Self::begin_from(&RunFolder::new(run), dataset, folder, config, class)
            }
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
            return Self::make(dataset, folder, &config, None, class, observe);
        }
        let plan = Plan::read(&folder.plan())?;
        let remedy = || "Give the data set of the run, or start a new run in another folder".into();
        check_same_kind(&plan, dataset, folder, remedy)?;
        let chosen = config.with_choices(&plan, class);
        Ok(Self {
            is_unwritten: chosen != config,
            config: chosen,
            plan,
        })
    }

    /// Makes good what a run that was killed early left out.
    pub(super) fn write_choices(&self, folder: &RunFolder) -> Result<(), TrainError> {
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
        weights: Option<&Path>,
        class: AdapterClass,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Self, TrainError> {
        config.validate_for(&dataset.description.labels)?;
        // Before all cases are read.
        config.check_family()?;
        let weights = weights.map(WeightsFile::open).transpose()?;
        make_room(folder)?;
        // First, so that a run that is killed while it measures its data can be resumed; but not without its weights.
        if weights.is_none() {
            config.write(&folder.config())?;
        }
        Self::make(dataset, folder, config, weights, class, observe).inspect_err(|_| {
            // The error matters more than a file that stays.
            let _ = std::fs::remove_file(folder.config());
        })
    }

    /// That of a new run with the plan and the weights of the run `source`.
    fn begin_from(
        source: &RunFolder,
        dataset: &Dataset,
        folder: &RunFolder,
        config: &TrainConfig,
        class: AdapterClass,
    ) -> Result<Self, TrainError> {
        config.validate_for(&dataset.description.labels)?;
        check_case_count(dataset)?;
        let (plan, weights) = inherited(source, config)?;
        let remedy = || {
            let run = source.root().display();
            format!(
                "Give a data set with the channels and labels of the run, or begin with its weights alone, whose heads start anew for other labels: `voxseg export {run} -o W.safetensors`, then `voxseg train --weights W.safetensors`"
            )
        };
        check_same_kind(&plan, dataset, source, remedy)?;
        make_room(folder)?;
        weights.write(&folder.start())?;
        plan.write(&folder.plan())?;
        let config = config.with_choices(&plan, class);
        config.write(&folder.config())?;
        Ok(Self {
            config,
            plan,
            is_unwritten: false,
        })
    }

    fn make(
        dataset: &Dataset,
        folder: &RunFolder,
        config: &TrainConfig,
        weights: Option<WeightsFile>,
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
        if let Some(file) = weights {
            let tell = |text| observe(Event::News(text));
            foreign(file, &plan, tell)?.write(&folder.start())?;
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

    pub(super) fn steps(&self) -> usize {
        self.config.schedule.steps.unwrap_or(1)
    }

    /// A hash of all that decides the numbers: the plan, the configuration but for the budget of memory, and the names and
    /// voxels of the cases.
    pub(super) fn hash(&self, train: &[PreparedCase], validate: &[(Case, PreparedCase)]) -> String {
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

/// Refuses a folder with a run, and removes what is left of one that ended before its first step: it must not be taken for
/// that of the new one.
fn make_room(folder: &RunFolder) -> Result<(), TrainError> {
    refuse_existing(folder)?;
    for stale in [folder.plan(), folder.kernels(), folder.start()] {
        match std::fs::remove_file(&stale) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainError::io(stale, e));
            }
            _ => {}
        }
    }
    Ok(())
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

/// Refuses a data set whose channels or labels are not those that the run was planned for; `remedy` says what to do then.
fn check_same_kind(
    plan: &Plan,
    dataset: &Dataset,
    folder: &RunFolder,
    remedy: impl FnOnce() -> String,
) -> Result<(), TrainError> {
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
        remedy: remedy(),
    })
}
