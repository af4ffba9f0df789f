//! GFLOP/s of convolution in its three directions, by the kernels that the device would choose.
//!
//! `cargo bench --bench conv -- "32->32"`. Each case is first compared with the naive kernels on the same data; one that
//! differs is not timed. Times are the device's own, summed over all dispatches of the operator (packing and padding
//! included).

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::gpu::{DeviceProfile, Gpu, GpuOptions};
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions};
use voxseg::ops::ValueId;
use voxseg::ops::conv::{ConvAttributes, Direction, conv, conv_input_grad, conv_weight_grad};
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};

struct Case {
    name: &'static str,
    attributes: ConvAttributes,
    x: Shape,
    channels_out: usize,
}

fn cases() -> Vec<Case> {
    let same = ConvAttributes::same;
    let halving = ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]);
    let case = |name, attributes, c_in, channels_out, [d, h, w]: [usize; 3]| Case {
        name,
        attributes,
        x: Shape::new(1, c_in, d, h, w),
        channels_out,
    };
    vec![
        case("3x3x3 32->32 32^3", same([3, 3, 3]), 32, 32, [32; 3]),
        case("3x3x3 1->32 32^3", same([3, 3, 3]), 1, 32, [32; 3]),
        case("3x3x3 64->64 16^3", same([3, 3, 3]), 64, 64, [16; 3]),
        case("3x3x3 128->128 6^3", same([3, 3, 3]), 128, 128, [6; 3]),
        case(
            "3x3x3 stride 2 32->64 32^3",
            same([3, 3, 3]).with_stride([2; 3]),
            32,
            64,
            [32; 3],
        ),
        case("2x2x2 stride 2 32->64 32^3", halving, 32, 64, [32; 3]),
        case("1x1x1 64->64 32^3", same([1, 1, 1]), 64, 64, [32; 3]),
        case("1x1x1 32->3 32^3", same([1, 1, 1]), 32, 3, [32; 3]),
        case("5x5x5 16->16 32^3", same([5, 5, 5]), 16, 16, [32; 3]),
        case("1x3x3 32->32 128^2", same([1, 3, 3]), 32, 32, [1, 128, 128]),
    ]
}

struct Run {
    executor: Executor,
    feeds: Vec<(ValueId, HostTensor)>,
}

impl Run {
    fn new(gpu: &Arc<Gpu>, profile: &DeviceProfile, case: &Case, direction: Direction) -> Self {
        let a = case.attributes;
        let size = a.output_size("bench", case.x.spatial()).unwrap();
        let y = case.x.with_c(case.channels_out).with_spatial(size);
        let w = a
            .weight_shape("bench", case.x.c(), case.channels_out)
            .unwrap();
        let mut graph = Graph::new();
        let mut feeds = Vec::new();
        let mut feed = |graph: &mut Graph, name: &str, shape: Shape| {
            let id = graph.input(name, shape).unwrap();
            feeds.push((id, random(shape, feeds.len() as u64)));
            id
        };
        let output = match direction {
            Direction::Forward => {
                let (x, w) = (feed(&mut graph, "x", case.x), feed(&mut graph, "w", w));
                conv(&mut graph, x, w, None, a)
            }
            Direction::InputGrad => {
                let (dy, w) = (feed(&mut graph, "dy", y), feed(&mut graph, "w", w));
                conv_input_grad(&mut graph, dy, w, None, a, case.x.spatial())
            }
            Direction::WeightGrad => {
                let (x, dy) = (feed(&mut graph, "x", case.x), feed(&mut graph, "dy", y));
                conv_weight_grad(&mut graph, x, dy, a)
            }
        }
        .unwrap();
        let program =
            Program::compile(graph, &[output], profile, ProgramOptions::default()).unwrap();
        let executor = Executor::new(program, &mut Parameters::new(gpu.clone(), 0)).unwrap();
        Self { executor, feeds }
    }

    fn result(&self) -> HostTensor {
        let views: Vec<(ValueId, &[f32])> = self
            .feeds
            .iter()
            .map(|(id, t)| (*id, t.data.as_slice()))
            .collect();
        pollster::block_on(async {
            self.executor.run(&views).await.unwrap();
            self.executor.fetch().await.unwrap().unwrap().remove(0)
        })
    }

    /// The device's time of one run, or the host's where the device has no clock.
    fn time(&self, gpu: &Gpu) -> Duration {
        if gpu.has_timestamps() {
            let times = pollster::block_on(self.executor.run_timed(&[])).unwrap();
            return Duration::from_secs_f64(times.iter().map(|t| t.ms).sum::<f64>() * 1e-3);
        }
        let start = Instant::now();
        pollster::block_on(async {
            self.executor.run(&[]).await.unwrap();
            self.executor.fetch().await.unwrap();
        });
        start.elapsed()
    }
}

fn random(shape: Shape, seed: u64) -> HostTensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    HostTensor {
        shape,
        data: (0..shape.len())
            .map(|_| rng.random_range(-1.0..=1.0))
            .collect(),
    }
}

fn bench(c: &mut Criterion) {
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    println!("{}", gpu.describe());
    let mut naive = gpu.profile().clone();
    naive.forced_variants.insert("conv".into(), "naive".into());
    for direction in [
        Direction::Forward,
        Direction::InputGrad,
        Direction::WeightGrad,
    ] {
        let mut group = c.benchmark_group(format!("conv {direction:?}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200));
        for case in cases() {
            // Built and verified only when criterion's filter lets the case through.
            let mut run = None;
            group.bench_function(case.name, |b| {
                let run = run.get_or_insert_with(|| verified(&gpu, &naive, &case, direction));
                b.iter_custom(|count| (0..count).map(|_| run.time(&gpu)).sum());
            });
            if let Some(run) = run {
                let flops = run.executor.program().cost(0).flops;
                let best = (0..5).map(|_| run.time(&gpu)).min().unwrap_or_default();
                println!(
                    "    best of 5: {:.2} GFLOP/s",
                    flops / best.as_secs_f64() * 1e-9
                );
            }
        }
        group.finish();
    }
}

fn verified(gpu: &Arc<Gpu>, naive: &DeviceProfile, case: &Case, direction: Direction) -> Run {
    let run = Run::new(gpu, gpu.profile(), case, direction);
    let twin = Run::new(gpu, naive, case, direction).result();
    let terms = (case.attributes.taps() * case.x.c().max(case.channels_out)).max(case.x.voxels());
    if let Err(text) = Tolerance::for_terms(terms).compare(case.name, &run.result(), &twin.to_f64())
    {
        panic!("not timed, as it differs from the naive kernels: {text}");
    }
    run
}

criterion_group!(benches, bench);
criterion_main!(benches);
