//! Optimiser steps and clipping against PyTorch and the reference.

mod loss_scale;
mod reference;

use std::collections::BTreeMap;

use voxseg::graph::{Executor, Graph, Init, Parameters, Program, ProgramOptions};
use voxseg::ops::ValueId;
use voxseg::ops::layout::slice_channels;
use voxseg::optim::{Optimizer, OptimizerConfig, append_optimizer};
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::{Case, Fixture};
use crate::harness::{checked_gpu, gpu};

/// Parameters "p0", "p1", … with their gradients as inputs, and one optimiser step.
struct Setup {
    executor: Executor,
    parameters: Parameters,
    /// What is fed for each gradient, and the shape of the gradient in it.
    grads: Vec<(ValueId, Shape)>,
    optimizer: Optimizer,
    config: OptimizerConfig,
    embed: bool,
}

impl Setup {
    fn new(config: OptimizerConfig, start: &[&[f32]]) -> Self {
        Self::build(config, start, false, None)
    }

    /// With bounds checks, and at most `limit` bytes of a buffer bound at once.
    fn in_parts(config: OptimizerConfig, start: &[&[f32]], limit: u64) -> Self {
        Self::build(config, start, false, Some(limit))
    }

    /// With `embed` the gradients are slices of larger tensors, NaN around them.
    fn build(config: OptimizerConfig, start: &[&[f32]], embed: bool, limit: Option<u64>) -> Self {
        let gpu = limit.map_or_else(gpu, |_| checked_gpu());
        let mut graph = Graph::new();
        let (mut pairs, mut grads) = (BTreeMap::new(), Vec::new());
        let mut parameters = Parameters::new(gpu.clone(), 0);
        for (i, values) in start.iter().enumerate() {
            // Weight-like shapes: two rows, so that a gradient has a batch stride.
            let shape = match values.len() {
                1 => Shape::scalar(),
                len if len % 2 == 0 => Shape::new(2, 1, 1, 1, len / 2),
                len => Shape::new(1, 1, 1, 1, len),
            };
            let name = format!("p{i}");
            let p = graph.parameter(&name, shape, Init::Constant(0.0)).unwrap();
            let outer = shape.with_c(if embed { 3 } else { 1 });
            let fed = graph.input(&format!("g{i}"), outer).unwrap();
            let g = match embed {
                true => slice_channels(&mut graph, fed, 1, 1).unwrap(),
                false => fed,
            };
            parameters.insert(&name, shape, values).unwrap();
            pairs.insert(p, g);
            grads.push((fed, shape));
        }
        let optimizer = append_optimizer(&mut graph, &pairs, &config).unwrap();
        let outputs = [optimizer.gradient_norm, optimizer.clip_scale];
        let mut profile = gpu.profile().clone();
        profile.max_binding = limit.unwrap_or(profile.max_binding);
        let options = ProgramOptions::default();
        let program = Program::compile(graph, &outputs, &profile, options).unwrap();
        Self {
            executor: Executor::new(program, &mut parameters).unwrap(),
            parameters,
            grads,
            optimizer,
            config,
            embed,
        }
    }

    /// One step; gives the norm and the clip scale.
    fn step(&self, grads: &[&[f32]], lr: f64, step: u64) -> [f32; 2] {
        let hyper = self.config.hyper(lr, step);
        let mut data: Vec<(ValueId, &[f32])> = vec![(self.optimizer.hyper, &hyper)];
        let fed: Vec<Vec<f32>> = self
            .grads
            .iter()
            .zip(grads)
            .map(|(&(_, shape), g)| self.surround(shape, g))
            .collect();
        data.extend(
            self.grads
                .iter()
                .zip(&fed)
                .map(|((id, _), g)| (*id, &g[..])),
        );
        let outputs = pollster::block_on(async {
            self.executor.run(&data).await.unwrap();
            self.executor.fetch().await.unwrap().unwrap()
        });
        [outputs[0].data[0], outputs[1].data[0]]
    }

    fn surround(&self, shape: Shape, g: &[f32]) -> Vec<f32> {
        if !self.embed {
            return g.to_vec();
        }
        let around = vec![f32::NAN; shape.voxels()];
        g.chunks(shape.voxels())
            .flat_map(|sample| [&around, sample, &around].concat())
            .collect()
    }

    fn read(&self, name: &str) -> HostTensor {
        pollster::block_on(self.parameters.read(name)).unwrap()
    }

    fn check(&self, label: &str, name: &str, expected: &[f32]) {
        let found = self.read(name);
        let expected = HostTensor::from_vec(found.shape, expected.to_vec()).unwrap();
        // Five steps of about eight roundings each.
        compare(label, &found, &expected.to_f64(), Tolerance::for_terms(40));
    }
}

fn compare(label: &str, found: &HostTensor, expected: &HostTensor<f64>, tolerance: Tolerance) {
    let deviation = tolerance.compare(label, found, expected);
    println!("{label}: {deviation:?}");
    deviation.unwrap();
}

fn config_of(case: &Case<'_>) -> OptimizerConfig {
    let weight_decay = case.number("weight_decay") as f32;
    match case.op() {
        "sgd" => OptimizerConfig::Sgd {
            momentum: case.number("momentum") as f32,
            nesterov: case.flag("nesterov"),
            weight_decay,
            max_norm: None,
        },
        _ => OptimizerConfig::AdamW {
            beta1: case.attribute("betas")[0].as_f64().unwrap(),
            beta2: case.attribute("betas")[1].as_f64().unwrap(),
            epsilon: case.number("eps") as f32,
            weight_decay,
            max_norm: None,
        },
    }
}

#[test]
fn steps_match_pytorch() {
    let fixture = Fixture::load("optim");
    let mut found = 0;
    for case in fixture.cases().filter(|c| c.op() != "clip_grad_norm") {
        found += 1;
        let setup = Setup::new(config_of(&case), &[&case.tensor("w").data]);
        let len = case.tensor("w").data.len();
        let rates = case.attribute("lr").as_array().unwrap();
        for (step, rate) in rates.iter().enumerate() {
            let rows = step * len..(step + 1) * len;
            let g = &case.tensor("g").data[rows.clone()];
            setup.step(&[g], rate.as_f64().unwrap(), step as u64);
            let label = format!("{} step {step}", case.name());
            setup.check(&label, "p0", &case.tensor("y").data[rows]);
        }
        for (key, name) in [
            ("momentum_buffer", "momentum/p0"),
            ("exp_avg", "adam.m/p0"),
            ("exp_avg_sq", "adam.v/p0"),
        ] {
            if let Some(state) = case.optional(key) {
                setup.check(&format!("{} {key}", case.name()), name, &state.data);
            }
        }
    }
    assert!(found >= 8, "only {found} cases");
}

#[test]
fn a_step_of_a_large_tensor_in_parts_gives_the_same_bits() {
    let sgd = OptimizerConfig::default();
    let adamw = OptimizerConfig::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        max_norm: Some(1.0),
    };
    let waves =
        |len: usize, pace: f32| -> Vec<f32> { (0..len).map(|i| (i as f32 * pace).sin()).collect() };
    // 47 KiB, more than two parts, and a small one.
    let (large, small) = (waves(12_001, 0.37), waves(6, 0.5));
    let (first, second) = (waves(12_001, 0.11), waves(6, 0.2));
    for config in [sgd, adamw] {
        let start: [&[f32]; 2] = [&large, &small];
        let whole = Setup::new(config, &start);
        let parts = Setup::in_parts(config, &start, 20 << 10);
        let dispatches = |s: &Setup| s.executor.program().dispatch_count();
        assert!(dispatches(&parts) > dispatches(&whole));
        for step in 0..3 {
            let norms = [&whole, &parts].map(|s| s.step(&[&first, &second], 0.01, step));
            assert_eq!(norms[0], norms[1], "step {step}");
            for name in ["p0", "p1"] {
                assert_eq!(whole.read(name), parts.read(name), "{name}, step {step}");
            }
        }
    }
}

fn plain_sgd(max_norm: Option<f32>) -> OptimizerConfig {
    OptimizerConfig::Sgd {
        momentum: 0.0,
        nesterov: false,
        weight_decay: 0.0,
        max_norm,
    }
}

#[test]
fn clipping_matches_pytorch() {
    let fixture = Fixture::load("optim");
    for case in fixture.cases().filter(|c| c.op() == "clip_grad_norm") {
        let keys = ["0", "1", "2"];
        let grads = keys.map(|k| case.tensor(&format!("g{k}")).data.as_slice());
        let zeros = grads.map(|g| vec![0.0; g.len()]);
        let start = [0, 1, 2].map(|i| zeros[i].as_slice());
        let max_norm = case.number("max_norm");
        let setup = Setup::new(plain_sgd(Some(max_norm as f32)), &start);
        let [norm, scale] = setup.step(&grads, 1.0, 0);
        let expected = case.number("norm");
        assert!((f64::from(norm) / expected - 1.0).abs() < 1e-6, "{norm}");
        let factor = (max_norm / (expected + 1e-6)).min(1.0);
        assert!((f64::from(scale) / factor - 1.0).abs() < 1e-6, "{scale}");
        for k in keys {
            let clipped: Vec<f32> = case
                .tensor(&format!("y{k}"))
                .data
                .iter()
                .map(|v| -v)
                .collect();
            setup.check(&format!("{} {k}", case.name()), &format!("p{k}"), &clipped);
        }
    }
}

#[test]
fn the_norm_covers_gradients_of_many_workgroups() {
    let lens = [3, 4096, 4097, 50_001];
    let grads: Vec<Vec<f32>> = lens
        .iter()
        .map(|&len| (0..len).map(|i| ((i % 17) as f32 - 8.0) / 8.0).collect())
        .collect();
    let views: Vec<&[f32]> = grads.iter().map(Vec::as_slice).collect();
    let square: f64 = grads
        .iter()
        .flatten()
        .map(|&g| f64::from(g) * f64::from(g))
        .sum();
    let setup = Setup::new(plain_sgd(None), &views);
    let [norm, scale] = setup.step(&views, 0.0, 0);
    assert!(
        (f64::from(norm) / square.sqrt() - 1.0).abs() < 1e-6,
        "{norm}"
    );
    assert_eq!(scale, 1.0);
}

#[test]
fn gradients_that_are_not_finite_leave_everything_untouched() {
    let adam = OptimizerConfig::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
        max_norm: Some(1.0),
    };
    let (a, b) = ([1.0, 2.0, 3.0], [4.0]);
    for config in [OptimizerConfig::default(), adam] {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let setup = Setup::new(config, &[&a, &b]);
            setup.step(&[&[0.1, 0.2, 0.3], &[0.4]], 0.1, 0);
            let before = [setup.read("p0"), setup.read("p1")];
            let [norm, scale] = setup.step(&[&[0.1, poison, 0.3], &[0.4]], 0.1, 1);
            assert!(!norm.is_finite(), "{norm}");
            assert_eq!(scale, 0.0);
            assert_eq!(before, [setup.read("p0"), setup.read("p1")]);
        }
    }
}

#[test]
fn a_limit_that_is_not_above_zero_is_refused() {
    for limit in [0.0, -1.0, f32::NAN] {
        let mut graph = Graph::new();
        let p = graph
            .parameter("p", Shape::scalar(), Init::Constant(0.0))
            .unwrap();
        let g = graph.input("g", Shape::scalar()).unwrap();
        let error = append_optimizer(
            &mut graph,
            &BTreeMap::from([(p, g)]),
            &plain_sgd(Some(limit)),
        );
        assert!(error.unwrap_err().to_string().contains("above 0"));
    }
}
