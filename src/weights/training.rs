//! How far nnU-Net's training of a model came, and what it takes to go on: its optimiser with the velocity of each parameter.

use std::collections::BTreeMap;

use super::file::WeightsFile;
use super::names::sources;
use super::value::{Place, Values, View};
use crate::losses::Supervision;
use crate::optim::{OptimizerConfig, Schedule};
use crate::run::NetworkTensor;
use crate::tensor::HostTensor;

/// Epochs of nnU-Net's trainer, where the name of a variant does not say another number.
const EPOCHS: usize = 1000;

/// A training run of nnU-Net that can be gone on with.
#[derive(Clone, Debug)]
pub struct ImportedTraining {
    /// Optimiser steps done.
    pub step: usize,
    /// Optimiser steps in all.
    pub steps: usize,
    /// SGD with its settings.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the steps.
    pub learning_rate: Schedule,
    /// Whether Dice is measured over the batch.
    pub batch_dice: bool,
    /// The velocity of each parameter of the network, under the parameter's name.
    pub velocities: BTreeMap<String, HostTensor>,
}

impl ImportedTraining {
    /// What `file` says of the training of the network with `wanted`; else why it cannot be gone on with.
    pub(super) fn read(
        file: &mut WeightsFile,
        wanted: &BTreeMap<String, NetworkTensor>,
        batch_dice: bool,
    ) -> Result<Self, String> {
        let trainer = file.entry(&["trainer_name"]).unwrap_or_default();
        let epoch = file.entry(&["current_epoch"]).and_then(|n| n.parse().ok());
        let epoch: usize = epoch.ok_or("it does not say its epoch")?;
        let sgd = Sgd::of(file)?;
        let steps = |epochs: usize| epochs.saturating_mul(Supervision::EPOCH as usize);
        Ok(Self {
            step: steps(epoch),
            steps: steps(epochs_of(&trainer)),
            optimizer: sgd.config,
            learning_rate: sgd.learning_rate,
            batch_dice,
            velocities: velocities(file, wanted, &sgd.momenta)?,
        })
    }
}

/// The epochs that a trainer runs for; `nnUNetTrainer_250epochs` says it.
fn epochs_of(trainer: &str) -> usize {
    let last = trainer.rsplit('_').next().unwrap_or_default();
    let number = last.strip_suffix("epochs").or(last.strip_suffix("epoch"));
    number.and_then(|n| n.parse().ok()).unwrap_or(EPOCHS)
}

/// The state of torch.optim.SGD.
struct Sgd {
    config: OptimizerConfig,
    learning_rate: Schedule,
    /// `momentum_buffer` of each parameter in the order of the module; `None` where no gradient ever reached it.
    momenta: Vec<Option<View>>,
}

impl Sgd {
    fn of(file: &WeightsFile) -> Result<Self, String> {
        let missing = "it has no state of an optimiser";
        let (values, outermost) = file.pickled().ok_or(missing)?;
        let state = values.get(outermost, "optimizer_state").ok_or(missing)?;
        let groups = values.get(state, "param_groups");
        let groups = groups.and_then(|list| values.sequence(list));
        let &[group] = groups.unwrap_or_default() else {
            return Err("its optimiser has not one group of parameters".into());
        };
        let entry = |key: &str| values.get(group, key);
        let number = |key: &str| entry(key).and_then(|at| values.number(at));
        let truth = |key: &str| entry(key).and_then(|at| values.truth(at));
        let (Some(momentum), Some(weight_decay), Some(nesterov)) = (
            number("momentum"),
            number("weight_decay"),
            truth("nesterov"),
        ) else {
            return Err("its optimiser is not SGD".into());
        };
        if number("dampening").unwrap_or(0.0) != 0.0 || truth("maximize").unwrap_or(false) {
            return Err("its SGD has `dampening` or `maximize`".into());
        }
        let config = OptimizerConfig::Sgd {
            momentum: momentum as f32,
            nesterov,
            weight_decay: weight_decay as f32,
            // nnU-Net's, which it has in its code alone.
            max_norm: OptimizerConfig::default().max_norm(),
        };
        let learning_rate = number("initial_lr").map_or_else(Schedule::default, Schedule::poly);
        let fault = config.fault().or(learning_rate.fault());
        if let Some(fault) = fault {
            let (key, expected, found) = (fault.key, fault.expected, fault.found);
            return Err(format!("its optimiser has {key} {found}, not {expected}"));
        }
        Ok(Self {
            config,
            learning_rate,
            momenta: momenta(values, state, group)?,
        })
    }
}

/// The buffers of the parameters of `group` in its order, from the dictionary `state` of an optimiser.
fn momenta(values: &Values, state: Place, group: Place) -> Result<Vec<Option<View>>, String> {
    let places = values.get(group, "params");
    let places = places.and_then(|list| values.sequence(list));
    let numbers = places.unwrap_or_default().iter();
    let numbers: Option<Vec<usize>> = numbers.map(|&at| values.size(at)).collect();
    let numbers = numbers.ok_or("its optimiser names its parameters other than by numbers")?;
    let of_number: BTreeMap<usize, Place> = match values.get(state, "state") {
        Some(states) => values.numbered(states).collect(),
        None => BTreeMap::new(),
    };
    let buffer = |number: &usize| {
        let Some(&state) = of_number.get(number) else {
            return Ok(None);
        };
        let place = values.get(state, "momentum_buffer");
        let view = place.and_then(|at| values.tensor(at));
        let missing = || format!("its optimiser has no momentum_buffer of parameter {number}");
        Ok(Some(view.ok_or_else(missing)?.clone()))
    };
    numbers.iter().map(buffer).collect()
}

/// The velocities under the names of the parameters, 0 where there is none yet.
fn velocities(
    file: &mut WeightsFile,
    wanted: &BTreeMap<String, NetworkTensor>,
    momenta: &[Option<View>],
) -> Result<BTreeMap<String, HostTensor>, String> {
    let parameters = parameters(file);
    if parameters.len() != momenta.len() {
        return Err(format!(
            "its optimiser has {} parameters, its network {}",
            momenta.len(),
            parameters.len()
        ));
    }
    let mut found = BTreeMap::new();
    for (name, source) in sources(file, wanted) {
        let view = file.view(&source);
        let Some(at) = view.and_then(|view| parameters.iter().position(|p| p == view)) else {
            continue;
        };
        let NetworkTensor { shape, axes } = wanted[&name];
        let data = match &momenta[at] {
            None => vec![0.0; shape.len()],
            Some(buffer) if buffer.shape != parameters[at].shape => {
                return Err(format!("its optimiser has another shape for {source}"));
            }
            Some(buffer) => {
                let told = format!("momentum_buffer of {source}");
                let numbers = file.read_view(&told, buffer);
                axes.inwards(shape, numbers.map_err(|e| e.to_string())?)
            }
        };
        found.insert(name, HostTensor { shape, data });
    }
    Ok(found)
}

/// The parameters of a module in the order in which PyTorch's optimisers number them: as its state dict, in which a
/// tensor of several names counts once, without what no gradient reaches.
fn parameters(file: &WeightsFile) -> Vec<View> {
    const BUFFERS: [&str; 3] = ["running_mean", "running_var", "num_batches_tracked"];
    let mut parameters: Vec<View> = Vec::new();
    for (name, view) in file.in_order() {
        let leaf = name.rsplit('.').next().unwrap_or_default();
        if !BUFFERS.contains(&leaf) && !parameters.contains(view) {
            parameters.push(view.clone());
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::epochs_of;

    #[test]
    fn variants_of_the_trainer_say_their_epochs() {
        for (trainer, epochs) in [
            ("nnUNetTrainer", 1000),
            ("nnUNetTrainer_250epochs", 250),
            ("nnUNetTrainer_1epoch", 1),
            ("nnUNetTrainerNoMirroring", 1000),
            ("", 1000),
        ] {
            assert_eq!(epochs_of(trainer), epochs, "{trainer}");
        }
    }
}
