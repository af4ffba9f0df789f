//! Layer norm over the channels of each voxel against the f64 reference, central differences, and PyTorch.

use voxseg::gpu::{AdapterClass, DeviceProfile};
use voxseg::graph::{Graph, Program, ProgramOptions, differentiate};
use voxseg::ops::Operator;
use voxseg::ops::norm::{LayerApply, LayerStats, layer_norm};
use voxseg::reference::Tolerance;
use voxseg::reference::activation::Function;
use voxseg::reference::norm::{self as reference, Gradients, Layer, Sets};
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::{Fixture, Stored};
use crate::harness::{Case, check_reference_gradient, halves, random, random_in};
use crate::kernels::assert_listed;

/// Tokens in a row and in a volume; odd and even numbers of them, one token, one channel, more than one workgroup takes.
const SHAPES: [Shape; 6] = [
    Shape::new(2, 12, 1, 1, 197),
    Shape::new(2, 9, 3, 4, 5),
    Shape::new(3, 40, 1, 1, 1),
    Shape::new(2, 1, 2, 3, 4),
    Shape::new(1, 3, 1, 30, 31),
    Shape::new(2, 130, 1, 2, 8),
];

const EPS: f64 = 1e-6;

const CLASSES: [AdapterClass; 2] = [AdapterClass::CpuLike, AdapterClass::Gpu];

struct Example {
    x: HostTensor<f64>,
    dy: HostTensor<f64>,
    layer: Layer,
    mean: Vec<f64>,
    rstd: Vec<f64>,
}

/// Rounded to f32, so that the reference computes with what the device gets.
fn rounded(data: &[f64]) -> Vec<f64> {
    data.iter().map(|&v| f64::from(v as f32)).collect()
}

impl Example {
    fn new(
        x: HostTensor<f64>,
        dy: HostTensor<f64>,
        [gamma, beta]: [Vec<f64>; 2],
        eps: f64,
    ) -> Self {
        let (mean, variance) = reference::statistics(&x, Sets::PerVoxel);
        Self {
            x,
            dy,
            layer: Layer {
                gamma,
                beta,
                function: Function::Identity,
                slopes: vec![0.0],
            },
            mean: rounded(&mean),
            rstd: rounded(&reference::rstd(&variance, eps)),
        }
    }

    fn random(shape: Shape) -> Self {
        let of_channels = |seed| random_in(Shape::vector(shape.c()), seed, 0.5, 1.5).data;
        // A voxel of one channel is its own mean, also where it is stored as f16.
        let x = halves(random_in(shape, 1, -1.0, 3.0));
        Self::new(x, random(shape, 2), [3, 4].map(of_channels), EPS)
    }

    fn gradients(&self, x: &HostTensor<f64>) -> Gradients {
        let stats = (&self.mean[..], &self.rstd[..]);
        self.layer
            .backward(x, Sets::PerVoxel, stats, &self.dy, true)
    }

    fn check(&self, name: &str) {
        let one = self.x.shape.with_c(1);
        let of_stats = |data: &[f64]| HostTensor {
            shape: one,
            data: data.to_vec(),
        };
        let vector = |data: &[f64]| HostTensor {
            shape: Shape::vector(data.len()),
            data: data.to_vec(),
        };
        let inputs = vec![
            (self.x.clone(), true),
            (of_stats(&self.mean), false),
            (of_stats(&self.rstd), false),
            (vector(&self.layer.gamma), false),
            (vector(&self.layer.beta), false),
        ];
        for class in CLASSES {
            self.check_case(&Case::new(name, LayerApply, inputs.clone()).of_class(class));
        }
    }

    fn check_case(&self, case: &Case) {
        let stats = (&self.mean[..], &self.rstd[..]);
        let y = self
            .layer
            .forward(&self.x, Sets::PerVoxel, stats.0, stats.1);
        case.check_forward(&[y], Tolerance::for_terms(4));
        let found = self.gradients(&self.x);
        let shape = self.x.shape;
        let terms = shape.c().max(shape.n() * shape.voxels());
        case.check_backward(
            &[Some(self.dy.clone())],
            &[
                Some(found.dx),
                None,
                None,
                Some(found.dgamma),
                Some(found.dbeta),
            ],
            Tolerance::for_terms(terms),
        );
    }
}

#[test]
fn the_reference_gradients_agree_with_central_differences() {
    let example = Example::random(Shape::new(2, 4, 1, 2, 3));
    let whole = |x: &HostTensor<f64>, layer: &Layer| {
        let (mean, variance) = reference::statistics(x, Sets::PerVoxel);
        layer.forward(x, Sets::PerVoxel, &mean, &reference::rstd(&variance, EPS))
    };
    let (mean, variance) = reference::statistics(&example.x, Sets::PerVoxel);
    let exact = Example {
        rstd: reference::rstd(&variance, EPS),
        mean,
        ..example
    };
    let found = exact.gradients(&exact.x);
    check_reference_gradient("dx", &exact.x, &found.dx, &exact.dy, |x| {
        whole(x, &exact.layer)
    });
    let gamma = HostTensor {
        shape: Shape::vector(4),
        data: exact.layer.gamma.clone(),
    };
    check_reference_gradient("dgamma", &gamma, &found.dgamma, &exact.dy, |gamma| {
        let gamma = gamma.data.clone();
        whole(
            &exact.x,
            &Layer {
                gamma,
                ..exact.layer.clone()
            },
        )
    });
}

#[test]
fn layer_norm_matches_the_reference_forward_and_backward() {
    for shape in SHAPES {
        Example::random(shape).check(&format!("layer norm of {shape}"));
    }
}

#[test]
fn statistics_match_the_reference_far_from_zero() {
    for shape in SHAPES {
        // The mean is 50 times the spread: a variance as E[x^2] - E[x]^2 would lose half its digits.
        let x = random_in(shape, 5, 49.0, 51.0);
        let (mean, variance) = reference::statistics(&x, Sets::PerVoxel);
        let rstd = reference::rstd(&variance, 1e-5);
        let shape = shape.with_c(1);
        let expected = [mean, rstd].map(|data| HostTensor { shape, data });
        // The rounded mean, 50 units from 0, is off by up to 50 epsilon, and the deviations from it by as much. In f16 x
        // itself would be rounded to 1/32.
        let tolerance = Tolerance::for_terms(x.shape.c()).amplified(50.0);
        for class in CLASSES {
            let name = format!("layer statistics of {shape}");
            let case = Case::new(name, LayerStats { eps: 1e-5 }, vec![(x.clone(), true)]);
            case.of_class(class)
                .in_f32()
                .check_forward(&expected, tolerance);
        }
    }
}

/// Tokens (N, L, E) of PyTorch as (N, E, 1, 1, L).
fn tokens(stored: &Stored) -> HostTensor<f64> {
    let [n, l, e] = stored.shape[..] else {
        panic!("{:?}", stored.shape)
    };
    let mut t = HostTensor::zeros(Shape::new(n, e, 1, 1, l));
    for (i, &v) in stored.data.iter().enumerate() {
        *t.at_mut([i / (l * e), i % e, 0, 0, i / e % l]) = f64::from(v);
    }
    t
}

#[test]
fn layer_norm_matches_pytorch() {
    let fixture = Fixture::load("ops_norm");
    let mut seen = 0;
    for case in fixture.cases().filter(|case| case.op() == "layer_norm") {
        let vector = |key: &str| -> Vec<f64> {
            case.tensor(key)
                .data
                .iter()
                .map(|&v| f64::from(v))
                .collect()
        };
        let [x, dy, y, dx] = ["x", "dy", "y", "dx"].map(|key| tokens(case.tensor(key)));
        let example = Example::new(x, dy, ["w", "b"].map(vector), case.number("eps"));
        example.check(case.name());
        let stats = (&example.mean[..], &example.rstd[..]);
        let ours = example
            .layer
            .forward(&example.x, Sets::PerVoxel, stats.0, stats.1);
        // The statistics that the device gets are rounded: five times the epsilon of f32 at a mean of 5.
        let near = Tolerance::for_terms(1).amplified(5.0);
        near.compare("y", &y.to_f32(), &ours).unwrap();
        let found = example.gradients(&example.x);
        near.compare("dx", &dx.to_f32(), &found.dx).unwrap();
        for (key, ours) in [("dw", found.dgamma), ("db", found.dbeta)] {
            let theirs = HostTensor {
                shape: ours.shape,
                data: vector(key),
            };
            near.compare(key, &theirs.to_f32(), &ours).unwrap();
        }
        seen += 1;
    }
    assert_eq!(seen, 1);
}

#[test]
fn either_class_of_adapter_runs_listed_kernels() {
    for class in CLASSES {
        for shape in SHAPES {
            let mut graph = Graph::new();
            let x = graph.input("x", shape).unwrap();
            let [gamma, beta] =
                ["gamma", "beta"].map(|name| graph.input(name, Shape::vector(shape.c())).unwrap());
            let y = layer_norm(&mut graph, x, gamma, beta, 1e-6).unwrap();
            let dy = graph.input("dy", shape).unwrap();
            let wanted = [x, gamma, beta];
            let found = differentiate(&mut graph, y, dy, &wanted).unwrap();
            let outputs: Vec<_> = found.into_values().chain([y]).collect();
            let device = DeviceProfile {
                class,
                ..DeviceProfile::minimal_gpu()
            };
            let options = ProgramOptions::default();
            assert_listed(&Program::compile(graph, &outputs, &device, options).unwrap());
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let x = Shape::new(2, 3, 1, 1, 5);
    let (stats, vector) = (x.with_c(1), Shape::vector(3));
    LayerApply
        .infer(&[x, stats, stats, vector, vector])
        .unwrap();
    for inputs in [
        [x, x, stats, vector, vector],
        [x, stats, stats, Shape::vector(5), vector],
        [x, stats, stats, vector, x],
    ] {
        assert!(LayerApply.infer(&inputs).is_err(), "{inputs:?}");
    }
    assert!(LayerStats { eps: 0.0 }.infer(&[x]).is_err());
}
