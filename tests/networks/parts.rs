//! A whole training step on a device that can bind so little at once that most tensors are computed in parts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use voxseg::gpu::{AdapterClass, DeviceProfile, Gpu, GpuOptions};
use voxseg::graph::{Executor, GraphError, Parameters};
use voxseg::losses::{LossConfig, Supervision};
use voxseg::models::{ModelError, Network, PlainNet, UNetConfig, plain_unet};
use voxseg::nn::Nonlinearity;
use voxseg::ops::ValueId;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::{Element, Shape};
use voxseg::train::{TargetForm, TrainingStep, training_step};

const CLASSES: usize = 3;
const STEPS: u64 = 3;

/// The parameters decide more and more of the result: three steps amplify rounding to far less than this.
const AGREEMENT: f32 = 1e-5;

fn patch() -> Shape {
    Shape::new(2, 1, 12, 20, 28)
}

/// As the adapter is, with bounds checks, or with so small a limit.
fn open(binding_limit: Option<u64>) -> Arc<Gpu> {
    let options = GpuOptions {
        checked: true,
        binding_limit,
        ..GpuOptions::default()
    };
    pollster::block_on(Gpu::open(&options)).unwrap_or_else(|e| panic!("{e}"))
}

fn compile(gpu: &Gpu, precision: Element) -> Result<TrainingStep, ModelError> {
    let network = UNetConfig {
        // Hardly a kink: at that of the usual slope, rounding decides over the gradient of a few of these 10^6 voxels.
        nonlinearity: Nonlinearity::LeakyRelu { slope: 0.98 },
        ..plain_unet(PlainNet {
            in_channels: 1,
            out_channels: CLASSES,
            features: vec![10, 16, 20],
            kernels: vec![[3; 3]; 3],
            strides: vec![[1; 3], [2; 3], [1, 2, 2]],
        })
    };
    let (loss, sgd) = (LossConfig::default(), OptimizerConfig::default());
    training_step(
        &Network::from(network).stored_as(precision),
        patch(),
        TargetForm::CLASSES,
        &loss,
        &sgd,
        gpu.profile(),
    )
}

/// Dispatches of a step, and the loss and the gradient norm of each.
fn train(gpu: &Arc<Gpu>, precision: Element) -> (usize, Vec<[f32; 2]>) {
    let step = compile(gpu, precision).unwrap();
    let dispatches = step.program.dispatch_count();
    (dispatches, run_steps(gpu, step, patch(), CLASSES, STEPS))
}

/// Loss and gradient norm of so many steps on a patch, each of which starts where the one before has led; prints their time.
pub fn run_steps(
    gpu: &Arc<Gpu>,
    step: TrainingStep,
    patch: Shape,
    classes: usize,
    steps: u64,
) -> Vec<[f32; 2]> {
    let image: Vec<f32> = (0..patch.len())
        .map(|i| (i as f32 * 0.013).sin() + (i as f32 * 0.41).cos())
        .collect();
    let label = |v: &f32| (v + 1.0).clamp(0.0, classes as f32 - 1.0).floor();
    let labels: Vec<f32> = image.iter().map(label).collect();
    let weights = Supervision::Halving.weights(step.heads, 0, 1).unwrap();
    let mut parameters = Parameters::new(gpu.clone(), 0);
    let executor = Executor::new(step.program, &mut parameters).unwrap();
    let run = |number: u64| {
        let hyper = OptimizerConfig::default().hyper(0.01, number);
        let data: [(ValueId, &[f32]); 5] = [
            (step.feeds.image, &image),
            (step.feeds.target, &labels),
            (step.feeds.head_weights, &weights),
            (step.feeds.loss_scale, &[1.0]),
            (step.hyper, &hyper),
        ];
        let outputs = pollster::block_on(async {
            executor.run(&data).await.unwrap();
            executor.fetch().await.unwrap().unwrap()
        });
        [0, 1].map(|i| outputs[i].data[0])
    };
    let begin = Instant::now();
    let found = (1..=steps).map(run).collect();
    println!(
        "{:.2} s a step",
        begin.elapsed().as_secs_f64() / steps as f64
    );
    found
}

/// Steps in bindings of `limit` bytes are as they are in one piece, but for a share of `agreement`.
fn agrees(precision: Element, limit: u64, agreement: f32) {
    let (few, whole) = train(&open(None), precision);
    let (many, parts) = train(&open(Some(limit)), precision);
    assert!(
        many > few + few / 4,
        "{many} dispatches in parts, {few} in one piece"
    );
    for (whole, parts) in whole.iter().flatten().zip(parts.iter().flatten()) {
        let difference = (whole - parts).abs();
        assert!(
            difference <= agreement * (1.0 + whole.abs()),
            "{precision:?}: {parts} in parts, {whole} in one piece"
        );
    }
}

#[test]
fn a_step_in_parts_is_a_step_in_one_piece() {
    // A map of the finest level takes 262 KiB a sample, its joined skip connection twice that.
    agrees(Element::F32, 160 << 10, AGREEMENT);
}

#[test]
fn a_step_in_parts_is_a_step_in_one_piece_with_activations_in_f16() {
    // Maps take half as much, the partial sums of the loss as much as ever. A sum that rounds to the other side moves by a
    // unit in the last of 11 digits.
    agrees(Element::F16, 112 << 10, 1.0 / 1024.0);
}

#[test]
fn what_no_part_is_small_enough_for_is_refused_with_the_figure() {
    // One channel of one sample takes 26 KiB.
    let error = compile(&open(Some(8 << 10)), Element::F32).unwrap_err();
    let ModelError::Graph(GraphError::TooLarge { bytes, limit, .. }) = &error else {
        panic!("{error}");
    };
    assert!(*bytes > 8 << 10 && *limit == 8 << 10, "{error}");
    assert!(error.to_string().contains("smaller patch"), "{error}");
}

#[test]
fn the_network_of_nnu_net_is_planned_on_devices_that_bind_128_mib() {
    // A map of its finest level takes 512 MiB, a joined one 1 GiB.
    let network = plain_unet(PlainNet {
        in_channels: 1,
        out_channels: CLASSES,
        features: vec![32, 64, 128, 256, 320, 320],
        kernels: vec![[3; 3]; 6],
        strides: [vec![[1; 3]], vec![[2; 3]; 5]].concat(),
    });
    let gpu = DeviceProfile {
        max_buffer: (2 << 30) - 1,
        ..DeviceProfile::minimal_gpu()
    };
    let cpu = DeviceProfile {
        class: AdapterClass::CpuLike,
        max_workgroup_memory: 32 << 10,
        max_invocations: 1024,
        subgroup: Some((8, 8)),
        int64: true,
        ..gpu.clone()
    };
    for device in [gpu, cpu] {
        assert_eq!(device.max_binding, 128 << 20);
        let patch = Shape::new(2, 1, 128, 128, 128);
        let (loss, sgd) = (LossConfig::default(), OptimizerConfig::default());
        let step = training_step(
            &network.clone().into(),
            patch,
            TargetForm::CLASSES,
            &loss,
            &sgd,
            &device,
        );
        let program = step
            .unwrap_or_else(|e| panic!("{:?}: {e}", device.class))
            .program;
        let kernels: BTreeSet<_> = program.kernels().map(|(kernel, _)| kernel.name).collect();
        assert!(kernels.contains("layout/copy_runs"), "{kernels:?}");
        // A part is large enough for the kernels that are made for the device.
        let fast: &[&str] = match device.class {
            AdapterClass::CpuLike => &[
                "conv/lanes",
                "conv/patches",
                "conv/weight_grad_strips",
                "norm/words_stats",
                "norm/words_apply",
                "norm/words_backward_sums",
                "norm/words_backward_dx",
                "loss/words_sums",
                "loss/words_gradient",
            ],
            AdapterClass::Gpu => &["conv/gemm_correlate"],
        };
        let missing: Vec<_> = fast
            .iter()
            .filter(|name| !kernels.contains(*name))
            .collect();
        assert!(missing.is_empty(), "{missing:?} not in {kernels:?}");
        let is_slow = |name: &&&str| name.contains("naive") || name.contains("gemm");
        let slow = kernels.iter().find(is_slow);
        assert!(
            device.class == AdapterClass::Gpu || slow.is_none(),
            "{slow:?}"
        );
    }
}
