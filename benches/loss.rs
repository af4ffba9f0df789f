//! Segmentation losses, value and gradient, on 4 classes of 64^3 voxels: `cargo bench --bench loss`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::loss::{LossAttributes, PixelLoss, segmentation_loss};
use voxseg::reference::{Tolerance, loss as reference};
use voxseg::tensor::{HostTensor, Shape};

use common::Case;

const SHAPE: Shape = Shape::new(1, 4, 64, 64, 64);

/// Cross-entropy or focal, plus soft Dice without background.
fn expected(inputs: &[HostTensor<f64>], gamma: f64) -> Vec<HostTensor<f64>> {
    let (x, labels) = (&inputs[0], &inputs[1]);
    let (g, mask) = reference::one_hot(labels, SHAPE.c(), None);
    let voxels = SHAPE.voxels() as f64;
    let pixel = reference::softmax_pixel_loss(x, &g, &mask, gamma, voxels).loss;
    let sums = reference::overlap_sums(&reference::softmax(x), &g, &mask, 1);
    let scores = reference::dice_scores(&sums[0][1..], 1e-5);
    let dice = scores.iter().map(|s| s.value).sum::<f64>() / scores.len() as f64;
    vec![HostTensor {
        shape: Shape::scalar(),
        data: vec![pixel - dice],
    }]
}

fn case((name, pixel, gamma): (&str, PixelLoss, f64)) -> Case {
    let tolerance = Tolerance::for_terms(SHAPE.voxels());
    Case::new(name, tolerance, move |graph, feeds| {
        let x = feeds.random(graph, "logits", SHAPE)?;
        let labels = HostTensor {
            shape: SHAPE.with_c(1),
            data: (0..SHAPE.voxels())
                .map(|i| (i * 7919 / 13 % 4) as f32)
                .collect(),
        };
        let target = feeds.tensor(graph, "target", labels)?;
        let one = HostTensor {
            shape: Shape::scalar(),
            data: vec![1.0],
        };
        let seed = feeds.tensor(graph, "seed", one)?;
        let attributes = LossAttributes {
            pixel: Some(pixel),
            ..LossAttributes::dice_ce()
        };
        let loss = segmentation_loss(graph, attributes, &[x, target])?.loss;
        differentiate(graph, loss, seed, &[x])?;
        Ok(vec![loss])
    })
    .with_reference(move |inputs| expected(inputs, gamma))
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
