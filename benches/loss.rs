//! Segmentation losses, value and gradient, on 4 classes of 64^3 voxels: `cargo bench --bench loss`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::loss::{LossAttributes, PixelLoss, segmentation_loss};
use voxseg::reference::Tolerance;
use voxseg::tensor::Shape;

use common::{Case, truth};

const SHAPE: Shape = Shape::new(1, 4, 64, 64, 64);

fn case((name, pixel, gamma): (&str, PixelLoss, f64)) -> Case {
    let tolerance = Tolerance::for_terms(SHAPE.voxels());
    Case::new(name, tolerance, move |graph, feeds| {
        let x = feeds.random(graph, "logits", SHAPE)?;
        let target = feeds.tensor(graph, "target", truth::labels(SHAPE))?;
        let seed = feeds.tensor(graph, "seed", truth::filled(1, 1.0))?;
        let attributes = LossAttributes {
            pixel: Some(pixel),
            ..LossAttributes::dice_ce()
        };
        let loss = segmentation_loss(graph, attributes, &[x, target])?.loss;
        differentiate(graph, loss, seed, &[x])?;
        Ok(vec![loss])
    })
    .with_reference(move |inputs| truth::segmentation_loss(&inputs[0], &inputs[1], gamma))
}

fn losses(criterion: &mut Criterion) {
    let cases = [
        ("dice + ce", PixelLoss::CrossEntropy, 0.0),
        ("dice + focal", PixelLoss::Focal { gamma: 2.0 }, 2.0),
    ];
    common::bench(criterion, "loss", cases.map(case));
}

criterion_group!(benches, losses);
criterion_main!(benches);
