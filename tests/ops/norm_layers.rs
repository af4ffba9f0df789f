//! Layers of normalisation as graphs: against PyTorch, running statistics, and what is refused.

use voxseg::graph::{Executor, Graph, Init, Parameters, Program, ProgramOptions, differentiate};
use voxseg::ops::activation::Activation;
use voxseg::ops::norm::{
    NormApply, NormKind, NormParameters, NormStats, RunningStats, batch_norm_eval,
    batch_norm_train, instance_norm,
};
use voxseg::ops::{Operator, ValueId};
use voxseg::reference::Tolerance;
use voxseg::reference::norm as reference;
use voxseg::tensor::{HostTensor, Shape};

use crate::conv::tensor;
use crate::fixtures::Fixture;
use crate::harness::{Case, gpu, random};
use crate::norm::{EPS, rounded, sets_of, vector};

/// Builds a graph, runs it once and gives `outputs` and then the named states.
pub fn run(
    build: impl FnOnce(&mut Graph) -> Vec<ValueId>,
    feeds: &[(&str, &HostTensor<f64>)],
    states: &[&str],
) -> (Vec<HostTensor>, Vec<HostTensor>) {
    let mut graph = Graph::new();
    let outputs = build(&mut graph);
    let data: Vec<(ValueId, Vec<f32>)> = feeds
        .iter()
        .map(|(name, t)| (graph.find(name).unwrap(), t.to_f32().data))
        .collect();
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &outputs, gpu().profile(), options).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    pollster::block_on(async {
        let views: Vec<_> = data.iter().map(|(id, d)| (*id, d.as_slice())).collect();
        executor.run(&views).await.unwrap();
        let found = executor.fetch().await.unwrap().unwrap();
        let mut kept = Vec::new();
        for name in states {
            kept.push(parameters.read(name).await.unwrap());
        }
        (found, kept)
    })
}

fn layer_inputs(graph: &mut Graph, x: Shape) -> (ValueId, NormParameters) {
    let vector = Shape::vector(x.c());
    let parameters = NormParameters {
        gamma: graph.input("gamma", vector).unwrap(),
        beta: graph.input("beta", vector).unwrap(),
        slope: None,
    };
    (graph.input("x", x).unwrap(), parameters)
}

#[test]
fn a_single_voxel_is_shifted_only() {
    let shape = Shape::new(1, 3, 1, 1, 1);
    let (x, gamma, beta) = (random(shape, 1), random(shape, 2), random(shape, 3));
    let build = |graph: &mut Graph| {
        let (x, parameters) = layer_inputs(graph, shape);
        let y = instance_norm(graph, x, parameters, EPS, None).unwrap();
        let seed = graph.input("dy", shape).unwrap();
        let grads = differentiate(graph, y, seed, &[x]).unwrap();
        vec![y, grads[&x]]
    };
    let feeds = [("x", &x), ("gamma", &gamma), ("beta", &beta), ("dy", &x)];
    let (found, _) = run(build, &feeds, &[]);
    assert_eq!(found[0].data, beta.to_f32().data);
    assert_eq!(found[1].data, [0.0; 3]);
}

#[test]
fn normalisation_matches_pytorch() {
    let fixture = Fixture::load("ops_norm");
    let mut seen = 0;
    for case in fixture.cases() {
        let x = tensor_or_skip(&case);
        let Some(x) = x else { continue };
        let c = x.shape.c();
        let kind = match case.op() {
            "batch_norm" => NormKind::Batch,
            "instance_norm" => NormKind::Instance,
            "group_norm" => NormKind::Group {
                groups: case.number("groups") as usize,
            },
            _ => continue,
        };
        let constant_stats = case.op() == "batch_norm" && !case.flag("training");
        let (mean, variance) = match constant_stats {
            true => ["running_mean", "running_var"]
                .map(|k| tensor(&case, k).data)
                .into(),
            false => reference::statistics(&x, sets_of(kind, x.shape)),
        };
        let rstd = rounded(&reference::rstd(&variance, case.number("eps")));
        // The mean is rounded to f32; in (x - mean) * rstd that error counts |mean| * rstd times.
        let condition = mean
            .iter()
            .zip(&rstd)
            .fold(1.0, |worst: f64, (m, r)| worst.max(m.abs() * r));
        let of_affine = |key: &str, plain: f64| match case.optional(key) {
            Some(_) => tensor(&case, key),
            None => vector(&vec![plain; c]),
        };
        let shape = kind.stats_shape("test", x.shape).unwrap();
        let stats = [mean, rstd].map(|data| (HostTensor { shape, data }, false));
        let affine = [of_affine("w", 1.0), of_affine("b", 0.0)].map(|t| (t, false));
        let inputs = [vec![(x, true)], stats.to_vec(), affine.to_vec()].concat();
        let op = NormApply {
            kind,
            activation: None,
            constant_stats,
        };
        let run = Case::new(format!("PyTorch {}", case.name()), op, inputs);
        let y = tensor(&case, "y");
        let tolerance = Tolerance::for_terms(y.shape.n() * y.shape.voxels()).amplified(condition);
        run.check_forward(&[y], tolerance);
        let grad = |key: &str| case.optional(key).map(|_| tensor(&case, key));
        let expected = [grad("dx"), None, None, grad("dw"), grad("db")];
        run.check_backward(&[Some(tensor(&case, "dy"))], &expected, tolerance);
        seen += 1;
    }
    assert_eq!(seen, 11);
}

/// The x of a case; `None` where it is not (N, C, D, H, W), as in layer normalisation of tokens.
fn tensor_or_skip(case: &crate::fixtures::Case<'_>) -> Option<HostTensor<f64>> {
    (case.tensor("x").shape.len() == 5).then(|| tensor(case, "x"))
}

#[test]
fn batch_norm_keeps_running_statistics_as_pytorch_does() {
    let fixture = Fixture::load("ops_norm");
    for case in fixture.cases().filter(|c| c.op() == "batch_norm") {
        let [x, gamma, beta, y] = ["x", "w", "b", "y"].map(|k| tensor(&case, k));
        let training = case.flag("training");
        let [eps, momentum] = ["eps", "momentum"].map(|k| case.number(k) as f32);
        let before = ["running_mean", "running_var"].map(|k| tensor(&case, k));
        let build = |graph: &mut Graph| {
            let (x, parameters) = layer_inputs(graph, x.shape);
            let shape = before[0].shape;
            let running = match training {
                // A first step from 0 and 1; what the fixture starts from is put in below.
                true => RunningStats {
                    mean: graph.state("mean", shape, Init::Constant(0.0)).unwrap(),
                    variance: graph.state("var", shape, Init::Constant(1.0)).unwrap(),
                },
                false => RunningStats {
                    mean: graph.input("mean", shape).unwrap(),
                    variance: graph.input("var", shape).unwrap(),
                },
            };
            let y = match training {
                true => batch_norm_train(graph, x, parameters, running, [eps, momentum], None),
                false => batch_norm_eval(graph, x, parameters, running, eps, None),
            };
            vec![y.unwrap()]
        };
        let mut feeds = vec![("x", &x), ("gamma", &gamma), ("beta", &beta)];
        let states: &[&str] = if training { &["mean", "var"] } else { &[] };
        if !training {
            feeds.extend([("mean", &before[0]), ("var", &before[1])]);
        }
        let (found, kept) = run(build, &feeds, states);
        let tolerance = Tolerance::for_terms(y.shape.n() * y.shape.voxels());
        tolerance.compare(case.name(), &found[0], &y).unwrap();
        let keep = 1.0 - case.number("momentum");
        for (i, start) in [0.0, 1.0].into_iter().enumerate().take(kept.len()) {
            let mut after = tensor(&case, ["running_mean_out", "running_var_out"][i]);
            for (v, was) in after.data.iter_mut().zip(&before[i].data) {
                *v += keep * (start - was);
            }
            tolerance.compare("running", &kept[i], &after).unwrap();
        }
    }
}

#[test]
fn running_statistics_keep_their_values_where_a_batch_overflows() {
    let shape = Shape::new(2, 4, 1, 1, 3);
    let mut x = random(shape, 5);
    let at = |c: usize| c * shape.voxels();
    // A mean that is not finite, NaN in the sums, and a variance that overflows around a finite mean.
    x.data[at(1)] = f64::INFINITY;
    x.data[at(2)] = f64::NAN;
    x.data[at(3)] = 3e30;
    x.data[at(3) + 1] = -3e30;
    let build = |graph: &mut Graph| {
        let (x, parameters) = layer_inputs(graph, shape);
        let mut state = |name, start| {
            let start = Init::Constant(start);
            graph.state(name, Shape::vector(4), start).unwrap()
        };
        let running = RunningStats {
            mean: state("mean", 3.0),
            variance: state("var", 2.0),
        };
        let rates = [EPS, 0.1];
        vec![batch_norm_train(graph, x, parameters, running, rates, None).unwrap()]
    };
    let (gamma, beta) = (vector(&[1.0; 4]), vector(&[0.0; 4]));
    let feeds = [("x", &x), ("gamma", &gamma), ("beta", &beta)];
    let (_, kept) = run(build, &feeds, &["mean", "var"]);
    for (kept, old) in kept.iter().zip([3.0, 2.0]) {
        assert!(kept.data[0].is_finite() && kept.data[0] != old, "{kept:?}");
        assert_eq!(kept.data[1..], [old; 3]);
    }
}

#[test]
fn a_misfit_is_refused_with_the_reason() {
    let x = Shape::new(1, 6, 2, 5, 5);
    let text = |kind, eps| {
        let error = NormStats { kind, eps }.infer(&[x]).unwrap_err();
        error.to_string()
    };
    assert!(text(NormKind::Group { groups: 4 }, EPS).contains("4 groups divide"));
    assert!(text(NormKind::Group { groups: 0 }, EPS).contains("0 groups divide"));
    assert!(text(NormKind::Instance, 0.0).contains("positive"));
    let op = NormApply {
        kind: NormKind::Instance,
        activation: Some(Activation::Prelu),
        constant_stats: false,
    };
    let [stats, vector] = [Shape::new(1, 6, 1, 1, 1), Shape::vector(6)];
    let inputs = [x, stats, stats, vector, vector];
    let error = op.infer(&inputs).unwrap_err().to_string();
    assert!(error.contains("takes 6 inputs, found 5"), "{error}");
}
