//! Whole networks with activations stored as f16: how near they stay to f32, loss scaling, and the memory.

use voxseg::gpu::DeviceProfile;
use voxseg::graph::{Executor, Parameters};
use voxseg::models;
use voxseg::models::{PlainNet, UNetConfig, plain_unet};
use voxseg::nn::Nonlinearity;
use voxseg::ops::layout::convert;
use voxseg::ops::optim::FIRST_LOSS_SCALE;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::{Element, HostTensor, Shape};
use voxseg::train::{SupervisedGraph, TargetForm, training_step};

use crate::gpu;
use crate::parity::{Network, sgd};

/// Root mean square of what storing a number as f16 costs, relative to it: at most a unit in the last of 11 digits, evenly
/// distributed, since WGSL allows rounding towards zero.
const STORE: f64 = 1.0 / 1024.0 / 1.732;

fn in_f32(config: &UNetConfig) -> models::Network {
    config.clone().into()
}

fn in_f16(config: &UNetConfig) -> models::Network {
    in_f32(config).stored_as(Element::F16)
}

/// The loss, the logits of all heads and the gradients of all parameters.
fn results(network: &Network, stored: &models::Network) -> [Vec<HostTensor>; 3] {
    let mut supervised =
        SupervisedGraph::build(stored, network.patch, TargetForm::CLASSES, &network.loss).unwrap();
    let mut parameters = network.parameters(&supervised.graph);
    let mut fetched = vec![supervised.total];
    for &logits in &supervised.logits {
        fetched.push(convert(&mut supervised.graph, logits, Element::F32).unwrap());
    }
    fetched.extend(supervised.gradients.values());
    let (feeds, heads) = (supervised.feeds, supervised.logits.len());
    let scale = supervised.scaling.map_or(1.0, |_| FIRST_LOSS_SCALE);
    let program = supervised.compile(&fetched, gpu().profile()).unwrap();
    let executor = Executor::new(program, &mut parameters).unwrap();
    let weights = network.weights("all_heads");
    let mut outputs = pollster::block_on(async {
        executor.run(&network.feed(feeds, &weights)).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });
    let mut gradients = outputs.split_off(1 + heads);
    for gradient in &mut gradients {
        gradient.data.iter_mut().for_each(|v| *v /= scale);
    }
    let logits = outputs.split_off(1);
    [outputs, logits, gradients]
}

/// Root mean square of the difference, relative to that of `expected`.
fn distance<'a>(pairs: impl Iterator<Item = (&'a HostTensor, &'a HostTensor)>) -> f64 {
    let (mut error, mut square) = (0.0, 0.0);
    for (found, expected) in pairs {
        for (&f, &e) in found.data.iter().zip(&expected.data) {
            error += (f64::from(f) - f64::from(e)).powi(2);
            square += f64::from(e).powi(2);
        }
    }
    (error / square).sqrt()
}

/// What is expected at the logits: a path there goes through some forty stored tensors (a convolution, its packed weights and
/// a norm for each of twenty layers), whose errors are independent; norms divide by deviations below one.
fn of_forward() -> f64 {
    2.0 * STORE * 40f64.sqrt()
}

/// Loss and logits of `config` stay as near as storing costs, the gradients within `of_gradients`.
fn stays_near(network: &Network, config: &UNetConfig, of_gradients: f64) {
    let [loss, logits, gradients] = results(network, &in_f32(config));
    let [half_loss, half_logits, half_gradients] = results(network, &in_f16(config));
    let d = f64::from((half_loss[0].data[0] - loss[0].data[0]).abs());
    let found = [
        d / f64::from(loss[0].data[0].abs()),
        distance(half_logits.iter().zip(&logits)),
        distance(half_gradients.iter().zip(&gradients)),
    ];
    let bounds = [of_forward(), of_forward(), of_gradients];
    for (what, (found, bound)) in ["loss", "logits", "gradients"]
        .iter()
        .zip(found.iter().zip(bounds))
    {
        println!("{what}: {found:.1e} of {bound:.1e}");
        assert!(
            *found < bound,
            "the {what} differ by {found}, beyond {bound}"
        );
    }
    assert!(found[1] > 1e-5, "nothing was stored as f16");
}

#[test]
fn a_network_without_kinks_stays_near_f32_in_both_directions() {
    let network = Network::load("network_unet3d");
    let config = UNetConfig {
        nonlinearity: Nonlinearity::HSwish,
        ..network.config.clone()
    };
    // There and back.
    stays_near(&network, &config, 2.0 * 2f64.sqrt() * of_forward());
}

/// With kinks. Of numbers that are distributed normally and err by a share d of their deviation, 0.32 d change sides
/// (0.4 is the density at 0, 0.8 d the mean error), and the gradient of each is then another one.
fn with_flips(activations: f64) -> f64 {
    (activations * 0.32 * of_forward()).sqrt()
}

#[test]
fn plain_networks_stay_near_f32() {
    for name in ["network_unet3d", "network_unet2d"] {
        let network = Network::load(name);
        stays_near(&network, &network.config, with_flips(14.0));
    }
}

#[test]
fn a_residual_encoder_stays_near_f32() {
    let network = Network::load("network_resenc3d");
    stays_near(&network, &network.config, with_flips(20.0));
}

fn value(parameters: &Parameters, name: &str) -> Vec<f32> {
    pollster::block_on(parameters.read(name)).unwrap().data
}

#[test]
fn a_scale_that_overflows_is_halved_and_changes_nothing_else() {
    const TOO_LARGE: f32 = 1.1e12; // 2^40
    let network = Network::load("network_unet3d");
    let optimizer = sgd();
    let step = training_step(
        &in_f16(&network.config),
        network.patch,
        TargetForm::CLASSES,
        &network.loss,
        &optimizer,
        gpu().profile(),
    )
    .unwrap();
    let mut parameters = network.parameters(step.program.graph());
    let scale = TOO_LARGE.log2().round().exp2();
    parameters
        .insert("loss_scale.scale", Shape::scalar(), &[scale])
        .unwrap();
    let names: Vec<String> = parameters
        .names()
        .filter(|name| !name.starts_with("loss_scale"))
        .map(str::to_owned)
        .collect();
    let all = |parameters: &Parameters| -> Vec<Vec<f32>> {
        names.iter().map(|name| value(parameters, name)).collect()
    };
    let before = all(&parameters);
    let executor = Executor::new(step.program, &mut parameters).unwrap();
    let weights = network.weights("nnunet");
    let run = || {
        let hyper = optimizer.hyper(0.01, 0);
        let mut feed = network.feed(step.feeds, &weights);
        feed.push((step.hyper, &hyper));
        pollster::block_on(async {
            executor.run(&feed).await.unwrap();
            executor.fetch().await.unwrap().unwrap()
        })
    };
    let outputs = run();
    assert!(
        outputs[0].data[0].is_finite(),
        "the loss itself is not scaled"
    );
    assert!(!outputs[1].data[0].is_finite());
    assert_eq!(value(&parameters, "loss_scale.scale"), [scale / 2.0]);
    assert_eq!(value(&parameters, "loss_scale.steps"), [0.0]);
    assert!(
        all(&parameters) == before,
        "a step that overflowed changed something"
    );

    let steps = (1..40).find(|_| run()[1].data[0].is_finite());
    let steps = steps.expect("a scale that fits");
    let found = value(&parameters, "loss_scale.scale")[0];
    println!("{steps} further steps down to a scale of {found}");
    assert_eq!(found, scale * 0.5f32.powi(steps));
    assert_eq!(value(&parameters, "loss_scale.steps"), [1.0]);
    assert!(
        all(&parameters) != before,
        "the first finite step changed nothing"
    );
}

/// The network of the comparison with other frameworks: 16 to 128 features, four classes, deep supervision.
pub fn peers_network() -> UNetConfig {
    plain_unet(PlainNet {
        in_channels: 1,
        out_channels: 4,
        features: vec![16, 32, 64, 128],
        kernels: vec![[3; 3]; 4],
        strides: vec![[1; 3], [2; 3], [2; 3], [2; 3]],
    })
}

#[test]
fn activations_in_f16_take_about_half_of_the_memory() {
    let device = |class| DeviceProfile {
        f16: true,
        max_binding: 1 << 30,
        max_buffer: 1 << 30,
        class,
        ..gpu().profile().clone()
    };
    use voxseg::gpu::AdapterClass::{CpuLike, Gpu};
    for class in [CpuLike, Gpu] {
        let bytes = |network: models::Network| {
            let step = training_step(
                &network,
                Shape::new(1, 1, 64, 64, 64),
                TargetForm::CLASSES,
                &Default::default(),
                &OptimizerConfig::default(),
                &device(class),
            );
            step.unwrap().program.summary()
        };
        let (single, half) = (
            bytes(in_f32(&peers_network())),
            bytes(in_f16(&peers_network())),
        );
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{class:?}, 64^3: slots {:.1} MiB in f32, {:.1} in f16; all {:.1} and {:.1}",
            mib(single.slot_bytes),
            mib(half.slot_bytes),
            mib(single.total_bytes),
            mib(half.total_bytes)
        );
        // Gradients of parameters and sums of parts stay f32.
        assert!(10 * half.slot_bytes < 7 * single.slot_bytes, "{class:?}");
        assert_eq!(half.parameter_bytes, single.parameter_bytes);
    }
}

#[test]
fn an_adapter_without_f16_is_told_of_the_flag() {
    let network = Network::load("network_unet2d");
    let error = training_step(
        &in_f16(&network.config),
        network.patch,
        TargetForm::CLASSES,
        &network.loss,
        &sgd(),
        &DeviceProfile::minimal_gpu(),
    );
    let error = error.unwrap_err();
    assert!(error.to_string().contains("--precision f32"), "{error}");
    assert!(error.is_users_fault());
}
