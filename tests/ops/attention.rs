//! Self-attention against the f64 reference, central differences, and PyTorch.

use voxseg::ops::attention::{SelfAttention, VARIANTS};
use voxseg::ops::{OpError, Operator};
use voxseg::reference::Tolerance;
use voxseg::reference::attention as reference;
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::{Fixture, Stored};
use crate::harness::{Case, check_reference_gradient, random, random_in};

/// exp(d) errs by |d| roundings of its argument, and scores here differ by up to 16.
const EXP: f64 = 16.0;

/// Heads, and queries, keys and values side by side: tokens in a row, in an image, in a volume; odd, in fours, one, more than a
/// workgroup or a block of keys takes, just as many, and one more or less; heads of one channel, of one tile, of one
/// channel more, and of more than one tile.
const PROBLEMS: [(usize, Shape); 12] = [
    (3, Shape::new(2, 27, 1, 1, 197)),
    (2, Shape::new(1, 24, 2, 3, 4)),
    (1, Shape::new(2, 3, 1, 1, 17)),
    (2, Shape::new(1, 120, 1, 7, 10)),
    (2, Shape::new(1, 12, 1, 16, 24)),
    (1, Shape::new(3, 6, 1, 1, 1)),
    (3, Shape::new(2, 153, 1, 1, 1)),
    (2, Shape::new(1, 96, 1, 8, 8)),
    (1, Shape::new(1, 51, 1, 5, 13)),
    (2, Shape::new(1, 30, 1, 3, 21)),
    (1, Shape::new(2, 15, 1, 1, 16)),
    (1, Shape::new(1, 96, 1, 1, 9)),
];

fn check(
    name: &str,
    heads: usize,
    qkv: &HostTensor<f64>,
    outputs: &[HostTensor<f64>; 2],
    [dy, grad]: [&HostTensor<f64>; 2],
) {
    let terms = qkv.shape.voxels() + qkv.shape.c() / 3;
    let tolerance = Tolerance::for_terms(terms).amplified(EXP);
    for variant in VARIANTS {
        let op = SelfAttention { heads };
        let case = Case::new(name, op, vec![(qkv.clone(), true)]);
        let case = case.with_variant("attention", variant);
        case.check_forward(outputs, tolerance);
        let dys = [Some(dy.clone()), None];
        case.check_backward(&dys, &[Some(grad.clone())], tolerance);
    }
}

#[test]
fn the_reference_gradient_agrees_with_central_differences() {
    let qkv = random_in(Shape::new(2, 12, 1, 1, 5), 1, -2.0, 2.0);
    let dy = random(qkv.shape.with_c(4), 2);
    let grad = reference::backward(&qkv, 2, &dy);
    check_reference_gradient("attention", &qkv, &grad, &dy, |qkv| {
        let [y, _] = reference::forward(qkv, 2);
        y
    });
}

#[test]
fn attention_matches_the_reference_forward_and_backward() {
    for (heads, shape) in PROBLEMS {
        let qkv = random_in(shape, 1, -2.0, 2.0);
        let dy = random(shape.with_c(shape.c() / 3), 2);
        let outputs = reference::forward(&qkv, heads);
        let grad = reference::backward(&qkv, heads, &dy);
        let name = format!("attention of {shape} with {heads} heads");
        check(&name, heads, &qkv, &outputs, [&dy, &grad]);
    }
}

#[test]
fn heads_whose_scores_do_not_lie_in_scratch_space_together_take_turns() {
    // Four heads at a time: 16 MiB.
    let (heads, shape) = (5, Shape::new(1, 15, 1, 32, 32));
    let qkv = random_in(shape, 1, -2.0, 2.0);
    let dy = random(shape.with_c(heads), 2);
    let outputs = reference::forward(&qkv, heads);
    let grad = reference::backward(&qkv, heads, &dy);
    let case = Case::new("heads in turns", SelfAttention { heads }, vec![(qkv, true)]).in_f32();
    let case = case.with_variant("attention", VARIANTS[0]);
    let tolerance = Tolerance::for_terms(shape.voxels() + 1).amplified(EXP);
    case.check_forward(&outputs, tolerance);
    case.check_backward(&[Some(dy), None], &[Some(grad)], tolerance);
}

/// Queries and keys whose scores are all about `level`, with heads of four channels: the first of each makes the level, the others
/// what distinguishes them.
fn about(level: f64, heads: usize, tokens: usize) -> HostTensor<f64> {
    let channels = 4 * heads;
    let shape = Shape::new(2, 3 * channels, 1, 1, tokens);
    let mut qkv = random_in(shape, 7, -2.0, 2.0);
    // Scores are divided by sqrt(4).
    let side = (2.0 * level.abs()).sqrt().round();
    for n in 0..shape.n() {
        for c in (0..channels).step_by(4) {
            for t in 0..tokens {
                *qkv.at_mut([n, c, 0, 0, t]) = side;
                *qkv.at_mut([n, channels + c, 0, 0, t]) = side * level.signum();
            }
        }
    }
    qkv
}

#[test]
fn scores_far_from_zero_have_the_gradients_of_their_differences() {
    // exp of such a score is infinite or 0, and that of the difference to what stands in beyond the end is infinite.
    for level in [-1000.0, 1000.0] {
        for tokens in [1, 13, 16, 67] {
            let heads = 2;
            let qkv = about(level, heads, tokens);
            let dy = random(qkv.shape.with_c(4 * heads), 2);
            let outputs = reference::forward(&qkv, heads);
            let grad = reference::backward(&qkv, heads, &dy);
            let weights = outputs[1].data.iter();
            assert!(weights.clone().all(|lse| (lse - level).abs() < 100.0));
            for variant in VARIANTS {
                let op = SelfAttention { heads };
                let name = format!("{tokens} tokens, scores about {level}, {variant}");
                let case = Case::new(name, op, vec![(qkv.clone(), true)]).in_f32();
                let case = case.with_variant("attention", variant);
                // A score errs by as many roundings as it has units.
                let tolerance = Tolerance::for_terms(tokens + 4).amplified(level.abs());
                case.check_forward(&outputs, tolerance);
                let dys = [Some(dy.clone()), None];
                case.check_backward(&dys, &[Some(grad.clone())], tolerance);
            }
        }
    }
}

#[test]
fn where_a_query_sees_one_key_alone_the_gradients_are_exact() {
    // Token t has the only query and the only key along channel t: the score of its own key is a product of two numbers, any
    // other 0. It is half a million, so that p would be far from 1 were it rounded otherwise in one pass than in another.
    let level = |part: usize, t: usize| {
        let (first, step) = [(2047.3, 3.7), (1931.7, -5.3)][part];
        f64::from((first + step * t as f64) as f32)
    };
    let tokens = 19;
    let channels = 4 * tokens;
    let shape = Shape::new(1, 3 * channels, 1, 1, tokens);
    let mut qkv = random(shape, 3);
    for c in 0..channels {
        for t in 0..tokens {
            for part in [0, 1] {
                let value = if c == t { level(part, t) } else { 0.0 };
                *qkv.at_mut([0, part * channels + c, 0, 0, t]) = value;
            }
        }
    }
    let dy = random(shape.with_c(channels), 2);
    let grad = reference::backward(&qkv, 1, &dy);
    for variant in VARIANTS {
        let op = SelfAttention { heads: 1 };
        let case = Case::new(variant, op, vec![(qkv.clone(), true)]).in_f32();
        let case = case.with_variant("attention", variant);
        let found = case.run(false, Some((&[Some(dy.clone()), None], &[true])));
        for (i, (&found, &expected)) in found[0].data.iter().zip(&grad.data).enumerate() {
            let (found, part) = (f64::from(found), i / (channels * tokens));
            match part {
                // What is one key's alone is that key's: p = 1, and nothing is gained by another weight.
                0 | 1 => assert!(found.abs() <= 1e-2, "{variant}: element {i} is {found}"),
                _ => assert!(
                    (found - expected).abs() <= 1e-5,
                    "{variant}: element {i} is {found}, not {expected}"
                ),
            }
        }
    }
}

#[test]
fn scores_beyond_the_range_of_exp_are_no_trouble() {
    // Up to 1600 apart: each query sees one key, up to f32's smallest numbers.
    let qkv = random_in(Shape::new(1, 12, 1, 1, 40), 1, -40.0, 40.0);
    let outputs = reference::forward(&qkv, 1);
    for variant in VARIANTS {
        let op = SelfAttention { heads: 1 };
        let case = Case::new("far apart", op, vec![(qkv.clone(), true)]).in_f32();
        // A score of 1600 is rounded by 1600 epsilon, and two keys may be close.
        let tolerance = Tolerance::for_terms(4).amplified(1600.0);
        let case = case.with_variant("attention", variant);
        case.check_forward(&outputs, tolerance);
    }
}

/// Adds (N, heads, tokens, channels) of PyTorch as channels of (N, 3 E, 1, 1, L) from part `part` of `parts` on.
fn put(target: &mut HostTensor<f64>, stored: &Stored, part: usize) {
    let [_, heads, tokens, channels] = stored.shape[..] else {
        panic!("{:?}", stored.shape)
    };
    for (i, &v) in stored.data.iter().enumerate() {
        let (c, t) = (i % channels, i / channels % tokens);
        let (h, n) = (i / channels / tokens % heads, i / channels / tokens / heads);
        let channel = (part * heads + h) * channels + c;
        *target.at_mut([n, channel, 0, 0, t]) = f64::from(v);
    }
}

#[test]
fn attention_matches_pytorch() {
    let fixture = Fixture::load("ops_matmul");
    let mut seen = 0;
    for case in fixture.cases().filter(|case| case.op() == "attention") {
        let [n, heads, tokens, channels] = case.tensor("q").shape[..] else {
            panic!("{}", case.name())
        };
        let shape = Shape::new(n, heads * channels, 1, 1, tokens);
        let joined = |keys: &[&str]| {
            let mut all = HostTensor::zeros(shape.with_c(keys.len() * heads * channels));
            for (part, key) in keys.iter().enumerate() {
                put(&mut all, case.tensor(key), part);
            }
            all
        };
        let (qkv, grad) = (joined(&["q", "k", "v"]), joined(&["dq", "dk", "dv"]));
        let (y, dy) = (joined(&["y"]), joined(&["dy"]));
        let [_, logarithms] = reference::forward(&qkv, heads);
        check(case.name(), heads, &qkv, &[y, logarithms], [&dy, &grad]);
        seen += 1;
    }
    assert_eq!(seen, 1);
}

#[test]
fn channels_that_are_not_three_times_whole_heads_are_refused() {
    for (heads, channels) in [(0, 12), (2, 9), (4, 6)] {
        let shape = Shape::new(1, channels, 1, 1, 5);
        let error = SelfAttention { heads }.infer(&[shape]).unwrap_err();
        assert!(matches!(error, OpError::Shape { .. }), "{error}");
    }
}
