//! The network of the whole-step benchmarks: a small nnU-Net with its training step and its inference.
//!
//! PlainConvUNet of 16-32-64-128 features, 1 channel, 4 classes, deep supervision, Dice + cross-entropy, SGD with Nesterov
//! momentum: 1,402,412 parameters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use voxseg::gpu::{DeviceProfile, Gpu};
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, remove_dead_nodes};
use voxseg::losses::{LossConfig, Supervision};
use voxseg::models::{Architecture, Network, PlainNet, UNetConfig, plain_unet};
use voxseg::nn::Mode;
use voxseg::ops::ValueId;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::{Element, HostTensor, Shape};
use voxseg::train::{TargetForm, training_step};

use super::Outcome;

const CLASSES: usize = 4;
/// Trained numbers of the network.
pub const PARAMETERS: usize = 1_402_412;

fn network() -> UNetConfig {
    plain_unet(PlainNet {
        in_channels: 1,
        out_channels: CLASSES,
        features: vec![16, 32, 64, 128],
        kernels: vec![[3; 3]; 4],
        strides: vec![[1; 3], [2; 3], [2; 3], [2; 3]],
    })
}

const fn patch(edge: usize) -> Shape {
    Shape::new(1, 1, edge, edge, edge)
}

/// A compiled program, and what is uploaded before each run of it.
pub struct Job {
    /// What runs.
    pub executor: Executor,
    feeds: Vec<(ValueId, Vec<f32>)>,
}

impl Job {
    /// One run: its outputs, and the time from upload to fetch.
    pub fn run(&self) -> Outcome<(Vec<HostTensor>, Duration)> {
        let views: Vec<_> = self.feeds.iter().map(|(id, d)| (*id, &d[..])).collect();
        let start = Instant::now();
        let outputs = pollster::block_on(async {
            self.executor.run(&views).await?;
            self.executor.fetch().await
        })?;
        Ok((outputs.ok_or("no run is open")?, start.elapsed()))
    }

    /// The shortest of `count` runs, seconds.
    pub fn best(&self, count: usize) -> Outcome<f64> {
        let times: Vec<_> = (0..count)
            .map(|_| Ok(self.run()?.1))
            .collect::<Outcome<_>>()?;
        Ok(times.into_iter().min().unwrap_or_default().as_secs_f64())
    }
}

/// Waves of several lengths; labels are their levels, so that there is something to learn.
fn image(edge: usize) -> Vec<f32> {
    (0..patch(edge).len())
        .map(|i| (i as f32 * 0.013).sin() + (i as f32 * 0.41).cos())
        .collect()
}

/// The training step on a patch of `edge`^3; its first output is the loss.
pub fn training(gpu: &Arc<Gpu>, device: &DeviceProfile, edge: usize) -> Outcome<Job> {
    training_as(Element::F32, gpu, device, edge)
}

/// [`training`] with activations stored as `precision`.
#[allow(dead_code, reason = "the comparison with other frameworks is in f32")]
pub fn training_as(
    precision: Element,
    gpu: &Arc<Gpu>,
    device: &DeviceProfile,
    edge: usize,
) -> Outcome<Job> {
    let network = Network::from(network()).stored_as(precision);
    let loss = LossConfig::default();
    let sgd = OptimizerConfig::default();
    let step = training_step(
        &network,
        patch(edge),
        TargetForm::CLASSES,
        &loss,
        &sgd,
        device,
    )?;
    assert_eq!(step.program.graph().parameter_count(), PARAMETERS);
    let image = image(edge);
    let labels = image.iter().map(|v| (v + 2.0).clamp(0.0, 3.0).floor());
    let feeds = vec![
        (step.feeds.target, labels.collect()),
        (step.feeds.image, image),
        (
            step.feeds.head_weights,
            Supervision::Halving.weights(step.heads, 0, 1)?,
        ),
        (step.feeds.loss_scale, vec![1.0]),
        (step.hyper, sgd.hyper(0.01, 0).to_vec()),
    ];
    let mut parameters = Parameters::new(gpu.clone(), 0);
    let executor = Executor::new(step.program, &mut parameters)?;
    Ok(Job { executor, feeds })
}

/// The logits of the finest head on a patch of `edge`^3.
pub fn inference(gpu: &Arc<Gpu>, device: &DeviceProfile, edge: usize) -> Outcome<Job> {
    let mut graph = Graph::new();
    let input = graph.input("image", patch(edge))?;
    let outputs = [network().build(&mut graph, input, Mode::Inference)?.logits[0]];
    remove_dead_nodes(&mut graph, &outputs);
    let program = Program::compile(graph, &outputs, device, ProgramOptions::default())?;
    Ok(Job {
        executor: Executor::new(program, &mut Parameters::new(gpu.clone(), 0))?,
        feeds: vec![(input, image(edge))],
    })
}

/// Steps whose outputs must agree, and by how much: the second loss shows whether the first moved the weights alike.
const STEPS: usize = 2;
const AGREEMENT: f32 = 1e-4;

/// What [`training`] and [`inference`] are.
pub type Build = fn(&Arc<Gpu>, &DeviceProfile, usize) -> Outcome<Job>;

/// A few runs beside the naive convolutions, whose outputs must agree; the ratio of their times.
pub fn beside_naive(gpu: &Arc<Gpu>, build: Build, edge: usize) -> Outcome<f64> {
    let mut naive = gpu.profile().clone();
    naive.forced_variants.insert("conv".into(), "naive".into());
    let jobs = [build(gpu, gpu.profile(), edge)?, build(gpu, &naive, edge)?];
    let mut best = [f64::INFINITY; 2];
    for step in 0..STEPS {
        let mut outputs = Vec::new();
        for (job, best) in jobs.iter().zip(&mut best) {
            let (found, time) = job.run()?;
            outputs.push(found);
            *best = best.min(time.as_secs_f64());
        }
        for (found, expected) in outputs[0][0].data.iter().zip(&outputs[1][0].data) {
            let difference = (found - expected).abs();
            if !difference.is_finite() || difference > AGREEMENT * (1.0 + expected.abs()) {
                return Err(format!("step {step}: {found} where naive gives {expected}").into());
            }
        }
    }
    Ok(best[1] / best[0])
}
