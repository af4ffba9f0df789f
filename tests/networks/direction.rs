//! The gradient of a whole deeply supervised network along random directions: loss differences against g . d.
//!
//! With P parameters and a unit vector d of random direction, g . d is of the size |g| / sqrt(P), which deviations are measured
//! in: a single g . d may be nearly 0. Three things keep the difference quotient over -h to +h from g . d:
//!
//! - The loss, near 1 and a mean over 2880 voxels, is rounded to about 1e-7, which the quotient divides by h. With |g| / sqrt(P)
//!   near 4e-3 and h = 0.03 that is 1e-3.
//! - Curvature, h^2 / 6 times the third derivative. A weight, near 0.1, moves by h / sqrt(P) = 3e-4: 1e-3 or less.
//! - Units that cross the kink of their leaky ReLU. A bottleneck of 810 units has one or two within reach, each with a share
//!   near 1 / sqrt(810) of what is measured, times the jump of the slope. With nnU-Net's slope of 0.01 they were off
//!   by up to 0.09 at any h from 0.01 on, so these networks have the slope 0.9, which the same kernels take as a
//!   parameter: 0.1 / sqrt(810) = 4e-3 a unit.
//!
//! The bound has room for four such units. A tensor whose gradient were missing or wrong would show from a share
//! of some 1e-4 of |g|^2 on.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::graph::{Executor, Parameters};
use voxseg::losses::LossConfig;
use voxseg::models::{PlainNet, UNetConfig, plain_unet, residual_encoder_unet};
use voxseg::nn::Nonlinearity;
use voxseg::ops::ValueId;
use voxseg::tensor::{HostTensor, Shape};
use voxseg::train::{Feeds, SupervisedGraph, TargetForm};

use crate::gpu;

/// The distance h on either side.
const REACH: f64 = 0.03;

/// Deviation allowed, in units of |g| / sqrt(P).
const BOUND: f64 = 0.02;

const CLASSES: usize = 3;

fn small() -> PlainNet {
    PlainNet {
        in_channels: 2,
        out_channels: CLASSES,
        features: vec![4, 6, 9],
        kernels: vec![[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        strides: vec![[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    }
}

fn patch() -> Shape {
    Shape::new(2, 2, 6, 12, 20)
}

/// A network with data, whose parameters can be moved.
struct Probe {
    executor: Executor,
    parameters: Parameters,
    /// The parameters where the gradient is taken, by name.
    point: Vec<(String, HostTensor)>,
    feeds: Feeds,
    image: Vec<f32>,
    target: Vec<f32>,
}

impl Probe {
    fn new(network: &UNetConfig, seed: u64) -> Self {
        let graph = SupervisedGraph::build(
            &network.clone().into(),
            patch(),
            TargetForm::CLASSES,
            &LossConfig::default(),
        )
        .unwrap();
        assert!(graph.logits.len() >= 2, "no deep supervision");
        let mut parameters = Parameters::new(gpu(), seed);
        parameters.ensure(&graph.graph).unwrap();
        let point = graph
            .gradients
            .keys()
            .map(|&p| {
                let name = graph.graph.value(p).name.clone();
                let value = pollster::block_on(parameters.read(&name)).unwrap();
                (name, value)
            })
            .collect();
        let feeds = graph.feeds;
        let fetched: Vec<ValueId> = std::iter::once(graph.total)
            .chain(graph.gradients.values().copied())
            .collect();
        let program = graph.compile(&fetched, gpu().profile()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let voxels = patch().with_c(1).len();
        Self {
            executor: Executor::new(program, &mut parameters).unwrap(),
            parameters,
            point,
            feeds,
            image: (0..patch().len())
                .map(|_| rng.random_range(-1.5..1.5))
                .collect(),
            target: (0..voxels)
                .map(|_| rng.random_range(0..CLASSES) as f32)
                .collect(),
        }
    }

    /// The loss and the gradients.
    fn run(&self) -> (f64, Vec<Vec<f32>>) {
        let data: [(ValueId, &[f32]); 4] = [
            (self.feeds.image, &self.image),
            (self.feeds.target, &self.target),
            (self.feeds.head_weights, &[0.7, 0.3]),
            (self.feeds.loss_scale, &[1.0]),
        ];
        let outputs = pollster::block_on(async {
            self.executor.run(&data).await.unwrap();
            self.executor.fetch().await.unwrap().unwrap()
        });
        let gradients = outputs[1..].iter().map(|g| g.data.clone()).collect();
        (f64::from(outputs[0].data[0]), gradients)
    }

    /// The loss at the point moved by `by` along `direction`, and how far the parameters moved along it: rounding to f32
    /// makes that a little more or less.
    fn moved(&mut self, direction: &[Vec<f64>], by: f64) -> (f64, f64) {
        let mut distance = 0.0;
        for ((name, value), d) in self.point.iter().zip(direction) {
            let data: Vec<f32> = value
                .data
                .iter()
                .zip(d)
                .map(|(&v, d)| (f64::from(v) + by * d) as f32)
                .collect();
            let moves = data.iter().zip(&value.data).zip(d);
            distance += moves
                .map(|((&a, &b), d)| (f64::from(a) - f64::from(b)) * d)
                .sum::<f64>();
            self.parameters.insert(name, value.shape, &data).unwrap();
        }
        (self.run().0, distance)
    }

    /// The difference quotient of the loss along `direction`.
    fn slope(&mut self, direction: &[Vec<f64>]) -> f64 {
        let (up, above) = self.moved(direction, REACH);
        let (down, below) = self.moved(direction, -REACH);
        (up - down) / (above - below)
    }
}

/// A unit vector in the space of all parameters; normally distributed components have no preferred direction, and twelve
/// even ones add up to nearly that.
fn direction(like: &[Vec<f32>], rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let normal =
        |rng: &mut ChaCha8Rng| -> f64 { (0..12).map(|_| rng.random_range(-0.5..0.5)).sum() };
    let raw: Vec<Vec<f64>> = like
        .iter()
        .map(|g| g.iter().map(|_| normal(rng)).collect())
        .collect();
    let length = dot(&raw, &raw).sqrt();
    raw.into_iter()
        .map(|part| part.into_iter().map(|v| v / length).collect())
        .collect()
}

fn dot(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| a * b).sum()
}

fn check(name: &str, network: UNetConfig) {
    let network = UNetConfig {
        nonlinearity: Nonlinearity::LeakyRelu { slope: 0.9 },
        ..network
    };
    for seed in 0..3 {
        let mut probe = Probe::new(&network, seed);
        let (loss, gradients) = probe.run();
        let g: Vec<Vec<f64>> = gradients
            .iter()
            .map(|g| g.iter().map(|&v| f64::from(v)).collect())
            .collect();
        let count = g.iter().map(Vec::len).sum::<usize>() as f64;
        let unit = dot(&g, &g).sqrt() / count.sqrt();
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
        for _ in 0..4 {
            let d = direction(&gradients, &mut rng);
            let (rule, slope) = (dot(&g, &d), probe.slope(&d));
            let off = (slope - rule).abs() / unit;
            let figures = format!(
                "{name}, seed {seed}: loss {loss:.4}, g.d {rule:.3e}, by differences {slope:.3e}, off by {off:.1e} of |g| / sqrt(P)"
            );
            println!("{figures}");
            assert!(off <= BOUND, "{figures}");
        }
    }
}

#[test]
fn plain() {
    check("plain", plain_unet(small()));
}

#[test]
fn residual_encoder() {
    check("residual", residual_encoder_unet(small(), vec![1, 2, 1]));
}
