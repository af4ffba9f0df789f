//! Normalisation against the f64 reference and central differences.

use voxseg::ops::activation::Activation;
use voxseg::ops::norm::{NormApply, NormKind, NormStats};
use voxseg::reference::Tolerance;
use voxseg::reference::activation::Function;
use voxseg::reference::norm::{self as reference, Gradients, Layer, Sets};
use voxseg::tensor::{HostTensor, Shape};

use crate::harness::{Case, check_reference_gradient, halves, random, random_in};

pub const EPS: f32 = 1e-5;

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
        Some(Activation::Gelu) => Function::Gelu,
        Some(Activation::GeluTanh) => Function::GeluTanh,
        Some(Activation::Elu) => Function::Elu,
    }
}

pub fn sets_of(kind: NormKind, shape: Shape) -> Sets {
    match kind {
        NormKind::Instance => Sets::PerSample { groups: shape.c() },
        NormKind::Group { groups } => Sets::PerSample { groups },
        NormKind::Batch => Sets::PerChannel,
    }
}

pub fn vector(data: &[f64]) -> HostTensor<f64> {
    HostTensor {
        shape: Shape::vector(data.len()),
        data: data.to_vec(),
    }
}

/// Rounded to f32, so that the reference computes with what the device gets.
pub fn rounded(data: &[f64]) -> Vec<f64> {
    data.iter().map(|&v| f64::from(v as f32)).collect()
}

pub struct Example {
    pub op: NormApply,
    pub x: HostTensor<f64>,
    pub dy: HostTensor<f64>,
    mean: Vec<f64>,
    rstd: Vec<f64>,
    pub layer: Layer,
}

impl Example {
    pub fn new(kind: NormKind, activation: Option<Activation>, shape: Shape) -> Self {
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

    pub fn sets(&self) -> Sets {
        sets_of(self.op.kind, self.x.shape)
    }

    /// The same with a scale and a shift for each sample.
    pub fn with_own_affine(mut self) -> Self {
        let rows = Shape::new(self.x.shape.n(), self.x.shape.c(), 1, 1, 1);
        self.layer.gamma = random_in(rows, 6, 2.0, 4.0).data;
        self.layer.beta = random(rows, 7).data;
        self
    }

    /// Scale or shift, of all samples or of each.
    pub fn affine(&self, data: &[f64]) -> HostTensor<f64> {
        let c = self.x.shape.c();
        HostTensor {
            shape: Shape::new(data.len() / c, c, 1, 1, 1),
            data: data.to_vec(),
        }
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
            (self.affine(&self.layer.gamma), false),
            (self.affine(&self.layer.beta), false),
        ];
        if self.op.activation == Some(Activation::Prelu) {
            inputs.push((vector(&self.layer.slopes), false));
        }
        let rows = self.layer.gamma.len() / self.x.shape.c();
        let name = format!("{:?} of {} with {rows} scales", self.op, self.x.shape);
        Case::new(name, self.op.clone(), inputs)
    }

    /// By the kernels of the device, and where voxels come in eights by those that take packs of four too.
    pub fn check(&self) {
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

pub const ODD: Shape = Shape::new(2, 3, 5, 6, 7);
pub const IN_FOURS: Shape = Shape::new(2, 6, 3, 5, 8);
/// More than one block of a channel, the last one not full.
pub const LONG: Shape = Shape::new(2, 2, 21, 30, 52);
/// A row of one workgroup of four steps.
pub const MIDDLE: Shape = Shape::new(2, 3, 9, 10, 11);
/// The same in words of eight voxels; [`IN_FOURS`] and [`LONG`] lie in words too.
pub const MIDDLE_WORDS: Shape = Shape::new(2, 3, 9, 10, 12);
/// Enough partial results for two merges before the last.
const LONGEST_ODD: Shape = Shape::new(1, 1, 37, 101, 103);
pub const LONG_ODD: Shape = Shape::new(1, 2, 21, 31, 17);

#[test]
fn the_reference_gradients_agree_with_central_differences() {
    let small = Shape::new(2, 4, 2, 2, 3);
    for kind in [
        NormKind::Instance,
        NormKind::Batch,
        NormKind::Group { groups: 2 },
    ] {
        for activation in activations() {
            differences(&Example::new(kind, activation, small));
        }
        let own = Example::new(kind, None, small).with_own_affine();
        differences(&own);
    }
}

fn differences(e: &Example) {
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
    let gamma = e.affine(&e.layer.gamma);
    check_reference_gradient("norm dgamma", &gamma, &g.dgamma, &e.dy, |gamma| {
        let layer = Layer {
            gamma: gamma.data.clone(),
            ..e.layer.clone()
        };
        forward(&e.x, &layer)
    });
    let beta = e.affine(&e.layer.beta);
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
