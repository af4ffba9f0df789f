//! Normalisation against the f64 reference, central differences, and PyTorch.

use voxseg::graph::{Executor, Graph, Init, Parameters, Program, ProgramOptions, differentiate};
use voxseg::ops::activation::Activation;
use voxseg::ops::norm::{
    NormApply, NormKind, NormParameters, NormStats, RunningStats, batch_norm_eval,
    batch_norm_train, instance_norm,
};
use voxseg::ops::{Operator, ValueId};
use voxseg::reference::Tolerance;
use voxseg::reference::activation::Function;
use voxseg::reference::norm::{self as reference, Gradients, Layer, Sets};
use voxseg::tensor::{HostTensor, Shape};

use crate::conv::tensor;
use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, gpu, halves, random, random_in};

const EPS: f32 = 1e-5;

/// The same function for the reference.
pub fn function_of(activation: Option<Activation>) -> Function {
    match activation {
        None => Function::Identity,
        Some(Activation::Relu) => Function::Relu,
        Some(Activation::LeakyRelu { .. } | Activation::Prelu) => Function::Leaky,
        Some(Activation::Relu6) => Function::Relu6,
        Some(Activation::HardSwish) => Function::HardSwish,
        Some(Activation::HardSigmoid) => Function::HardSigmoid,
        Some(Activation::Sigmoid) => Function::Sigmoid,
    }
}

fn sets_of(kind: NormKind, shape: Shape) -> Sets {
    match kind {
        NormKind::Instance => Sets::PerSample { groups: shape.c() },
        NormKind::Group { groups } => Sets::PerSample { groups },
        NormKind::Batch => Sets::PerChannel,
    }
}

fn vector(data: &[f64]) -> HostTensor<f64> {
    HostTensor {
        shape: Shape::vector(data.len()),
        data: data.to_vec(),
    }
}

/// Rounded to f32, so that the reference computes with what the device gets.
fn rounded(data: &[f64]) -> Vec<f64> {
    data.iter().map(|&v| f64::from(v as f32)).collect()
}

struct Example {
    op: NormApply,
    x: HostTensor<f64>,
    dy: HostTensor<f64>,
    mean: Vec<f64>,
    rstd: Vec<f64>,
    layer: Layer,
}

impl Example {
    fn new(kind: NormKind, activation: Option<Activation>, shape: Shape) -> Self {
        let x = halves(random_in(shape, 1, -1.0, 3.0));
        let (mean, variance) = reference::statistics(&x, sets_of(kind, shape));
        let c = shape.c();
        let slopes = match activation {
            Some(Activation::LeakyRelu { slope }) => vec![f64::from(slope)],
            _ => random_in(Shape::vector(c), 4, 0.1, 0.4).data,
        };
        Self {
            op: NormApply {
                kind,
                activation,
                constant_stats: false,
            },
            dy: halves(random(shape, 5)),
            mean: rounded(&mean),
            rstd: rounded(&reference::rstd(&variance, f64::from(EPS))),
            layer: Layer {
                // Wide enough for the corners at 3 and 6.
                gamma: random_in(Shape::vector(c), 2, 2.0, 4.0).data,
                beta: random(Shape::vector(c), 3).data,
                function: function_of(activation),
                slopes,
            },
            x,
        }
    }

    fn sets(&self) -> Sets {
        sets_of(self.op.kind, self.x.shape)
    }

    fn case(&self) -> Case {
        let stats = self.op.kind.stats_shape("test", self.x.shape).unwrap();
        let of_stats = |data: &[f64]| HostTensor {
            shape: stats,
            data: data.to_vec(),
        };
        let mut inputs = vec![
            (self.x.clone(), true),
            (of_stats(&self.mean), false),
            (of_stats(&self.rstd), false),
            (vector(&self.layer.gamma), false),
            (vector(&self.layer.beta), false),
        ];
        if self.op.activation == Some(Activation::Prelu) {
            inputs.push((vector(&self.layer.slopes), false));
        }
        let name = format!("{:?} of {}", self.op, self.x.shape);
        Case::new(name, self.op.clone(), inputs)
    }

    /// By the kernels of the device, and where voxels come in eights by those that take packs of four too.
    fn check(&self) {
        self.check_case(&self.case());
        if self.x.shape.voxels().is_multiple_of(8) {
            self.check_case(&self.case().with_variant("norm", "packs"));
        }
    }

    fn check_case(&self, case: &Case) {
        let y = self
            .layer
            .forward(&self.x, self.sets(), &self.mean, &self.rstd);
        case.check_forward(&[y], Tolerance::for_terms(4));
        let stats = (self.mean.as_slice(), self.rstd.as_slice());
        let through = !self.op.constant_stats;
        let g = self
            .layer
            .backward(&self.x, self.sets(), stats, &self.dy, through);
        let Gradients {
            dx,
            dgamma,
            dbeta,
            dslopes,
        } = g;
        let mut expected = vec![Some(dx), None, None, Some(dgamma), Some(dbeta)];
        if self.op.activation == Some(Activation::Prelu) {
            expected.push(Some(dslopes));
        }
        let terms = self.x.shape.n() * self.x.shape.voxels();
        case.check_backward(
            &[Some(self.dy.clone())],
            &expected,
            Tolerance::for_terms(terms),
        );
    }
}

fn activations() -> Vec<Option<Activation>> {
    std::iter::once(None)
        .chain(Activation::ALL.map(Some))
        .collect()
}

const ODD: Shape = Shape::new(2, 3, 5, 6, 7);
const IN_FOURS: Shape = Shape::new(2, 6, 3, 5, 8);
/// More than one block of a channel, the last one not full.
const LONG: Shape = Shape::new(2, 2, 21, 30, 52);
/// A row of one workgroup of four steps.
const MIDDLE: Shape = Shape::new(2, 3, 9, 10, 11);
/// The same in words of eight voxels; [`IN_FOURS`] and [`LONG`] lie in words too.
const MIDDLE_WORDS: Shape = Shape::new(2, 3, 9, 10, 12);
/// Enough partial results for two merges before the last.
const LONGEST_ODD: Shape = Shape::new(1, 1, 37, 101, 103);
const LONG_ODD: Shape = Shape::new(1, 2, 21, 31, 17);

#[test]
fn the_reference_gradients_agree_with_central_differences() {
    let small = Shape::new(2, 4, 2, 2, 3);
    let kinds = [
        NormKind::Instance,
        NormKind::Batch,
        NormKind::Group { groups: 2 },
    ];
    for kind in kinds {
        for activation in activations() {
            let e = Example::new(kind, activation, small);
            let forward = |x: &HostTensor<f64>, layer: &Layer| {
                let (mean, variance) = reference::statistics(x, e.sets());
                layer.forward(x, e.sets(), &mean, &reference::rstd(&variance, 1e-5))
            };
            let (mean, variance) = reference::statistics(&e.x, e.sets());
            let rstd = reference::rstd(&variance, 1e-5);
            let g = e
                .layer
                .backward(&e.x, e.sets(), (&mean, &rstd), &e.dy, true);
            check_reference_gradient("norm dx", &e.x, &g.dx, &e.dy, |x| forward(x, &e.layer));
            let gamma = vector(&e.layer.gamma);
            check_reference_gradient("norm dgamma", &gamma, &g.dgamma, &e.dy, |gamma| {
                let layer = Layer {
                    gamma: gamma.data.clone(),
                    ..e.layer.clone()
                };
                forward(&e.x, &layer)
            });
            let beta = vector(&e.layer.beta);
            check_reference_gradient("norm dbeta", &beta, &g.dbeta, &e.dy, |beta| {
                let layer = Layer {
                    beta: beta.data.clone(),
                    ..e.layer.clone()
                };
                forward(&e.x, &layer)
            });
            if e.op.activation == Some(Activation::Prelu) {
                let slopes = vector(&e.layer.slopes);
                check_reference_gradient("norm dslopes", &slopes, &g.dslopes, &e.dy, |slopes| {
                    let layer = Layer {
                        slopes: slopes.data.clone(),
                        ..e.layer.clone()
                    };
                    forward(&e.x, &layer)
                });
            }
        }
    }
}

#[test]
fn every_activation_is_fused_forward_and_backward() {
    for activation in activations() {
        Example::new(NormKind::Instance, activation, ODD).check();
        Example::new(NormKind::Instance, activation, IN_FOURS).check();
    }
}

#[test]
fn every_kind_has_the_whole_gradient() {
    let leaky = Some(Activation::LeakyRelu { slope: 0.01 });
    for shape in [ODD, IN_FOURS, MIDDLE, MIDDLE_WORDS, LONG, LONG_ODD] {
        Example::new(NormKind::Batch, leaky, shape).check();
        Example::new(NormKind::Group { groups: 1 }, leaky, shape).check();
    }
    Example::new(NormKind::Instance, leaky, LONG).check();
    Example::new(NormKind::Instance, leaky, LONGEST_ODD).check();
    Example::new(NormKind::Instance, Some(Activation::Prelu), LONG_ODD).check();
    Example::new(NormKind::Instance, Some(Activation::Prelu), LONG).check();
    Example::new(NormKind::Group { groups: 3 }, leaky, IN_FOURS).check();
}

#[test]
fn there_may_be_more_rows_than_an_axis_of_a_grid_counts() {
    let shape = Shape::new(260, 256, 1, 1, 2);
    Example::new(NormKind::Batch, Some(Activation::Relu), shape).check();
    Example::new(NormKind::Group { groups: 64 }, None, shape).check();
    // Of two numbers, so that rounding them may change their deviation by much.
    check_stats(NormKind::Instance, halves(random(shape, 6)));
}

#[test]
fn running_statistics_are_constants_to_the_gradient() {
    for shape in [ODD, IN_FOURS] {
        let mut e = Example::new(NormKind::Batch, Some(Activation::Relu), shape);
        e.op.constant_stats = true;
        e.check();
    }
}

fn check_stats(kind: NormKind, x: HostTensor<f64>) {
    let in_words = x.shape.voxels().is_multiple_of(8);
    let (case, expected, tolerance) = stats_case(kind, x);
    case.check_forward(&expected, tolerance);
    if in_words {
        let case = case.with_variant("norm", "packs");
        case.check_forward(&expected, tolerance);
    }
}

fn stats_case(kind: NormKind, x: HostTensor<f64>) -> (Case, [HostTensor<f64>; 2], Tolerance) {
    let (mean, variance) = reference::statistics(&x, sets_of(kind, x.shape));
    let shape = kind.stats_shape("test", x.shape).unwrap();
    let terms = x.shape.len() / shape.len();
    let name = format!("statistics {kind:?} of {}", x.shape);
    let rstd = reference::rstd(&variance, f64::from(EPS));
    let expected = [mean, rstd].map(|data| HostTensor { shape, data });
    let op = NormStats { kind, eps: EPS };
    let case = Case::new(name, op, vec![(x, true)]);
    (case, expected, Tolerance::for_terms(terms))
}

#[test]
fn statistics_match_the_reference() {
    for kind in [
        NormKind::Instance,
        NormKind::Batch,
        NormKind::Group { groups: 1 },
    ] {
        for shape in [
            ODD,
            IN_FOURS,
            MIDDLE,
            MIDDLE_WORDS,
            LONG,
            LONG_ODD,
            LONGEST_ODD,
        ] {
            check_stats(kind, random_in(shape, 1, -1.0, 3.0));
        }
    }
    check_stats(
        NormKind::Group { groups: 2 },
        random_in(IN_FOURS, 1, -1.0, 3.0),
    );
}

#[test]
fn statistics_keep_their_digits_far_from_zero() {
    for shape in [IN_FOURS, LONG] {
        let x = random_in(shape, 1, 3000.0, 3001.0);
        let (case, expected, tolerance) = stats_case(NormKind::Instance, x);
        // Above 2048 f16 knows whole numbers only.
        case.in_f32().check_forward(&expected, tolerance);
    }
}

/// The values by which sums are shifted are the first ones, which here are far from all others.
#[test]
fn statistics_keep_their_digits_behind_an_outlier() {
    for shape in [ODD, IN_FOURS, MIDDLE_WORDS, LONG] {
        let mut x = random_in(shape, 1, 0.0, 1.0);
        for channel in x.data.chunks_mut(shape.voxels()) {
            channel[0] = 30.0;
        }
        check_stats(NormKind::Instance, x);
    }
}

/// Builds a graph, runs it once and gives `outputs` and then the named states.
fn run(
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
