//! Single operators at the sizes of benches/peers/operators.py.

use burn::nn::InstanceNormConfig;
use burn::tensor::activation::prelu;
use burn::tensor::module::{conv_transpose3d, conv3d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Device, Distribution, Tensor};

use crate::loss::dice_focal;
use crate::protocol::{Outcome, Prepared};

/// Runs the operator; with gradients where the device has them.
type Operator = Box<dyn Fn() -> Computed>;

/// What an operator gives.
enum Computed {
    Map(Tensor<5>),
    Loss(Tensor<1>),
}

fn tensor<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let tensor = Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device);
    match device.is_autodiff() {
        true => tensor.require_grad(),
        false => tensor,
    }
}

fn cube(channels: usize, edge: usize, device: &Device) -> Tensor<5> {
    tensor([1, channels, edge, edge, edge], device)
}

fn conv(x: Tensor<5>, weight: [usize; 5], padding: usize, groups: usize) -> Operator {
    let device = x.device();
    let (w, b) = (tensor(weight, &device), tensor([weight[0]], &device));
    Box::new(move || {
        let options = ConvOptions::new([1; 3], [padding; 3], [1; 3], groups);
        Computed::Map(conv3d(x.clone(), w.clone(), Some(b.clone()), options))
    })
}

fn operator(name: &str, device: &Device) -> Outcome<Operator> {
    Ok(match name {
        "conv3" => conv(cube(32, 64, device), [32, 32, 3, 3, 3], 1, 1),
        "depthwise" => conv(cube(64, 48, device), [64, 1, 3, 3, 3], 1, 64),
        "pointwise" => conv(cube(64, 48, device), [64, 64, 1, 1, 1], 0, 1),
        "transposed" => {
            let (x, b) = (cube(64, 32, device), tensor([32], device));
            let w = tensor([64, 32, 2, 2, 2], device);
            Box::new(move || {
                let options = ConvTransposeOptions::new([2; 3], [0; 3], [0; 3], [1; 3], 1);
                let y = conv_transpose3d(x.clone(), w.clone(), Some(b.clone()), options);
                Computed::Map(y)
            })
        }
        "norm" => {
            let (x, slope) = (cube(32, 64, device), tensor([32], device));
            let norm = InstanceNormConfig::new(32).init(device);
            Box::new(move || Computed::Map(prelu(norm.forward(x.clone()), slope.clone())))
        }
        "loss" => {
            let x = cube(4, 64, device);
            let draw = Distribution::Uniform(0.0, 4.0);
            let labels = Tensor::random([1, 1, 64, 64, 64], draw, device).floor();
            Box::new(move || Computed::Loss(dice_focal(x.clone(), &labels)))
        }
        _ => return Err(format!("unknown operator: {name}").into()),
    })
}

fn prepared(device: Device, run: impl Fn() + 'static) -> Outcome<Prepared> {
    let run = move || {
        run();
        Ok(device.sync()?)
    };
    Ok(Prepared {
        run: Box::new(run),
        facts: Default::default(),
    })
}

/// The operator alone.
pub fn forward(device: &Device, name: &str) -> Outcome<Prepared> {
    let operator = operator(name, device)?;
    prepared(device.clone(), move || drop(operator()))
}

/// The operator and the gradients of all inputs, from a gradient of ones.
pub fn both(device: &Device, name: &str) -> Outcome<Prepared> {
    let tracked = device.clone().autodiff();
    let operator = operator(name, &tracked)?;
    prepared(tracked, move || match operator() {
        Computed::Map(y) => drop(y.backward()),
        Computed::Loss(y) => drop(y.backward()),
    })
}
