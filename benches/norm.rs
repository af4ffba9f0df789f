//! Instance norm with leaky ReLU, forward and backward: `cargo bench --bench norm`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::activation::Activation;
use voxseg::ops::norm::{NormParameters, instance_norm};
use voxseg::reference::Tolerance;
use voxseg::reference::activation::Function;
use voxseg::tensor::{HostTensor, Shape};

use common::{Case, truth};

const SLOPE: f32 = 0.01;

/// dgamma and dbeta alone: where they are right the statistics and the normalised values are.
fn expected(inputs: &[HostTensor<f64>]) -> Vec<HostTensor<f64>> {
    let [x, dy, gamma, beta] = inputs else {
        return Vec::new();
    };
    let slopes = vec![f64::from(SLOPE)];
    let found = truth::instance_norm([x, gamma, beta, dy], Function::Leaky, slopes);
    found.into_iter().skip(2).take(2).collect()
}

fn case(shape: Shape) -> Case {
    let tolerance = Tolerance::for_terms(shape.voxels());
    Case::new(shape.to_string(), tolerance, move |graph, feeds| {
        let x = feeds.tensor(graph, "x", truth::levels(shape))?;
        let dy = feeds.random(graph, "dy", shape)?;
        let parameters = NormParameters {
            gamma: feeds.tensor(graph, "gamma", truth::filled(shape.c(), 1.0))?,
            beta: feeds.tensor(graph, "beta", truth::filled(shape.c(), 0.0))?,
            slope: None,
        };
        let NormParameters { gamma, beta, .. } = parameters;
        let activation = Some(Activation::LeakyRelu { slope: SLOPE });
        let y = instance_norm(graph, x, parameters, truth::EPS, activation)?;
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
