//! Deep supervision: heads of several sizes against the f64 reference.

use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, differentiate};
use voxseg::losses::{LossConfig, Supervision, Truth, supervised_loss};
use voxseg::ops::ValueId;
use voxseg::ops::loss::LossAttributes;
use voxseg::tensor::{HostTensor, Shape};

use super::problem::{Problem, Tensor, labels, scalar, tolerance};
use crate::harness::{gpu, random_in};

/// The voxel at the centre of every block of `by` along each axis: floor((i + 1/2) * by).
fn shrink(x: &Tensor, by: usize) -> Tensor {
    let [n, c, d, h, w] = x.shape.0;
    let mut y = HostTensor::zeros(Shape::new(n, c, d / by, h / by, w / by));
    let [_, _, d, h, w] = y.shape.0;
    for i in 0..y.data.len() {
        let place = [i / w / h % d, i / w % h, i % w].map(|k| k * by + by / 2);
        let sample = i / w / h / d;
        y.data[i] = x.at([sample / c, sample % c, place[0], place[1], place[2]]);
    }
    y
}

#[test]
fn heads_are_compared_with_the_target_at_their_size_and_added_by_weight() {
    let shapes = [8, 4, 2].map(|size| Shape::new(2, 3, size, size, size));
    let logits = [0, 1, 2].map(|i| random_in(shapes[i], 10 + i as u64, -2.0, 2.0));
    let target = labels(shapes[0], 5, 2);
    let weights = Supervision::Decay { initial: 0.3 }
        .weights(3, 1, 4)
        .unwrap();

    let mut graph = Graph::new();
    let heads: Vec<ValueId> = (0..3)
        .map(|i| graph.input(&format!("head{i}"), shapes[i]).unwrap())
        .collect();
    let truth = graph.input("target", target.shape).unwrap();
    let by = graph.input("weights", Shape::vector(3)).unwrap();
    let seed = graph.input("seed", Shape::scalar()).unwrap();
    let config = LossConfig::default();
    let losses = supervised_loss(&mut graph, &heads, &Truth::labels(truth), by, &config).unwrap();
    let grads = differentiate(&mut graph, losses.total, seed, &heads).unwrap();
    let mut outputs = vec![losses.total];
    outputs.extend(heads.iter().map(|h| grads[h]));
    let profile = gpu().profile().clone();
    let program = Program::compile(graph, &outputs, &profile, ProgramOptions::default()).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    let small = [&logits[0], &logits[1], &logits[2], &target].map(Tensor::to_f32);
    let mut data: Vec<(ValueId, &[f32])> = heads
        .iter()
        .chain([&truth])
        .zip(&small)
        .map(|(&id, t)| (id, t.data.as_slice()))
        .collect();
    data.extend([(by, weights.as_slice()), (seed, &[1.0])]);
    let found = pollster::block_on(async {
        executor.run(&data).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });

    let mut total = 0.0;
    for i in 0..3 {
        let mut problem = Problem::new("head", LossAttributes::dice_ce(), shapes[i]);
        problem.target = shrink(&target, 1 << i);
        let graded = problem.reference(&logits[i]);
        let weight = f64::from(weights[i]);
        total += weight * graded.loss;
        let mut expected = graded.gradient;
        expected.data.iter_mut().for_each(|d| *d *= weight);
        tolerance()
            .compare("gradient of a head", &found[i + 1], &expected)
            .unwrap();
    }
    tolerance()
        .compare("total", &found[0], &scalar(total))
        .unwrap();
}

#[test]
fn a_network_without_heads_or_with_too_few_weights_is_refused() {
    let mut graph = Graph::new();
    let head = graph.input("head", Shape::new(1, 2, 1, 4, 4)).unwrap();
    let target = graph.input("target", Shape::new(1, 1, 1, 4, 4)).unwrap();
    let weights = graph.input("weights", Shape::vector(2)).unwrap();
    let truth = Truth::labels(target);
    let config = LossConfig::default();
    assert!(supervised_loss(&mut graph, &[], &truth, weights, &config).is_err());
    let error = supervised_loss(&mut graph, &[head], &truth, weights, &config).unwrap_err();
    assert!(error.to_string().contains("weights"), "{error}");
}
