//! A network of one's own: blocks of `voxseg::nn`, and a block written here, trained on random tensors.
//!
//! `cargo run --release --example custom_network -- [STEPS]`
//!
//! The network is a residual block, a squeeze-and-excitation block (Hu et al. 2018) that the library does not have, and a
//! 1x1x1 convolution. It learns to mark the voxels whose blurred neighbourhood is bright.

use std::error::Error;
use std::process::ExitCode;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::graph::{
    Executor, Graph, GraphError, Init, Parameters, Program, ProgramOptions, differentiate,
};
use voxseg::losses::{LossConfig, Truth, supervised_loss};
use voxseg::nn::{ConvBlock, Mode, Nonlinearity, Norm, Padding, conv_layer, residual_block};
use voxseg::ops::activation::{Activation, activate};
use voxseg::ops::elementwise::scale_channels;
use voxseg::ops::matmul::linear;
use voxseg::ops::pool::global_avg_pool;
use voxseg::ops::{Build, ValueId};
use voxseg::optim::{OptimizerConfig, append_optimizer};
use voxseg::tensor::Shape;

/// (N, C, D, H, W)
const PATCH: Shape = Shape::new(2, 1, 16, 16, 16);
const FEATURES: usize = 8;
const CLASSES: usize = 2;

/// Squeeze and excitation: channels of x (N, C, D, H, W) are scaled by sigmoid(W2 relu(W1 mean(x))).
fn squeeze_and_excite(
    graph: &mut Graph,
    x: ValueId,
    reduction: usize,
) -> Result<ValueId, GraphError> {
    let channels = graph.shape(x).c();
    let squeezed = channels / reduction;
    let dense = |graph: &mut Graph, name: &str, x, from, to| {
        let init = Init::KaimingNormal { a: 0.0 };
        let weight = graph.parameter(name, Shape::new(to, from, 1, 1, 1), init)?;
        linear(graph, x, weight, None).map_err(|e| graph.blame(e))
    };
    let mean = global_avg_pool(graph, x).map_err(|e| graph.blame(e))?;
    let narrow = dense(graph, "squeeze", mean, channels, squeezed)?;
    let narrow = activate(graph, narrow, Activation::Relu).map_err(|e| graph.blame(e))?;
    let wide = dense(graph, "excite", narrow, squeezed, channels)?;
    let scale = activate(graph, wide, Activation::Sigmoid).map_err(|e| graph.blame(e))?;
    scale_channels(graph, x, scale).map_err(|e| graph.blame(e))
}

/// Image (N, 1, D, H, W) to logits (N, CLASSES, D, H, W).
fn network(graph: &mut Graph, image: ValueId) -> Result<ValueId, GraphError> {
    let block = ConvBlock {
        kernel: [3; 3],
        stride: [1; 3],
        padding: Padding::Same,
        bias: true,
        dropout: None,
        norm: Norm::default(),
        nonlinearity: Some(Nonlinearity::LeakyRelu { slope: 0.01 }),
    };
    // Scopes name the parameters: `body.conv1.conv.weight`.
    let x = graph.scope("body", |g| {
        residual_block(g, image, FEATURES, block, [1; 3], Mode::Training)
    })?;
    let x = graph.scope("attention", |g| squeeze_and_excite(g, x, 2))?;
    graph.scope("head", |g| {
        conv_layer(g, x, CLASSES, [1; 3], [1; 3], Padding::Same, true)
    })
}

/// Random voxels, and the label 1 where the mean of a voxel and its two neighbours in the row lies above 0.
fn draw(rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<f32>) {
    let image: Vec<f32> = (0..PATCH.len())
        .map(|_| rng.random_range(-1.0..=1.0))
        .collect();
    let width = PATCH.spatial()[2];
    let bright = |i: usize| {
        let row = &image[i / width * width..][..width];
        let x = i % width;
        let sum: f32 = row[x.saturating_sub(1)..(x + 2).min(width)].iter().sum();
        f32::from(sum > 0.0)
    };
    let labels = (0..PATCH.len()).map(bright).collect();
    (image, labels)
}

fn train(steps: u64) -> Result<(), Box<dyn Error>> {
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default()))?;
    println!("{}", gpu.describe());

    // One static graph holds the network, the loss, every gradient and the optimiser.
    let mut graph = Graph::new();
    let image = graph.input("image", PATCH)?;
    let target = graph.input("target", PATCH)?;
    let head_weights = graph.input("head weights", Shape::vector(1))?;
    let seed = graph.input("dL/dL", Shape::scalar())?;
    let logits = network(&mut graph, image)?;
    let truth = Truth::labels(target);
    let config = LossConfig::default();
    let loss = supervised_loss(&mut graph, &[logits], &truth, head_weights, &config)?.total;
    let parameters = graph.trainable();
    let gradients = differentiate(&mut graph, loss, seed, &parameters)?;
    let sgd = OptimizerConfig::Sgd {
        momentum: 0.9,
        nesterov: true,
        weight_decay: 0.0,
        max_norm: Some(12.0),
    };
    let optimizer = append_optimizer(&mut graph, &gradients, &sgd)?;
    println!("{} parameters", graph.parameter_count());

    let program = Program::compile(graph, &[loss], gpu.profile(), ProgramOptions::default())?;
    println!("{} bytes on the device", program.total_bytes());
    let executor = Executor::new(program, &mut Parameters::new(gpu, 0))?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for step in 0..steps {
        let (voxels, labels) = draw(&mut rng);
        let hyper = sgd.hyper(0.05, step);
        let feeds: [(ValueId, &[f32]); 5] = [
            (image, &voxels),
            (target, &labels),
            (head_weights, &[1.0]),
            (seed, &[1.0]),
            (optimizer.hyper, &hyper),
        ];
        let outputs = pollster::block_on(async {
            executor.run(&feeds).await?;
            executor.fetch().await
        })?;
        if let Some(outputs) = outputs {
            println!("step {:3}: loss {:.4}", step + 1, outputs[0].data[0]);
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let steps = match &arguments[..] {
        [] => Ok(30),
        [steps] => steps.parse(),
        _ => return usage(),
    };
    let Ok(steps) = steps else { return usage() };
    match train(steps) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: custom_network [STEPS]");
    ExitCode::from(2)
}
