//! A loss of one's own out of operators: a Brier score that counts voxels near the boundary more, plus Tversky overlap.
//!
//! `cargo run --release --example custom_loss -- [STEPS]`
//!
//! L = 1/(C V) sum_c sum_v w_v (p_cv - g_cv)^2 + 1/2 L_Tversky, with p = softmax(logits), g the one-hot truth, w_v the
//! weight of voxel v. `differentiate` finds its gradient; a central difference confirms it; gradient descent on the
//! logits themselves brings it down.

use std::error::Error;
use std::process::ExitCode;

use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::graph::{Executor, Graph, Init, Parameters, Program, ProgramOptions, differentiate};
use voxseg::ops::elementwise::{add, multiply};
use voxseg::ops::loss::{LossAttributes, RegionLoss, segmentation_loss, weighted_sum};
use voxseg::ops::pool::global_avg_pool;
use voxseg::ops::softmax::softmax;
use voxseg::ops::{OpError, ValueId};
use voxseg::optim::{OptimizerConfig, append_optimizer};
use voxseg::tensor::Shape;

const EDGE: usize = 24;
/// Logits: one sample, two classes.
const LOGITS: Shape = Shape::new(1, 2, EDGE, EDGE, EDGE);

/// What the loss compares the logits with; all are graph inputs.
struct Truth {
    /// Class indices (N, 1, D, H, W).
    labels: ValueId,
    /// Minus the one-hot truth (N, C, D, H, W), so that an addition subtracts it.
    minus_one_hot: ValueId,
    /// Weight of each voxel, the same for each class (N, C, D, H, W).
    weights: ValueId,
    /// 1/C for each class.
    class_share: ValueId,
    /// Weight of the two terms.
    terms: ValueId,
}

impl Truth {
    fn inputs(graph: &mut Graph) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            labels: graph.input("labels", LOGITS.with_c(1))?,
            minus_one_hot: graph.input("minus one-hot", LOGITS)?,
            weights: graph.input("voxel weights", LOGITS)?,
            class_share: graph.input("class share", Shape::vector(LOGITS.c()))?,
            terms: graph.input("terms", Shape::vector(2))?,
        })
    }
}

/// The loss, a scalar.
fn boundary_loss(graph: &mut Graph, logits: ValueId, truth: &Truth) -> Result<ValueId, OpError> {
    let p = softmax(graph, logits)?;
    let error = add(graph, p, truth.minus_one_hot)?;
    let weighted = multiply(graph, error, truth.weights)?;
    let squares = multiply(graph, weighted, error)?;
    let by_class = global_avg_pool(graph, squares)?;
    let brier = weighted_sum(graph, &[by_class], truth.class_share)?;
    let tversky = LossAttributes {
        pixel: None,
        region: Some(RegionLoss::Tversky {
            alpha: 0.3,
            beta: 0.7,
            smooth: 1e-5,
        }),
        ..LossAttributes::dice_ce()
    };
    let overlap = segmentation_loss(graph, tversky, &[logits, truth.labels])?.loss;
    weighted_sum(graph, &[brier, overlap], truth.terms)
}

/// Distance in voxels of each voxel from the surface of a ball in the middle; below 0 inside.
fn distances() -> Vec<f32> {
    let middle = (EDGE as f32 - 1.0) / 2.0;
    (0..EDGE * EDGE * EDGE)
        .map(|i| {
            let place = [i / (EDGE * EDGE), i / EDGE % EDGE, i % EDGE];
            let square: f32 = place.iter().map(|&p| (p as f32 - middle).powi(2)).sum();
            square.sqrt() - EDGE as f32 / 4.0
        })
        .collect()
}

/// The values of the graph's inputs.
fn feeds(truth: &Truth) -> Vec<(ValueId, Vec<f32>)> {
    let distances = distances();
    let labels: Vec<f32> = distances.iter().map(|&d| f32::from(d < 0.0)).collect();
    let one_hot =
        (0..LOGITS.c()).flat_map(|c| labels.iter().map(move |&l| f32::from(l == c as f32)));
    let weight = |d: &f32| 1.0 + 4.0 * (-d * d / 2.0).exp();
    let weights = (0..LOGITS.c()).flat_map(|_| distances.iter().map(weight));
    vec![
        (truth.minus_one_hot, one_hot.map(|g| -g).collect()),
        (truth.weights, weights.collect()),
        (truth.class_share, vec![1.0 / LOGITS.c() as f32; LOGITS.c()]),
        (truth.terms, vec![1.0, 0.5]),
        (truth.labels, labels),
    ]
}

/// One run; the outputs that the program was compiled for.
fn run(
    executor: &Executor,
    feeds: &[(ValueId, Vec<f32>)],
) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let views: Vec<(ValueId, &[f32])> = feeds.iter().map(|(id, d)| (*id, &d[..])).collect();
    let outputs = pollster::block_on(async {
        executor.run(&views).await?;
        executor.fetch().await
    })?;
    let outputs = outputs.ok_or("the run gave no outputs")?;
    Ok(outputs.into_iter().map(|t| t.data).collect())
}

/// Compares the gradient with a central difference along the gradient itself: (L(x + hu) - L(x - hu)) / 2h = |dL/dx|, u
/// its direction.
fn check_gradient(gpu: &std::sync::Arc<Gpu>) -> Result<(), Box<dyn Error>> {
    let mut graph = Graph::new();
    let logits = graph.input("logits", LOGITS)?;
    let truth = Truth::inputs(&mut graph)?;
    let seed = graph.input("dL/dL", Shape::scalar())?;
    let loss = boundary_loss(&mut graph, logits, &truth)?;
    let gradient = differentiate(&mut graph, loss, seed, &[logits])?[&logits];
    let outputs = [loss, gradient];
    let program = Program::compile(graph, &outputs, gpu.profile(), ProgramOptions::default())?;
    let executor = Executor::new(program, &mut Parameters::new(gpu.clone(), 0))?;

    let start: Vec<f32> = (0..LOGITS.len()).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut inputs = feeds(&truth);
    inputs.push((seed, vec![1.0]));
    inputs.push((logits, start.clone()));
    let gradient = run(&executor, &inputs)?.remove(1);
    let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();

    const STEP: f32 = 1.0;
    let mut loss_at = |h: f32| -> Result<f32, Box<dyn Error>> {
        let moved = start.iter().zip(&gradient).map(|(x, g)| x + h * g / norm);
        if let Some(last) = inputs.last_mut() {
            last.1 = moved.collect();
        }
        Ok(run(&executor, &inputs)?[0][0])
    };
    let slope = (loss_at(STEP)? - loss_at(-STEP)?) / (2.0 * STEP);
    println!("norm of the gradient {norm:.6}, by central difference {slope:.6}");
    Ok(())
}

/// Gradient descent on the logits.
fn descend(gpu: &std::sync::Arc<Gpu>, steps: u64) -> Result<(), Box<dyn Error>> {
    let mut graph = Graph::new();
    let logits = graph.parameter("logits", LOGITS, Init::Normal { std: 1.0 })?;
    let truth = Truth::inputs(&mut graph)?;
    let seed = graph.input("dL/dL", Shape::scalar())?;
    let loss = boundary_loss(&mut graph, logits, &truth)?;
    let gradients = differentiate(&mut graph, loss, seed, &[logits])?;
    let adamw = OptimizerConfig::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        max_norm: None,
    };
    let optimizer = append_optimizer(&mut graph, &gradients, &adamw)?;
    let program = Program::compile(graph, &[loss], gpu.profile(), ProgramOptions::default())?;
    let executor = Executor::new(program, &mut Parameters::new(gpu.clone(), 0))?;
    let mut inputs = feeds(&truth);
    inputs.push((seed, vec![1.0]));
    for step in 0..steps {
        let hyper = adamw.hyper(0.1, step);
        inputs.push((optimizer.hyper, hyper.to_vec()));
        let loss = run(&executor, &inputs)?[0][0];
        // What is not fed again keeps its value, so later steps send the changing numbers alone.
        inputs.clear();
        println!("step {:3}: loss {loss:.5}", step + 1);
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let steps = match &arguments[..] {
        [] => Ok(20),
        [steps] => steps.parse(),
        _ => return usage(),
    };
    let Ok(steps) = steps else { return usage() };
    let result = pollster::block_on(Gpu::open(&GpuOptions::default()))
        .map_err(Into::into)
        .and_then(|gpu| {
            println!("{}", gpu.describe());
            check_gradient(&gpu)?;
            descend(&gpu, steps)
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: custom_loss [STEPS]");
    ExitCode::from(2)
}
