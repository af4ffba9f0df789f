//! Logits, losses, every gradient and three optimiser steps against PyTorch.

use serde_json::Value;
use voxseg::graph::{Executor, Graph, Parameters};
use voxseg::losses::LossConfig;
use voxseg::models::{PlainNet, UNetConfig, plain_unet, residual_encoder_unet};
use voxseg::ops::ValueId;
use voxseg::optim::OptimizerConfig;
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};
use voxseg::train::{Feeds, SupervisedGraph, TargetForm, training_step};

use crate::fixtures::{Fixture, Stored};
use crate::gpu;

/// Rounding errors of f32 pass through some twenty layers of up to 27 * 32 terms each, and every norm divides by a
/// standard deviation below one.
fn tolerance() -> Tolerance {
    Tolerance::for_terms(27 * 32).amplified(20.0)
}

/// The fixtures' optimiser: nnU-Net's without clipping.
pub fn sgd() -> OptimizerConfig {
    OptimizerConfig::Sgd {
        momentum: 0.99,
        nesterov: true,
        weight_decay: 3e-5,
        max_norm: None,
    }
}

fn numbers(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect()
}

/// Extents of a 2D network get a depth of 1.
fn axes(value: &Value) -> Vec<[usize; 3]> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| match numbers(v)[..] {
            [h, w] => [1, h, w],
            [d, h, w] => [d, h, w],
            _ => panic!("{v}"),
        })
        .collect()
}

fn network(of: &Value) -> UNetConfig {
    let net = PlainNet {
        in_channels: of["input_channels"].as_u64().unwrap() as usize,
        out_channels: of["num_classes"].as_u64().unwrap() as usize,
        features: numbers(&of["features_per_stage"]),
        kernels: axes(&of["kernel_sizes"]),
        strides: axes(&of["strides"]),
    };
    match of["architecture"].as_str().unwrap() {
        "PlainConvUNet" => plain_unet(net),
        _ => residual_encoder_unet(net, numbers(&of["n_blocks_per_stage"])),
    }
}

/// (N, C, D, H, W) of a stored tensor: labels lack the channel, 2D weights the depth.
fn five(stored: &Stored, parameter: bool) -> Shape {
    match (parameter, &stored.shape[..]) {
        (_, &[a, b, c, d, e]) => Shape([a, b, c, d, e]),
        (true, &[o, i, h, w]) => Shape::new(o, i, 1, h, w),
        (true, &[c]) => Shape::vector(c),
        (false, &[n, d, h, w]) => Shape::new(n, 1, d, h, w),
        (_, other) => panic!("{other:?}"),
    }
}

fn truth(stored: &Stored, parameter: bool) -> HostTensor<f64> {
    HostTensor {
        shape: five(stored, parameter),
        data: stored.data.iter().map(|&v| f64::from(v)).collect(),
    }
}

/// A network of the fixtures, its weights on the device.
pub struct Network {
    fixture: Fixture,
    pub config: UNetConfig,
    pub patch: Shape,
    pub loss: LossConfig,
}

impl Network {
    pub fn load(name: &str) -> Self {
        let fixture = Fixture::load(name);
        let of = fixture.network();
        Self {
            config: network(of),
            patch: five(fixture.tensor("input"), false),
            loss: LossConfig {
                batch_dice: of["batch_dice"].as_bool().unwrap(),
                ..LossConfig::default()
            },
            fixture,
        }
    }

    pub fn parameters(&self, graph: &Graph) -> Parameters {
        assert_eq!(
            graph.parameter_count() as u64,
            self.fixture.network()["parameter_count"].as_u64().unwrap()
        );
        let mut parameters = Parameters::new(gpu(), 0);
        parameters.ensure(graph).unwrap();
        for (name, stored) in self.fixture.under("param") {
            let shape = five(stored, true);
            parameters.insert(name, shape, &stored.data).unwrap();
        }
        parameters
    }

    pub fn weights(&self, rule: &str) -> Vec<f32> {
        self.fixture.network()["head_weights"][rule]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect()
    }

    pub fn feed<'a>(&'a self, ids: Feeds, weights: &'a [f32]) -> Vec<(ValueId, &'a [f32])> {
        vec![
            (ids.image, &self.fixture.tensor("input").data),
            (ids.target, &self.fixture.tensor("target.0").data),
            (ids.head_weights, weights),
            (ids.loss_scale, &[1.0]),
        ]
    }
}

fn check(what: &str, found: &HostTensor, expected: &HostTensor<f64>) {
    tolerance().compare(what, found, expected).unwrap();
}

/// A convolution bias before an instance norm has gradient 0: what is left is rounding, compared with the gradients
/// around it.
fn is_rounding(expected: &HostTensor<f64>) -> bool {
    expected.data.iter().all(|v| v.abs() < 1e-12)
}

fn gradients_match(name: &str, rule: &str) {
    let network = Network::load(name);
    let supervised = SupervisedGraph::build(
        &network.config.clone().into(),
        network.patch,
        TargetForm::CLASSES,
        &network.loss,
    )
    .unwrap();
    let mut parameters = network.parameters(&supervised.graph);
    let wanted: Vec<String> = supervised
        .gradients
        .keys()
        .map(|&p| supervised.graph.value(p).name.clone())
        .collect();
    let (feeds, heads) = (supervised.feeds, supervised.logits.len());
    let mut fetched = vec![supervised.total];
    fetched.extend(&supervised.logits);
    fetched.extend(supervised.gradients.values());
    let program = supervised.compile(&fetched, gpu().profile()).unwrap();
    let executor = Executor::new(program, &mut parameters).unwrap();
    let weights = network.weights(rule);
    let outputs = pollster::block_on(async {
        executor.run(&network.feed(feeds, &weights)).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });
    let expected_loss = network.fixture.network()["loss"][rule].as_f64().unwrap();
    let loss = f64::from(outputs[0].data[0]);
    assert!(
        (loss - expected_loss).abs() < 1e-5,
        "{name} {rule}: loss {loss}, PyTorch {expected_loss}"
    );
    for head in 0..heads {
        let expected = truth(network.fixture.tensor(&format!("logits.{head}")), false);
        check(
            &format!("{name} logits {head}"),
            &outputs[1 + head],
            &expected,
        );
    }
    let gradients = &outputs[1 + heads..];
    assert_eq!(gradients.len(), wanted.len());
    let largest = gradients
        .iter()
        .flat_map(|g| &g.data)
        .fold(0.0f32, |m, v| m.max(v.abs()));
    for (parameter, found) in wanted.iter().zip(gradients) {
        let key = format!("grad_{rule}.{parameter}");
        let expected = truth(network.fixture.tensor(&key), true);
        if is_rounding(&expected) {
            assert!(
                found.data.iter().all(|v| v.abs() <= 1e-5 * largest),
                "{name} {key}"
            );
        } else {
            check(&format!("{name} {key}"), found, &expected);
        }
    }
}

fn steps_match(name: &str) {
    let network = Network::load(name);
    let optimizer = sgd();
    let device = gpu();
    let step = training_step(
        &network.config.clone().into(),
        network.patch,
        TargetForm::CLASSES,
        &network.loss,
        &optimizer,
        device.profile(),
    )
    .unwrap();
    let mut parameters = network.parameters(step.program.graph());
    let executor = Executor::new(step.program, &mut parameters).unwrap();
    let expected: Vec<f64> = network.fixture.network()["step_losses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    let weights = network.weights("nnunet");
    let losses: Vec<f64> = pollster::block_on(async {
        let mut losses = Vec::new();
        for at in 0..expected.len() {
            // The last run looks at the loss after the third step and changes nothing.
            let rate = if at + 1 < expected.len() { 0.01 } else { 0.0 };
            let hyper = optimizer.hyper(rate, at as u64);
            let mut feed = network.feed(step.feeds, &weights);
            feed.push((step.hyper, &hyper));
            executor.run(&feed).await.unwrap();
            losses.push(f64::from(
                executor.fetch().await.unwrap().unwrap()[0].data[0],
            ));
        }
        losses
    });
    for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
        assert!(
            (found - expected).abs() < 1e-4,
            "{name} step {step}: loss {found}, PyTorch {expected}"
        );
    }
    for (parameter, stored) in network.fixture.under("after_3_steps") {
        let found = pollster::block_on(parameters.read(parameter)).unwrap();
        check(
            &format!("{name} {parameter} after 3 steps"),
            &found,
            &truth(stored, true),
        );
    }
}

macro_rules! parity {
    ($($test:ident: $fixture:literal),* $(,)?) => {$(
        mod $test {
            #[test]
            fn gradients_of_all_heads() {
                super::gradients_match($fixture, "all_heads");
            }

            #[test]
            fn gradients_with_nnunets_weights() {
                super::gradients_match($fixture, "nnunet");
            }

            #[test]
            fn three_optimiser_steps() {
                super::steps_match($fixture);
            }
        }
    )*};
}

parity! {
    plain_3d: "network_unet3d",
    anisotropic_3d: "network_unet3d_anisotropic",
    residual_encoder_3d: "network_resenc3d",
    plain_2d: "network_unet2d",
}
