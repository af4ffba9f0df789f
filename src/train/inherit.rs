//! What a new run takes over: plan and weights of another one, or weights of others.

use std::collections::BTreeMap;
use std::path::Path;

use super::TrainConfig;
use super::config::{ConfigError, NetworkConfig};
use super::error::TrainError;
use crate::dataset::Plan;
use crate::infer::Weights;
use crate::run::checkpoint::{self, CheckpointInfo};
use crate::run::{RunFolder, plan_tensors, training_heads};
use crate::tensor::HostTensor;
use crate::weights::{FittedBody, WeightsFile, fit_body};

/// The weights of a network, and how far they were trained.
pub(super) struct Inherited {
    tensors: BTreeMap<String, HostTensor>,
    info: CheckpointInfo,
}

impl Inherited {
    /// Writes them as a checkpoint, which has no state of an optimiser.
    pub(super) fn write(&self, path: &Path) -> Result<(), TrainError> {
        Ok(checkpoint::write(path, &self.tensors, &self.info)?)
    }
}

/// Plan and final weights of the run `source`; of what `config` says only the batch size and the patch change the plan.
pub(super) fn inherited(
    source: &RunFolder,
    config: &TrainConfig,
) -> Result<(Plan, Inherited), TrainError> {
    let file = Weights::Final.file(source);
    for needed in [source.plan(), file.clone()] {
        if !needed.exists() {
            let name = needed.file_name().unwrap_or_default().display();
            return Err(TrainError::NotARun {
                path: source.root().to_owned(),
                reason: format!("it has no {name}; --from takes a trained run"),
            });
        }
    }
    let mut plan = Plan::read(&source.plan())?;
    refuse_other_network(config, &plan)?;
    plan.batch = config.batch.size.unwrap_or(plan.batch);
    plan.patch = config.batch.patch.unwrap_or(plan.patch);
    let found = checkpoint::load(&file)?;
    let weights = Inherited {
        tensors: found.only(&plan_tensors(&plan)?)?,
        info: found.info,
    };
    Ok((plan, weights))
}

/// The weights fit no other network than that of `plan`, and no other spacing.
fn refuse_other_network(config: &TrainConfig, plan: &Plan) -> Result<(), ConfigError> {
    let value = |key: &str, expected, found: String| {
        let key = key.to_owned();
        Err(ConfigError::Value {
            key,
            expected,
            found,
        })
    };
    if config.network != NetworkConfig::default() {
        let expected = "left out with --from, whose run has the network";
        return value("network", expected, "other keys than the defaults".into());
    }
    if let Some(spacing) = config.batch.spacing {
        let expected = "left out with --from, whose run has the spacing";
        return value("batch.spacing", expected, format!("{spacing:?}"));
    }
    if let Some(patch) = config.batch.patch.filter(|patch| patch[0] > 1)
        && plan.preprocessing.planar
    {
        let expected =
            "one voxel deep, [1, H, W] (--patch H,W): the network of --from is for slices";
        return value("batch.patch", expected, format!("{patch:?}"));
    }
    let divisor = plan.topology.divisor();
    match config.batch.patch {
        Some(patch) if (0..3).any(|axis| !patch[axis].is_multiple_of(divisor[axis])) => {
            let expected = "a multiple of the strides of the network of --from along each axis";
            value(
                "batch.patch",
                expected,
                format!("{patch:?}, strides {divisor:?}"),
            )
        }
        _ => Ok(()),
    }
}

/// The weights of others in `file` for the network of `plan`. `tell` hears how many there are, and which heads start anew:
/// those for another number of classes, and those for training alone that the file has not.
pub(super) fn foreign(
    mut file: WeightsFile,
    plan: &Plan,
    tell: impl Fn(String),
) -> Result<Inherited, TrainError> {
    let wanted = plan_tensors(plan)?;
    let heads = training_heads(plan)?;
    let FittedBody { fitted, absent } = fit_body(&mut file, &wanted, plan.classes(), &heads)?;
    let anew = |names: &[&str], why: &str| match names {
        [] => String::new(),
        names => format!("; {} start anew, {why}", names.join(", ")),
    };
    let others: Vec<&str> = fitted.left.iter().map(|head| head.name.as_str()).collect();
    let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
    tell(format!(
        "{} of {} tensors are those of {}{}{}",
        fitted.tensors.len(),
        wanted.len(),
        file.path().display(),
        anew(&others, "which there are for another number of classes"),
        anew(&absent, "heads for training alone, which it has not"),
    ));
    Ok(Inherited {
        tensors: fitted.tensors,
        info: CheckpointInfo::imported(0),
    })
}
