//! Several steps at sizes that are no multiple of a workgroup, with clipping and weight decay, against the reference.

use voxseg::optim::OptimizerConfig;
use voxseg::reference::Tolerance;
use voxseg::reference::optim::{AdamW, Sgd, clip_scale, gradient_norm};
use voxseg::tensor::{HostTensor, Shape};

use super::{Setup, compare};
use crate::harness::random;

/// Elements of the parameters: below, at and above workgroups of 256 and sums of 4096; even ones have two rows.
const LENS: [usize; 6] = [1, 30, 255, 257, 4097, 8194];

/// Learning rate and the size of the gradients in each step: the second is below the limit of the norm.
const STEPS: [(f64, f64); 6] = [
    (0.1, 4.0),
    (0.1, 0.001),
    (0.03, 1.0),
    (0.05, 40.0),
    (0.01, 0.5),
    (0.0, 2.0),
];

const MAX_NORM: f32 = 1.5;

/// Parameter and states of the reference, and the prefixes of their names on the device.
struct Truth {
    tensors: Vec<[HostTensor<f64>; 3]>,
    names: &'static [&'static str],
}

/// Runs all steps on the device and, by `step`, in the reference, and compares after each of them.
fn check(
    name: &str,
    config: OptimizerConfig,
    names: &'static [&'static str],
    step: impl Fn(&mut [HostTensor<f64>; 3], &HostTensor<f64>, f64, u32),
) {
    for embed in [false, true] {
        let mut truth = Truth {
            tensors: LENS.map(start).to_vec(),
            names,
        };
        let values: Vec<Vec<f32>> = truth.tensors.iter().map(|t| t[0].to_f32().data).collect();
        let views: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let setup = Setup::build(config, &views, embed, None);
        for (t, (rate, size)) in (1..).zip(STEPS) {
            let mut grads = gradients(size, t);
            let fed: Vec<Vec<f32>> = grads.iter().map(|g| g.to_f32().data).collect();
            let views: Vec<&[f32]> = fed.iter().map(Vec::as_slice).collect();
            let found = setup.step(&views, rate, u64::from(t) - 1);
            let norm = gradient_norm(&grads);
            let scale = clip_scale(norm, Some(f64::from(MAX_NORM)));
            assert_eq!(scale < 1.0, t != 2, "step {t} has norm {norm}");
            for (tensor, g) in truth.tensors.iter_mut().zip(&mut grads) {
                g.data.iter_mut().for_each(|v| *v *= scale);
                step(tensor, g, rate, t);
            }
            let label = format!("{name} step {t}{}", if embed { " embedded" } else { "" });
            check_scalars(&label, found, [norm, scale]);
            truth.check(&setup, &label, t as usize);
        }
    }
}

fn start(len: usize) -> [HostTensor<f64>; 3] {
    let shape = match len {
        1 => Shape::scalar(),
        len if len % 2 == 0 => Shape::new(2, 1, 1, 1, len / 2),
        len => Shape::new(1, 1, 1, 1, len),
    };
    let zeros = HostTensor::<f64>::zeros(shape);
    [random(shape, len as u64), zeros.clone(), zeros]
}

/// Rounded to f32, so that the reference sees what the device sees.
fn gradients(size: f64, t: u32) -> Vec<HostTensor<f64>> {
    let draw = |len: usize| {
        let [like, ..] = start(len);
        let mut g = random(like.shape, 100 * u64::from(t) + len as u64);
        g.data
            .iter_mut()
            .for_each(|v| *v = f64::from((*v * size) as f32));
        g
    };
    LENS.map(draw).to_vec()
}

fn vector<T: Copy>(data: Vec<T>) -> HostTensor<T> {
    HostTensor {
        shape: Shape::vector(data.len()),
        data,
    }
}

/// A lane adds 16 squares, a tree 256 lanes, and the last kernel the few partial sums.
fn check_scalars(label: &str, found: [f32; 2], expected: [f64; 2]) {
    for ((what, found), expected) in ["norm", "clip scale"].iter().zip(found).zip(expected) {
        let (found, expected) = (vector(vec![found]), vector(vec![expected]));
        let label = format!("{label} {what}");
        compare(&label, &found, &expected, Tolerance::for_terms(32));
    }
}

impl Truth {
    /// Some eight roundings a step, which add up. All parameters are compared as one vector: in one of a single element
    /// nothing tells the size of the terms that cancel in it.
    fn check(&self, setup: &Setup, label: &str, steps: usize) {
        for (k, prefix) in self.names.iter().enumerate() {
            let read = |i: usize| setup.read(&format!("{prefix}p{i}")).data;
            let found: Vec<f32> = (0..LENS.len()).flat_map(read).collect();
            let expected = self.tensors.iter().flat_map(|t| t[k].data.clone());
            compare(
                &format!("{label} {prefix}"),
                &vector(found),
                &vector(expected.collect()),
                Tolerance::for_terms(8 * steps),
            );
        }
    }
}

#[test]
fn sgd() {
    for (nesterov, momentum, weight_decay) in [(true, 0.99, 0.01), (false, 0.9, 0.1)] {
        let config = OptimizerConfig::Sgd {
            momentum,
            nesterov,
            weight_decay,
            max_norm: Some(MAX_NORM),
        };
        let reference = Sgd {
            momentum: f64::from(momentum),
            weight_decay: f64::from(weight_decay),
            nesterov,
        };
        let name = format!("sgd, nesterov {nesterov}");
        check(
            &name,
            config,
            &["", "momentum/"],
            |[w, m, _], g, rate, _| {
                reference.step([w, m], g, rate);
            },
        );
    }
}

#[test]
fn adamw() {
    let (epsilon, weight_decay) = (1e-8, 0.1);
    let config = OptimizerConfig::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon,
        weight_decay,
        max_norm: Some(MAX_NORM),
    };
    let reference = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: f64::from(epsilon),
        weight_decay: f64::from(weight_decay),
    };
    let names = &["", "adam.m/", "adam.v/"];
    check("adamw", config, names, |[w, m, v], g, rate, t| {
        reference.step([w, m, v], g, rate, t);
    });
}
