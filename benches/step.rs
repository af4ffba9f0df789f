//! The whole training step and the inference of a small nnU-Net on one 64^3 patch: `cargo bench --bench step`.
//!
//! PlainConvUNet of 16-32-64-128 features, 1 channel, 4 classes, deep supervision, Dice + cross-entropy, SGD with Nesterov
//! momentum: 1,402,412 parameters; benches/peers/step.py runs the same in PyTorch. Times are the host's, from the upload
//! of a batch to its loss. First a smaller patch is checked against the naive convolutions.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::gpu::DeviceProfile;
use voxseg::graph::{
    Executor, Graph, Parameters, Profile, Program, ProgramOptions, remove_dead_nodes,
};
use voxseg::losses::{LossConfig, Supervision};
use voxseg::models::{PlainNet, UNetConfig, plain_unet};
use voxseg::nn::Mode;
use voxseg::ops::ValueId;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::Shape;
use voxseg::train::{TargetForm, training_step};

use common::{Outcome, Rig, cost};

const CLASSES: usize = 4;
const PARAMETERS: usize = 1_402_412;

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
struct Job {
    executor: Executor,
    feeds: Vec<(ValueId, Vec<f32>)>,
}

impl Job {
    /// One run; its outputs' first elements, and the time from upload to fetch.
    fn run(&self) -> Outcome<(Vec<f32>, Duration)> {
        let views: Vec<_> = self.feeds.iter().map(|(id, d)| (*id, &d[..])).collect();
        let start = Instant::now();
        let outputs = pollster::block_on(async {
            self.executor.run(&views).await?;
            self.executor.fetch().await
        })?;
        let time = start.elapsed();
        let outputs = outputs.ok_or("no run is open")?;
        Ok((outputs.iter().map(|t| t.data[0]).collect(), time))
    }

    fn best(&self, count: usize) -> Outcome<f64> {
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

fn training(rig: &Rig, device: &DeviceProfile, edge: usize) -> Outcome<Job> {
    let loss = LossConfig::default();
    let sgd = OptimizerConfig::default();
    let step = training_step(
        &network(),
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
    let mut parameters = Parameters::new(rig.gpu.clone(), 0);
    let executor = Executor::new(step.program, &mut parameters)?;
    Ok(Job { executor, feeds })
}

fn inference(rig: &Rig, edge: usize) -> Outcome<Job> {
    let mut graph = Graph::new();
    let input = graph.input("image", patch(edge))?;
    let outputs = [network().build(&mut graph, input, Mode::Inference)?.logits[0]];
    remove_dead_nodes(&mut graph, &outputs);
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &outputs, rig.gpu.profile(), options)?;
    Ok(Job {
        executor: Executor::new(program, &mut Parameters::new(rig.gpu.clone(), 0))?,
        feeds: vec![(input, image(edge))],
    })
}

/// Steps whose losses must agree, and by how much: the second shows whether the first moved the weights alike.
const STEPS: usize = 2;
const AGREEMENT: f32 = 1e-4;

/// A few steps beside the naive convolutions; the ratio of their times.
fn beside_naive(rig: &Rig, edge: usize) -> Outcome<f64> {
    let mut naive = rig.gpu.profile().clone();
    naive.forced_variants.insert("conv".into(), "naive".into());
    let jobs = [
        training(rig, rig.gpu.profile(), edge)?,
        training(rig, &naive, edge)?,
    ];
    let mut best = [f64::INFINITY; 2];
    for step in 0..STEPS {
        let mut losses = [0.0; 2];
        for (i, job) in jobs.iter().enumerate() {
            let (outputs, time) = job.run()?;
            losses[i] = outputs[0];
            best[i] = best[i].min(time.as_secs_f64());
        }
        let difference = (losses[0] - losses[1]).abs();
        if !difference.is_finite() || difference > AGREEMENT * (1.0 + losses[1].abs()) {
            return Err(format!("step {step}: loss {} and naive {}", losses[0], losses[1]).into());
        }
    }
    Ok(best[1] / best[0])
}

fn describe(rig: &Rig, job: &Job, seconds: f64) -> Outcome<String> {
    let program = job.executor.program();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "best {seconds:.3} s: {}; {} dispatches; activations {:.1} MiB (at least {:.1}), all {:.1} MiB",
        rig.rates(cost(program), seconds),
        program.dispatch_count(),
        mib(program.memory_plan().total_bytes()),
        mib(program.peak_bytes()),
        mib(program.total_bytes()),
    );
    if rig.gpu.has_timestamps() {
        let times = pollster::block_on(job.executor.run_timed(&[]))?;
        text += &format!("\n{}", Profile::new(program, &[times]).table());
    }
    Ok(text)
}

fn steps(criterion: &mut Criterion) {
    let rig = Rig::get();
    let fail = |e: Box<dyn std::error::Error>| -> ! { panic!("not timed: {e}") };
    let ratio = beside_naive(rig, 16).unwrap_or_else(|e| fail(e));
    println!("{ratio:.1} times as fast as with naive convolutions, on 16^3");
    let mut group = criterion.benchmark_group("step");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    for (name, job) in [
        ("training 64^3", training(rig, rig.gpu.profile(), 64)),
        ("inference 64^3", inference(rig, 64)),
    ] {
        let job = job.unwrap_or_else(|e| fail(e));
        let mut ran = false;
        group.bench_function(name, |b| {
            ran = true;
            b.iter(|| job.run().unwrap_or_else(|e| fail(e)));
        });
        if ran {
            let best = job.best(3).unwrap_or_else(|e| fail(e));
            println!("{}", describe(rig, &job, best).unwrap_or_else(|e| fail(e)));
        }
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
