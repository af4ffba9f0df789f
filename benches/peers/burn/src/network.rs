//! The network of benches/common/network.rs out of burn's layers, with its training step and its inference.
//!
//! It differs in one thing: burn clips the norm of each parameter's gradient, not that of all together.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::nn::conv::{Conv3d, Conv3dConfig, ConvTranspose3d, ConvTranspose3dConfig};
use burn::nn::{InstanceNorm, InstanceNormConfig, PaddingConfig3d};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Distribution, Tensor, s};
use serde_json::{Map, json};

use crate::loss::dice_ce;
use crate::protocol::{Outcome, Prepared};

const FEATURES: [usize; 4] = [16, 32, 64, 128];
const CLASSES: usize = 4;
/// Of the heads from fine to coarse; the coarsest has none.
const HEAD_WEIGHTS: [f32; 2] = [2.0 / 3.0, 1.0 / 3.0];

#[derive(Module, Debug)]
struct Block {
    conv: Conv3d,
    norm: InstanceNorm,
}

impl Block {
    fn new(channels: [usize; 2], stride: usize, device: &Device) -> Self {
        let conv = Conv3dConfig::new(channels, [3; 3])
            .with_stride([stride; 3])
            .with_padding(PaddingConfig3d::Explicit(1, 1, 1));
        Self {
            conv: conv.init(device),
            norm: InstanceNormConfig::new(channels[1]).init(device),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        leaky_relu(self.norm.forward(self.conv.forward(x)), 0.01)
    }
}

/// Two blocks.
#[derive(Module, Debug)]
struct Stage {
    first: Block,
    second: Block,
}

impl Stage {
    fn new([from, to]: [usize; 2], stride: usize, device: &Device) -> Self {
        Self {
            first: Block::new([from, to], stride, device),
            second: Block::new([to, to], 1, device),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.second.forward(self.first.forward(x))
    }
}

/// One level of the way up: the transposed convolution, the blocks and the head.
#[derive(Module, Debug)]
struct Level {
    up: ConvTranspose3d,
    stage: Stage,
    head: Conv3d,
}

impl Level {
    fn new(features: usize, device: &Device) -> Self {
        let up = ConvTranspose3dConfig::new([2 * features, features], [2; 3]).with_stride([2; 3]);
        Self {
            up: up.init(device),
            stage: Stage::new([2 * features, features], 1, device),
            head: Conv3dConfig::new([features, CLASSES], [1; 3]).init(device),
        }
    }

    fn forward(&self, x: Tensor<5>, skip: Tensor<5>) -> Tensor<5> {
        self.stage
            .forward(Tensor::cat(vec![self.up.forward(x), skip], 1))
    }
}

#[derive(Module, Debug)]
struct UNet {
    encoder: Vec<Stage>,
    /// From coarse to fine.
    decoder: Vec<Level>,
}

impl UNet {
    fn new(device: &Device) -> Self {
        let inputs = [1, FEATURES[0], FEATURES[1], FEATURES[2]];
        let stages = inputs.into_iter().zip(FEATURES).enumerate();
        let encoder = stages
            .map(|(at, (from, to))| Stage::new([from, to], if at == 0 { 1 } else { 2 }, device))
            .collect();
        let levels = FEATURES[..3].iter().rev();
        Self {
            encoder,
            decoder: levels.map(|&f| Level::new(f, device)).collect(),
        }
    }

    /// What the heads look at, from fine to coarse.
    fn features(&self, x: Tensor<5>) -> Vec<Tensor<5>> {
        let mut skips = vec![x];
        for stage in &self.encoder {
            let last = skips[skips.len() - 1].clone();
            skips.push(stage.forward(last));
        }
        let mut found = Vec::new();
        let mut x = skips.remove(FEATURES.len());
        for level in &self.decoder {
            let skip = skips.remove(skips.len() - 1);
            x = level.forward(x, skip);
            found.insert(0, x.clone());
        }
        found
    }

    /// Logits of the `count` finest heads, from fine to coarse.
    fn forward(&self, x: Tensor<5>, count: usize) -> Vec<Tensor<5>> {
        let features = self.features(x).into_iter();
        let levels = self.decoder.iter().rev();
        let pairs = features.zip(levels).take(count);
        pairs.map(|(x, level)| level.head.forward(x)).collect()
    }

    fn facts(&self) -> Map<String, serde_json::Value> {
        Map::from_iter([("parameters".to_owned(), json!(self.num_params()))])
    }
}

/// As in benches/common/network.rs; labels are the levels of the image.
fn image(edge: usize, device: &Device) -> Tensor<5> {
    Tensor::random(
        [1, 1, edge, edge, edge],
        Distribution::Normal(0.0, 1.0),
        device,
    )
}

/// Cross-entropy + Dice of each head that counts.
fn loss(heads: Vec<Tensor<5>>, mut labels: Tensor<5>) -> Tensor<1> {
    let mut total = None;
    for (logits, weight) in heads.into_iter().zip(HEAD_WEIGHTS) {
        let part = dice_ce(logits, &labels) * weight;
        total = Some(match total {
            Some(total) => total + part,
            None => part,
        });
        // The voxel that nearest-exact takes of each two.
        labels = labels.slice(s![.., .., 1..;2, 1..;2, 1..;2]);
    }
    total.expect("there are heads")
}

/// One step of SGD.
pub fn training(device: &Device, edge: usize) -> Outcome<Prepared> {
    let tracked = device.clone().autodiff();
    let net = UNet::new(&tracked);
    let facts = net.facts();
    let momentum = MomentumConfig::new()
        .with_momentum(0.99)
        .with_dampening(0.0)
        .with_nesterov(true);
    let mut sgd = SgdConfig::new()
        .with_weight_decay(Some(WeightDecayConfig::new(3e-5)))
        .with_momentum(Some(momentum))
        .with_gradient_clipping(Some(GradientClippingConfig::Norm(12.0)))
        .init();
    let patch = image(edge, &tracked);
    let labels = (patch.clone() + 2.0).clamp(0.0, 3.0).floor();
    let mut current = Some(net);
    let run = move || {
        let net = current.take().ok_or("an earlier step failed")?;
        let heads = net.forward(patch.clone(), HEAD_WEIGHTS.len());
        let loss = loss(heads, labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        current = Some(sgd.step(0.01, net, gradients));
        loss.into_scalar::<f32>();
        Ok(tracked.sync()?)
    };
    Ok(Prepared {
        run: Box::new(run),
        facts,
    })
}

/// The logits of the finest head.
pub fn inference(device: &Device, edge: usize) -> Outcome<Prepared> {
    let net = UNet::new(device);
    let facts = net.facts();
    let patch = image(edge, device);
    let device = device.clone();
    let run = move || {
        net.forward(patch.clone(), 1);
        Ok(device.sync()?)
    };
    Ok(Prepared {
        run: Box::new(run),
        facts,
    })
}
