//! What reads a voxel and writes a voxel: activations, sums and products, softmax, dropout. `cargo bench --bench pointwise`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::activation::{Activation, activate};
use voxseg::ops::dropout::{Dropout, DropoutUnit, dropout};
use voxseg::ops::elementwise::{add, multiply, scale_channels};
use voxseg::ops::softmax::softmax;
use voxseg::reference::activation::{self, Function};
use voxseg::reference::{
    Tolerance, dropout as dropout_reference, elementwise, softmax as softmax_reference,
};
use voxseg::tensor::Shape;

use common::Case;

const SHAPE: Shape = Shape::new(1, 32, 32, 32, 32);
const CLASSES: Shape = Shape::new(1, 4, 64, 64, 64);
const SLOPE: f32 = 0.01;

/// Forward and backward. A sigmoid errs by a few times the epsilon of a product.
fn activation_case((name, op, function): (&str, Activation, Function)) -> Case {
    Case::new(
        name,
        Tolerance::for_terms(2).amplified(4.0),
        move |graph, feeds| {
            let (x, dy) = (
                feeds.random(graph, "x", SHAPE)?,
                feeds.random(graph, "dy", SHAPE)?,
            );
            let y = activate(graph, x, op)?;
            Ok(vec![y, differentiate(graph, y, dy, &[x])?[&x]])
        },
    )
    .with_reference(move |inputs| {
        let slopes = [f64::from(SLOPE)];
        let dx = activation::backward(function, &inputs[0], &slopes, &inputs[1]).0;
        vec![activation::forward(function, &inputs[0], &slopes), dx]
    })
}

fn activations(criterion: &mut Criterion) {
    let leaky = Activation::LeakyRelu { slope: SLOPE };
    let cases = [
        ("leaky ReLU", leaky, Function::Leaky),
        ("h-swish", Activation::HardSwish, Function::HardSwish),
        ("sigmoid", Activation::Sigmoid, Function::Sigmoid),
    ];
    common::bench(criterion, "activation", cases.map(activation_case));
}

fn elementwise(criterion: &mut Criterion) {
    let exact = Tolerance::for_terms(1);
    let sum = Case::new("a + b", exact, |graph, feeds| {
        let (a, b) = (
            feeds.random(graph, "a", SHAPE)?,
            feeds.random(graph, "b", SHAPE)?,
        );
        Ok(vec![add(graph, a, b)?])
    })
    .with_reference(|inputs| vec![elementwise::add(&inputs[0], &inputs[1])]);
    let product = Case::new("a * b", exact, |graph, feeds| {
        let (a, b) = (
            feeds.random(graph, "a", SHAPE)?,
            feeds.random(graph, "b", SHAPE)?,
        );
        Ok(vec![multiply(graph, a, b)?])
    })
    .with_reference(|inputs| vec![elementwise::multiply(&inputs[0], &inputs[1])]);
    let scaled = Case::new("a * one number a channel", exact, |graph, feeds| {
        let a = feeds.random(graph, "a", SHAPE)?;
        let scale = feeds.random(graph, "scale", SHAPE.with_spatial([1; 3]))?;
        Ok(vec![scale_channels(graph, a, scale)?])
    })
    .with_reference(|inputs| vec![elementwise::scale_channels(&inputs[0], &inputs[1])]);
    common::bench(criterion, "elementwise", [sum, product, scaled]);
}

fn probabilities(criterion: &mut Criterion) {
    // exp(d) errs by |d| roundings of its argument; logits here differ by up to 2.
    let tolerance = Tolerance::for_terms(CLASSES.c()).amplified(2.0);
    let case = Case::new(
        "4 classes, forward and backward",
        tolerance,
        |graph, feeds| {
            let (x, dy) = (
                feeds.random(graph, "x", CLASSES)?,
                feeds.random(graph, "dy", CLASSES)?,
            );
            let y = softmax(graph, x)?;
            Ok(vec![y, differentiate(graph, y, dy, &[x])?[&x]])
        },
    )
    .with_reference(|inputs| {
        let y = softmax_reference::forward(&inputs[0]);
        let dx = softmax_reference::backward(&y, &inputs[1]);
        vec![y, dx]
    });
    common::bench(criterion, "softmax", [case]);
}

fn random_masks(criterion: &mut Criterion) {
    const P: f32 = 0.2;
    const SALT: u32 = 7;
    let case = |(name, unit, elements): (&str, DropoutUnit, usize)| {
        Case::new(name, Tolerance::for_terms(2), move |graph, feeds| {
            let x = feeds.random(graph, "x", SHAPE)?;
            let seed = feeds.random(graph, "seed", Shape::scalar())?;
            let op = Dropout {
                p: P,
                unit,
                salt: SALT,
            };
            Ok(vec![dropout(graph, x, seed, op)?])
        })
        .with_reference(move |inputs| {
            let seed = (inputs[1].data[0] as f32).to_bits();
            vec![dropout_reference::apply(
                &inputs[0],
                f64::from(P),
                elements,
                [seed, SALT],
            )]
        })
    };
    let cases = [
        ("of elements", DropoutUnit::Element, 1),
        ("of channels", DropoutUnit::Channel, SHAPE.voxels()),
    ];
    common::bench(criterion, "dropout", cases.map(case));
}

criterion_group!(
    benches,
    activations,
    elementwise,
    probabilities,
    random_masks
);
criterion_main!(benches);
