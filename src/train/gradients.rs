//! Where gradients vanish: what decides the place of a supervised branch (Wang et al. 2015).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::TrainConfig;
use super::cases::batches;
use super::error::TrainError;
use super::loader::Fed;
use super::network::{SupervisedGraph, TargetForm};
use super::session::Event;
use super::setup::Setup;
use crate::dataset::{Dataset, prepare_cases};
use crate::gpu::Gpu;
use crate::graph::{Executor, Graph, Parameters};
use crate::losses::LossConfig;
use crate::models::Network;
use crate::ops::ValueId;
use crate::ops::dropout::seed_bits;
use crate::optim::{OptimizerConfig, append_optimizer};
use crate::report::gradients::{GradientProfile, LayerGradient};
use crate::run::network_of;
use crate::tensor::{Element, HostTensor, Shape};

/// Convolutions, and transposed ones; both read their weight second.
const CONVOLUTIONS: [&str; 2] = ["conv.forward", "conv.input_grad"];

/// What a network is trained with while its gradients are measured.
#[derive(Clone, Debug)]
pub struct Profiling {
    /// Iterations; the paper trains 10 to 50.
    pub iterations: u64,
    /// What targets look like.
    pub form: TargetForm,
    /// The loss of the main head.
    pub loss: LossConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Its learning rate.
    pub learning_rate: f64,
}

/// Trains `network` from `parameters` (those that are missing are made) on batches of `patch` (N, C, D, H, W), of which
/// `draw` gives that of each iteration, and tells how large the gradients of its convolutions were. Only the main head is
/// supervised: branches would hide what the profile is to show. The parameters are changed by the training.
///
/// # Errors
/// [`TrainError`] where the patch does not fit network or device, or `draw` fails.
pub async fn gradient_profile(
    network: &Network,
    patch: Shape,
    with: &Profiling,
    parameters: &mut Parameters,
    mut draw: impl FnMut(u64) -> Result<Fed, TrainError>,
) -> Result<GradientProfile, TrainError> {
    // Loss scaling would scale what is measured.
    let network = network.clone().stored_as(Element::F32);
    let mut supervised = SupervisedGraph::build(&network, patch, with.form, &with.loss)?;
    let gradients = std::mem::take(&mut supervised.gradients);
    let optimizer = append_optimizer(&mut supervised.graph, &gradients, &with.optimizer)?;
    let layers = convolutions(&supervised.graph, supervised.logits[0], &gradients);
    let outputs: Vec<ValueId> = layers.iter().map(|(_, gradient)| *gradient).collect();
    let (feeds, heads) = (supervised.feeds, supervised.logits.len());
    let program = supervised.compile(&outputs, parameters.gpu().profile())?;
    let executor = Executor::new(program, parameters)?;
    let mut weights = vec![0.0; heads];
    weights[0] = 1.0;
    let mut sums = vec![0.0; layers.len()];
    for at in 0..with.iterations {
        let batch = draw(at)?;
        let hyper = with.optimizer.hyper(with.learning_rate, at);
        let seed = [seed_bits(at as u32)];
        let mut feed = feeds.of_batch(&batch, &weights, with.loss.class_weights.as_deref());
        feed.push((optimizer.hyper, &hyper));
        feed.extend(feeds.dropout_seed.map(|id| (id, &seed[..])));
        executor.run(&feed).await?;
        for (sum, gradient) in sums
            .iter_mut()
            .zip(executor.fetch().await?.iter().flatten())
        {
            *sum += mean_abs(gradient);
        }
    }
    let iterations = with.iterations.max(1) as f64;
    let layer = |((layer, _), sum): ((String, ValueId), f64)| LayerGradient {
        layer,
        mean_abs: sum / iterations,
    };
    Ok(GradientProfile {
        iterations: with.iterations,
        layers: layers.into_iter().zip(sums).map(layer).collect(),
    })
}

/// The most training cases that a profile reads.
const CASES: usize = 8;

/// [`gradient_profile`] of the network that training would plan for the data set in the folder `dataset`, on batches as
/// training draws them from its first cases. Nothing is kept of it.
///
/// # Errors
/// [`TrainError`] where the data cannot be used, or the network is too large for the device.
pub async fn gradient_profile_of_dataset(
    dataset: &Path,
    config: &TrainConfig,
    iterations: u64,
    gpu: Arc<Gpu>,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<GradientProfile, TrainError> {
    let dataset = Dataset::open(dataset)?;
    let all = dataset.training.len();
    let inspected = |done| observe(Event::Inspected(done, all));
    let (config, plan) = config.planned(&dataset, gpu.profile().class, inspected)?;
    let network = network_of(&plan)?;
    let with = Profiling {
        iterations,
        form: TargetForm::of(&plan.labels),
        loss: config.loss.clone(),
        optimizer: config.optimizer(),
        learning_rate: config.learning_rate().rate(0, iterations),
    };
    let cases = &dataset.training[..all.min(CASES)];
    // The cases that are drawn from are read from there as long as it lives.
    let folder = tempfile::tempdir().map_err(|e| TrainError::io(std::env::temp_dir(), e))?;
    let prepared = prepare_cases(
        cases,
        &plan.labels,
        &plan.preprocessing,
        folder.path(),
        config.seed,
        |done| observe(Event::Prepared(done, cases.len())),
    )?;
    let patch = Shape::new(plan.batch, network.in_channels(), 1, 1, 1).with_spatial(plan.patch);
    let mut parameters = Parameters::new(gpu, config.seed);
    let draw = batches(prepared, &Setup::chosen(config, plan));
    let draw = |step| Ok(draw(step)?);
    gradient_profile(&network, patch, &with, &mut parameters, draw).await
}

fn mean_abs(gradient: &HostTensor) -> f64 {
    let values = gradient.data.iter().map(|v| f64::from(v.abs()));
    values.sum::<f64>() / gradient.data.len().max(1) as f64
}

/// Name and gradient of the weight of each convolution that `main` depends on, in running order.
fn convolutions(
    graph: &Graph,
    main: ValueId,
    gradients: &BTreeMap<ValueId, ValueId>,
) -> Vec<(String, ValueId)> {
    let mut live = BTreeSet::from([main]);
    let mut found = Vec::new();
    for node in graph.nodes().iter().rev() {
        if !node.outputs.iter().any(|output| live.contains(output)) {
            continue;
        }
        live.extend(&node.inputs);
        let weight = node.inputs.get(1).and_then(|weight| gradients.get(weight));
        if let Some(&gradient) = weight.filter(|_| CONVOLUTIONS.contains(&node.op.name())) {
            found.push((node.name.clone(), gradient));
        }
    }
    found.reverse();
    found
}
