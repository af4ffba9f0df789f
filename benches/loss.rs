//! Segmentation losses, value and gradient, on 4 classes of 64^3 voxels; refuses to time what differs from the reference.

use criterion::{Criterion, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, differentiate};
use voxseg::ops::loss::{LossAttributes, PixelLoss, segmentation_loss};
use voxseg::reference::loss as reference;
use voxseg::tensor::{HostTensor, Shape};

const SHAPE: Shape = Shape::new(1, 4, 64, 64, 64);

fn tensor(shape: Shape, draw: impl FnMut(&mut ChaCha8Rng) -> f32) -> HostTensor {
    let mut rng = ChaCha8Rng::seed_from_u64(shape.c() as u64);
    let mut draw = draw;
    HostTensor {
        shape,
        data: (0..shape.len()).map(|_| draw(&mut rng)).collect(),
    }
}

/// Cross-entropy or focal, plus soft Dice without background.
fn expected(x: &HostTensor, labels: &HostTensor, gamma: f64) -> f64 {
    let x = x.to_f64();
    let (g, mask) = reference::one_hot(&labels.to_f64(), SHAPE.c(), None);
    let voxels = SHAPE.voxels() as f64;
    let pixel = reference::softmax_pixel_loss(&x, &g, &mask, gamma, voxels).loss;
    let sums = reference::overlap_sums(&reference::softmax(&x), &g, &mask, 1);
    let scores = reference::dice_scores(&sums[0][1..], 1e-5);
    pixel - scores.iter().map(|s| s.value).sum::<f64>() / scores.len() as f64
}

fn losses(criterion: &mut Criterion) {
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let logits = tensor(SHAPE, |rng| rng.random_range(-4.0..4.0));
    let labels = tensor(SHAPE.with_c(1), |rng| rng.random_range(0..4) as f32);
    let focal = PixelLoss::Focal { gamma: 2.0 };
    for (name, pixel, gamma) in [
        ("dice + ce", PixelLoss::CrossEntropy, 0.0),
        ("dice + focal", focal, 2.0),
    ] {
        let mut graph = Graph::new();
        let x = graph.input("logits", SHAPE).expect("a new name");
        let target = graph.input("target", labels.shape).expect("a new name");
        let seed = graph.input("seed", Shape::scalar()).expect("a new name");
        let attributes = LossAttributes {
            pixel: Some(pixel),
            ..LossAttributes::dice_ce()
        };
        let loss = segmentation_loss(&mut graph, attributes, &[x, target])
            .expect("fits")
            .loss;
        differentiate(&mut graph, loss, seed, &[x]).expect("has a gradient");
        let options = ProgramOptions::default();
        let program = Program::compile(graph, &[loss], gpu.profile(), options).expect("compiles");
        let mut parameters = Parameters::new(gpu.clone(), 0);
        let executor = Executor::new(program, &mut parameters).expect("fits the device");
        let step = |data: &[_]| {
            pollster::block_on(async {
                executor.run(data).await.expect("runs");
                executor
                    .fetch()
                    .await
                    .expect("reads")
                    .expect("a run is open")[0]
                    .data[0]
            })
        };
        let inputs = [
            (x, logits.data.as_slice()),
            (target, labels.data.as_slice()),
            (seed, &[1.0]),
        ];
        let found = f64::from(step(&inputs));
        let truth = expected(&logits, &labels, gamma);
        assert!((found - truth).abs() < 1e-5, "{name}: {found}, not {truth}");
        criterion.bench_function(name, |b| b.iter(|| step(&[])));
    }
}

criterion_group!(benches, losses);
criterion_main!(benches);
