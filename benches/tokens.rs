//! What networks of tokens are made of besides pointwise convolutions: attention, layer norm, layers along the last axis.
//! `cargo bench --bench tokens`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::attention::self_attention;
use voxseg::ops::matmul::linear_last;
use voxseg::ops::norm::layer_norm;
use voxseg::reference::activation::Function;
use voxseg::reference::norm::{self, Layer, Sets};
use voxseg::reference::{Tolerance, attention as reference};
use voxseg::tensor::{HostTensor, Shape};

use common::Case;

/// Features and heads of ViT-S.
const FEATURES: usize = 384;
const HEADS: usize = 6;

/// Forward and backward of one sample, beside the plain kernels.
fn attention_case(tokens: usize) -> Case {
    let shape = Shape::new(1, 3 * FEATURES, 1, 1, tokens);
    // Scores are sums of 64 products of numbers up to 1, over 8.
    let tolerance = Tolerance::for_terms(tokens + FEATURES).amplified(8.0);
    Case::new(
        format!("{tokens} tokens, {HEADS} heads of 64"),
        tolerance,
        move |graph, feeds| {
            let qkv = feeds.random(graph, "qkv", shape)?;
            let dy = feeds.random(graph, "dy", shape.with_c(FEATURES))?;
            let y = self_attention(graph, qkv, HEADS)?;
            Ok(vec![y, differentiate(graph, y, dy, &[qkv])?[&qkv]])
        },
    )
    .with_twin("attention", "naive")
    .with_reference(|inputs| {
        let [y, _] = reference::forward(&inputs[0], HEADS);
        vec![y, reference::backward(&inputs[0], HEADS, &inputs[1])]
    })
}

fn attention(criterion: &mut Criterion) {
    // The patches of an image of 224 x 224, and these with a class token, which fours do not divide.
    common::bench(criterion, "attention", [196, 197].map(attention_case));
}

/// Inputs x, dy, gamma and beta; results y, dx, dgamma and dbeta.
fn layer_norm_reference(inputs: &[HostTensor<f64>]) -> Vec<HostTensor<f64>> {
    let [x, dy] = [&inputs[0], &inputs[1]];
    let layer = Layer {
        gamma: inputs[2].data.clone(),
        beta: inputs[3].data.clone(),
        function: Function::Identity,
        slopes: vec![0.0],
    };
    let (mean, variance) = norm::statistics(x, Sets::PerVoxel);
    let rstd = norm::rstd(&variance, 1e-6);
    let y = layer.forward(x, Sets::PerVoxel, &mean, &rstd);
    let found = layer.backward(x, Sets::PerVoxel, (&mean, &rstd), dy, true);
    vec![y, found.dx, found.dgamma, found.dbeta]
}

fn layer_norms(criterion: &mut Criterion) {
    let case = |tokens: usize| {
        let shape = Shape::new(1, FEATURES, 1, 1, tokens);
        let name = format!("{tokens} tokens of {FEATURES} features");
        Case::new(name, Tolerance::for_terms(FEATURES), move |graph, feeds| {
            let [x, dy] = ["x", "dy"].map(|name| feeds.random(graph, name, shape));
            let [gamma, beta] =
                ["gamma", "beta"].map(|name| feeds.random(graph, name, Shape::vector(FEATURES)));
            let (x, dy, gamma, beta) = (x?, dy?, gamma?, beta?);
            let y = layer_norm(graph, x, gamma, beta, 1e-6)?;
            let wanted = [x, gamma, beta];
            let found = differentiate(graph, y, dy, &wanted)?;
            Ok(vec![y, found[&x], found[&gamma], found[&beta]])
        })
        .with_reference(layer_norm_reference)
    };
    common::bench(criterion, "layer norm", [196, 197].map(case));
}

fn mixing(criterion: &mut Criterion) {
    let (tokens, hidden) = (196, 192);
    let shape = Shape::new(1, FEATURES, 1, 1, tokens);
    let name = format!("{FEATURES} rows of {tokens} to {hidden}");
    let tolerance = Tolerance::for_terms(FEATURES);
    let case = Case::new(name, tolerance, move |graph, feeds| {
        let x = feeds.random(graph, "x", shape)?;
        let dy = feeds.random(graph, "dy", shape.with_spatial([1, 1, hidden]))?;
        let weight = feeds.random(graph, "weight", Shape::new(hidden, tokens, 1, 1, 1))?;
        let y = linear_last(graph, x, weight, None)?;
        let found = differentiate(graph, y, dy, &[x, weight])?;
        Ok(vec![y, found[&x], found[&weight]])
    })
    .with_twin("matmul", "naive");
    common::bench(criterion, "along the last axis", [case]);
}

criterion_group!(benches, attention, layer_norms, mixing);
criterion_main!(benches);
