//! What works on parameters: fully connected layers and the updates of the optimisers. `cargo bench --bench parameters`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::collections::BTreeMap;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::{Init, differentiate};
use voxseg::ops::matmul::linear;
use voxseg::optim::{OptimizerConfig, append_optimizer};
use voxseg::reference::{Tolerance, matmul as reference};
use voxseg::tensor::{HostTensor, Shape};

use common::Case;

/// Rows of x, columns of x, columns of y.
fn linear_case([samples, features, outputs]: [usize; 3]) -> Case {
    let name = format!("{samples} x {features} to {outputs}, forward and backward");
    let tolerance = Tolerance::for_terms(samples.max(features).max(outputs));
    Case::new(name, tolerance, move |graph, feeds| {
        let matrix = |rows, columns| Shape::new(rows, columns, 1, 1, 1);
        let x = feeds.random(graph, "x", matrix(samples, features))?;
        let w = feeds.random(graph, "w", matrix(outputs, features))?;
        let dy = feeds.random(graph, "dy", matrix(samples, outputs))?;
        let y = linear(graph, x, w, None)?;
        let gradients = differentiate(graph, y, dy, &[x, w])?;
        Ok(vec![y, gradients[&x], gradients[&w]])
    })
    .with_twin("matmul", "naive")
    .with_reference(|inputs| {
        let [x, w, dy] = inputs else {
            return Vec::new();
        };
        let [dx, dw, _] = reference::linear_backward(x, w, dy);
        vec![reference::linear(x, w, None), dx, dw]
    })
}

fn matmul(criterion: &mut Criterion) {
    let extents = [[64, 1024, 256], [2, 320, 80]];
    common::bench(criterion, "matmul", extents.map(linear_case));
}

/// As many as PlainConvUNet 16-32-64-128 has, in one tensor.
const PARAMETERS: Shape = Shape::vector(1_402_412);
const RATE: f64 = 0.01;
const DECAY: f64 = 1e-4;
const MOMENTUM: f64 = 0.9;
const EPSILON: f64 = 1e-8;

const SGD: OptimizerConfig = OptimizerConfig::Sgd {
    momentum: MOMENTUM as f32,
    nesterov: true,
    weight_decay: DECAY as f32,
    max_norm: None,
};

const ADAMW: OptimizerConfig = OptimizerConfig::AdamW {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: EPSILON as f32,
    weight_decay: DECAY as f32,
    max_norm: None,
};

/// Name, optimiser, and a parameter of 1 after its first step as a function of its gradient.
type Update = (&'static str, OptimizerConfig, fn(f64) -> f64);

fn step_case((name, config, update): Update) -> Case {
    // AdamW's quotient of two moments errs by several roundings, a hundredth of which reaches the parameter.
    Case::new(name, Tolerance::for_terms(4), move |graph, feeds| {
        let p = graph.parameter("p", PARAMETERS, Init::Constant(1.0))?;
        let gradient = feeds.random(graph, "gradient", PARAMETERS)?;
        let gradients = BTreeMap::from([(p, gradient)]);
        let optimizer = append_optimizer(graph, &gradients, &config)?;
        let hyper = config.hyper(RATE, 0).to_vec();
        feeds.hold(graph, optimizer.hyper, hyper);
        Ok(vec![p])
    })
    .with_reference(move |inputs| {
        vec![HostTensor {
            shape: PARAMETERS,
            data: inputs[0].data.iter().map(|&g| update(g)).collect(),
        }]
    })
}

fn optimizers(criterion: &mut Criterion) {
    let cases: [Update; 2] = [
        ("SGD with Nesterov momentum", SGD, |g| {
            let velocity = g + DECAY;
            1.0 - RATE * (1.0 + MOMENTUM) * velocity
        }),
        ("AdamW", ADAMW, |g| {
            // Both moments are corrected to g and g^2 in the first step.
            1.0 - RATE * DECAY - RATE * g / (g.abs() + EPSILON)
        }),
    ];
    common::bench(criterion, "optim", cases.map(step_case));
}

criterion_group!(benches, matmul, optimizers);
criterion_main!(benches);
