//! Instance norm with leaky ReLU, forward and backward: `cargo bench --bench norm`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::activation::Activation;
use voxseg::ops::norm::{NormParameters, instance_norm};
use voxseg::reference::Tolerance;
use voxseg::reference::activation::Function;
use voxseg::reference::norm::{Layer, Sets, rstd, statistics};
use voxseg::tensor::{HostTensor, Shape};

use common::Case;

const EPS: f32 = 1e-5;
const SLOPE: f32 = 0.01;

/// Levels -7.5, -6.5, ..., 7.5 in a scattered order: none is normalised to nearly 0, where rounding would decide on which
/// side of the leaky ReLU's corner a voxel lies.
fn levels(shape: Shape) -> HostTensor {
    HostTensor {
        shape,
        data: (0..shape.len())
            .map(|i| (i * 7919 / 13 % 16) as f32 - 7.5)
            .collect(),
    }
}

fn filled(channels: usize, value: f32) -> HostTensor {
    HostTensor {
        shape: Shape::vector(channels),
        data: vec![value; channels],
    }
}

/// dgamma and dbeta alone: where they are right the statistics and the normalised values are.
fn expected(inputs: &[HostTensor<f64>]) -> Vec<HostTensor<f64>> {
    let [x, dy, gamma, beta] = inputs else {
        return Vec::new();
    };
    let sets = Sets::PerSample {
        groups: x.shape.c(),
    };
    let (mean, variance) = statistics(x, sets);
    let layer = Layer {
        gamma: gamma.data.clone(),
        beta: beta.data.clone(),
        function: Function::Leaky,
        slopes: vec![f64::from(SLOPE)],
    };
    let rstd = rstd(&variance, f64::from(EPS));
    let gradients = layer.backward(x, sets, (&mean, &rstd), dy, true);
    vec![gradients.dgamma, gradients.dbeta]
}

fn case(shape: Shape) -> Case {
    let tolerance = Tolerance::for_terms(shape.voxels());
    Case::new(shape.to_string(), tolerance, move |graph, feeds| {
        let x = feeds.tensor(graph, "x", levels(shape))?;
        let dy = feeds.random(graph, "dy", shape)?;
        let parameters = NormParameters {
            gamma: feeds.tensor(graph, "gamma", filled(shape.c(), 1.0))?,
            beta: feeds.tensor(graph, "beta", filled(shape.c(), 0.0))?,
            slope: None,
        };
        let NormParameters { gamma, beta, .. } = parameters;
        let activation = Some(Activation::LeakyRelu { slope: SLOPE });
        let y = instance_norm(graph, x, parameters, EPS, activation)?;
        let gradients = differentiate(graph, y, dy, &[x, gamma, beta])?;
        Ok(vec![gradients[&gamma], gradients[&beta]])
    })
    .with_reference(expected)
}

fn norms(criterion: &mut Criterion) {
    let shapes = [
        Shape::new(1, 32, 64, 64, 64),
        Shape::new(1, 32, 63, 63, 63),
        Shape::new(2, 320, 4, 4, 4),
    ];
    common::bench(criterion, "norm", shapes.map(case));
}

criterion_group!(benches, norms);
criterion_main!(benches);
