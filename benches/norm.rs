//! Instance norm with leaky ReLU, forward and backward, on the default adapter: `cargo bench --bench norm`.
//!
//! Each case is compared with the f64 reference before it is timed.

use criterion::{Criterion, criterion_group, criterion_main};
use pollster::block_on;
use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, differentiate};
use voxseg::ops::activation::Activation;
use voxseg::ops::norm::{NormParameters, instance_norm};
use voxseg::reference::Tolerance;
use voxseg::reference::activation::Function;
use voxseg::reference::norm::{Layer, Sets, rstd, statistics};
use voxseg::tensor::{HostTensor, Shape};

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

fn wave(shape: Shape) -> HostTensor {
    HostTensor {
        shape,
        data: (0..shape.len()).map(|i| (i as f32 * 0.53).sin()).collect(),
    }
}

/// Runs the layer and gives the gradients of gamma and beta alone, so that the copy to the host is not timed.
fn record(gpu: &std::sync::Arc<Gpu>, x: &HostTensor, dy: &HostTensor) -> Executor {
    let (mut graph, vector) = (Graph::new(), Shape::vector(x.shape.c()));
    let [xi, dyi] = ["x", "dy"].map(|name| graph.input(name, x.shape).expect(name));
    let [gamma, beta] = ["gamma", "beta"].map(|name| graph.input(name, vector).expect(name));
    let parameters = NormParameters {
        gamma,
        beta,
        slope: None,
    };
    let activation = Some(Activation::LeakyRelu { slope: SLOPE });
    let y = instance_norm(&mut graph, xi, parameters, EPS, activation).expect("norm");
    let grads = differentiate(&mut graph, y, dyi, &[xi, gamma, beta]).expect("gradient");
    let outputs = [grads[&gamma], grads[&beta]];
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &outputs, gpu.profile(), options).expect("program");
    let executor = Executor::new(program, &mut Parameters::new(gpu.clone(), 0)).expect("memory");
    let (ones, zeros) = (vec![1.0; x.shape.c()], vec![0.0; x.shape.c()]);
    let data: [(_, &[f32]); 4] = [
        (xi, &x.data),
        (dyi, &dy.data),
        (gamma, &ones),
        (beta, &zeros),
    ];
    block_on(executor.run(&data)).expect("run");
    executor
}

fn verify(executor: &Executor, x: &HostTensor, dy: &HostTensor) {
    let found = block_on(executor.fetch()).expect("fetch").expect("a run");
    let (x, dy, c) = (x.to_f64(), dy.to_f64(), x.shape.c());
    let sets = Sets::PerSample { groups: c };
    let (mean, variance) = statistics(&x, sets);
    let layer = Layer {
        gamma: vec![1.0; c],
        beta: vec![0.0; c],
        function: Function::Leaky,
        slopes: vec![f64::from(SLOPE)],
    };
    let rstd = rstd(&variance, f64::from(EPS));
    let expected = layer.backward(&x, sets, (&mean, &rstd), &dy, true);
    let tolerance = Tolerance::for_terms(x.shape.voxels());
    for (found, expected) in found.iter().zip([&expected.dgamma, &expected.dbeta]) {
        if let Err(text) = tolerance.compare("not timed, for it is wrong", found, expected) {
            panic!("{text}");
        }
    }
}

fn norm(criterion: &mut Criterion) {
    let gpu = match block_on(Gpu::open(&GpuOptions::default())) {
        Ok(gpu) => gpu,
        Err(error) => panic!("{error}"),
    };
    println!("{}", gpu.describe());
    let mut group = criterion.benchmark_group("norm");
    group.sample_size(10);
    for shape in [
        Shape::new(1, 32, 64, 64, 64),
        Shape::new(1, 32, 63, 63, 63),
        Shape::new(2, 320, 4, 4, 4),
    ] {
        let (x, dy) = (levels(shape), wave(shape));
        let executor = record(&gpu, &x, &dy);
        verify(&executor, &x, &dy);
        group.bench_function(shape.to_string(), |b| {
            b.iter(|| {
                block_on(executor.run(&[])).expect("run");
                block_on(executor.fetch()).expect("fetch")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, norm);
criterion_main!(benches);
