//! The cases of a run: which it trains on and which it is validated on, prepared, and drawn into batches.

use std::sync::Arc;

use super::Fold;
use super::error::TrainError;
use super::loader::{Draw, Fed};
use super::network::TargetForm;
use super::session::Event;
use super::setup::Setup;
use crate::dataset::{
    Case, Dataset, Drawing, PreparedCase, Split, draw_batch, fold_of, prepare_cases, splits_in,
    splits_of, write_splits,
};
use crate::run::{RunFolder, mirror_axes};

/// The cases of a run.
pub(super) struct Folds {
    pub(super) train: Vec<Case>,
    pub(super) validate: Vec<Case>,
    /// All folds, where the folder of the run does not have them.
    unwritten: Option<Vec<Split>>,
}

impl Folds {
    /// Those of splits_final.json in the folder of the run, which may be the user's own, else those of the data set.
    pub(super) fn of(
        dataset: &Dataset,
        setup: &Setup,
        folder: &RunFolder,
    ) -> Result<Self, TrainError> {
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

    pub(super) fn write(&self, folder: &RunFolder) -> Result<(), TrainError> {
        match &self.unwritten {
            Some(splits) => Ok(write_splits(&folder.splits(), splits)?),
            None => Ok(()),
        }
    }
}

/// The cases, ready to be drawn from.
pub(super) struct Prepared {
    pub(super) train: Vec<PreparedCase>,
    pub(super) validate: Vec<(Case, PreparedCase)>,
}

/// Reads all cases and brings them to the spacing and the intensities of the plan.
pub(super) fn prepare(
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

/// What draws the batch of a step.
pub(super) fn batches(cases: Vec<PreparedCase>, setup: &Setup) -> Arc<Draw> {
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
