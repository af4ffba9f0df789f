//! The least memory that a training step can be planned in, and that it is the same step.

use std::time::Instant;

use voxseg::gpu::DeviceProfile;
use voxseg::graph::{GraphError, Program};
use voxseg::models::{ModelError, Network, PlainNet, UNetConfig, plain_unet};
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::{Element, Shape};
use voxseg::train::{TargetForm, TrainingStep, training_step};

use crate::gpu;
use crate::half::peers_network;
use crate::parts::run_steps;

fn planned(edge: usize, memory_budget: Option<u64>) -> Result<Program, ModelError> {
    let device = DeviceProfile {
        memory_budget,
        ..gpu().profile().clone()
    };
    let step = training_step(
        &peers_network().into(),
        Shape::new(1, 1, edge, edge, edge),
        TargetForm::CLASSES,
        &Default::default(),
        &OptimizerConfig::default(),
        &device,
    );
    step.map(|step| step.program)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[test]
fn half_of_the_memory_of_the_plain_plan_is_enough() {
    for edge in [64, 96] {
        let free = planned(edge, None).unwrap();
        let half = free.total_bytes() / 2;
        let begin = Instant::now();
        let tight = planned(edge, Some(half)).unwrap();
        let sought = begin.elapsed();
        println!(
            "{edge}^3: {:.1} MiB, of which {:.1} are parameters, states and inputs",
            mib(free.total_bytes()),
            mib(free.persistent_bytes()),
        );
        println!(
            "  within {:.1}: {:.1} of which {:.1} are alive at once, {:.0} % more multiply-adds, {} dispatches for {}, found in {sought:.1?}",
            mib(half),
            mib(tight.total_bytes()),
            mib(tight.peak_bytes()),
            100.0 * tight.recomputed_madds() / free.summary().madds,
            tight.dispatch_count(),
            free.dispatch_count(),
        );
        assert!(tight.total_bytes() <= half);
        assert_eq!(tight.memory_plan().slots.len(), 1);
    }
}

/// Classes of the labels.
const CLASSES: usize = 3;

/// A network that runs in little time.
fn small() -> Trained {
    Trained {
        network: plain_unet(PlainNet {
            in_channels: 1,
            out_channels: CLASSES,
            features: vec![6, 8, 10],
            kernels: vec![[3; 3]; 3],
            strides: vec![[1; 3], [2; 3], [2; 3]],
        }),
        patch: Shape::new(1, 1, 32, 16, 24),
        stored: Element::F32,
    }
}

/// Such a network for slices.
fn planar(patch: Shape) -> Trained {
    let mut small = small();
    small.network.kernels.fill([1, 3, 3]);
    small.network.strides[1..].fill([1, 2, 2]);
    Trained { patch, ..small }
}

struct Trained {
    network: UNetConfig,
    patch: Shape,
    /// How activations are stored.
    stored: Element,
}

impl Trained {
    fn step(&self, memory_budget: Option<u64>) -> Result<TrainingStep, ModelError> {
        let device = DeviceProfile {
            memory_budget,
            ..gpu().profile().clone()
        };
        training_step(
            &Network::from(self.network.clone()).stored_as(self.stored),
            self.patch,
            TargetForm::CLASSES,
            &Default::default(),
            &OptimizerConfig::default(),
            &device,
        )
    }

    /// The bits of loss and gradient norm of some steps, each of which starts where the one before has led.
    fn bits(&self, step: TrainingStep) -> Vec<[u32; 2]> {
        let found = run_steps(&gpu(), step, self.patch, CLASSES, 3);
        let bits = found.into_iter().map(|step| step.map(f32::to_bits));
        bits.collect()
    }
}

#[test]
fn a_step_slab_by_slab_gives_the_same_bits() {
    let small = small();
    let free = small.step(None).unwrap();
    let (all, dispatches) = (free.program.total_bytes(), free.program.dispatch_count());
    let Err(ModelError::Graph(GraphError::Budget { least, .. })) = small.step(Some(1)) else {
        panic!("no step fits one byte");
    };
    println!("{all} bytes, the least {least}");
    let budget = least.max(all / 2);
    let tight = small.step(Some(budget)).unwrap();
    assert!(tight.program.total_bytes() <= budget && budget < all);
    let kernels: Vec<_> = tight.program.kernels().map(|(k, _)| k.name).collect();
    let copies = kernels.iter().filter(|k| **k == "layout/copy_runs").count();
    assert!(
        copies > 0 && kernels.len() > 2 * dispatches,
        "{copies} copies"
    );
    assert_eq!(small.bits(tight), small.bits(free));
}

/// Two slices or volumes a step, odd extents, and activations stored as f16: half-way from the least to the plan without a budget,
/// and the least.
#[test]
fn steps_of_other_forms_within_a_budget_give_the_same_bits() {
    let half = Trained {
        stored: Element::F16,
        ..small()
    };
    for trained in [
        planar(Shape::new(2, 1, 1, 100, 52)),
        planar(Shape::new(1, 1, 3, 60, 44)),
        Trained {
            patch: Shape::new(2, 1, 36, 12, 20),
            ..small()
        },
        half,
    ] {
        let free = trained.step(None).unwrap();
        let Err(ModelError::Graph(GraphError::Budget { least, .. })) = trained.step(Some(1)) else {
            panic!("no step fits one byte");
        };
        let all = free.program.total_bytes();
        assert!(least < all, "{}: {least} of {all}", trained.patch);
        let expected = trained.bits(free);
        for budget in [(least + all) / 2, least] {
            let tight = trained.step(Some(budget)).unwrap();
            assert!(tight.program.total_bytes() <= budget);
            assert_eq!(trained.bits(tight), expected, "{}", trained.patch);
        }
    }
}

/// Half of the plan at the size of the figures in `docs/performance.md`: `cargo test --test networks -- --ignored --nocapture budget`.
#[test]
#[ignore = "takes two minutes"]
fn a_step_of_64_cubed_within_half_gives_the_same_bits() {
    let trained = Trained {
        network: peers_network(),
        patch: Shape::new(1, 1, 64, 64, 64),
        stored: Element::F32,
    };
    let free = trained.step(None).unwrap();
    let Err(ModelError::Graph(GraphError::Budget { least, .. })) = trained.step(Some(1)) else {
        panic!("no step fits one byte");
    };
    println!("the least is {:.1} MiB", mib(least));
    let half = free.program.total_bytes() / 2;
    let tight = trained.step(Some(half)).unwrap();
    assert!(tight.program.total_bytes() <= half);
    assert_eq!(trained.bits(tight), trained.bits(free));
}
