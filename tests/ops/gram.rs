//! Gram matrices, mean squared differences and the style loss against the f64 reference, central differences and PyTorch.

use voxseg::graph::Graph;
use voxseg::losses::style_loss;
use voxseg::ops::Operator;
use voxseg::ops::loss::MeanSquared;
use voxseg::ops::matmul::Gram;
use voxseg::reference::{Tolerance, gram as reference, loss};
use voxseg::tensor::{HostTensor, Shape};

use crate::conv::tensor;
use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, random};
use crate::norm_style::matches;

/// Few voxels and many, more channels than a tile has, sums in several parts of which the last is shorter.
const SHAPES: [Shape; 6] = [
    Shape::new(2, 5, 3, 4, 7),
    Shape::new(3, 1, 2, 3, 3),
    Shape::new(1, 34, 1, 3, 5),
    Shape::new(2, 3, 1, 1, 1),
    Shape::new(2, 3, 3, 61, 71),
    Shape::new(1, 2, 2, 64, 64),
];

/// Both variants, forward and backward.
fn check(case: impl Fn() -> Case, y: &HostTensor<f64>, dy: &HostTensor<f64>, dx: &HostTensor<f64>) {
    let x = dx.shape;
    for variant in ["naive", "tiled"] {
        let case = case().with_variant("matmul", variant);
        let tolerance = Tolerance::for_terms(x.voxels());
        case.check_forward(std::slice::from_ref(y), tolerance);
        let tolerance = Tolerance::for_terms(x.c());
        case.check_backward(&[Some(dy.clone())], &[Some(dx.clone())], tolerance);
    }
}

#[test]
fn gram_matrices_match_the_reference() {
    for shape in SHAPES {
        let x = random(shape, 1);
        let y = reference::gram(&x);
        let dy = random(y.shape, 2);
        let dx = reference::gram_backward(&x, &dy);
        let inputs = vec![(x, true)];
        let case = || Case::new(format!("Gram of {shape}"), Gram, inputs.clone());
        check(case, &y, &dy, &dx);
    }
}

#[test]
fn gradients_of_the_references_agree_with_differences() {
    let x = random(Shape::new(2, 3, 1, 2, 3), 1);
    let dy = random(Shape::new(2, 1, 1, 3, 3), 2);
    let dx = reference::gram_backward(&x, &dy);
    check_reference_gradient("Gram", &x, &dx, &dy, reference::gram);
    let (b, dy) = (random(x.shape, 3), random(Shape::scalar(), 4));
    let da = loss::mean_squared_gradient(&x, &b, dy.data[0]);
    check_reference_gradient("squares", &x, &da, &dy, |a| loss::mean_squared(a, &b));
    let db = loss::mean_squared_gradient(&b, &x, dy.data[0]);
    check_reference_gradient("squares", &b, &db, &dy, |b| loss::mean_squared(&x, b));
}

#[test]
fn gram_matrices_match_pytorch() {
    let fixture = Fixture::load("ops_style");
    let cases: Vec<_> = fixture.cases().filter(|case| case.op() == "gram").collect();
    assert_eq!(cases.len(), 2);
    for f in cases {
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|key| tensor(&f, key));
        let case = || Case::new(f.name(), Gram, vec![(x.clone(), true)]);
        check(case, &y, &dy, &dx);
    }
}

#[test]
fn samples_need_not_be_bound_together() {
    let shape = Shape::new(3, 6, 4, 8, 16);
    let x = random(shape, 1);
    let y = reference::gram(&x);
    let dy = random(y.shape, 2);
    let dx = reference::gram_backward(&x, &dy);
    let mut case = Case::new("Gram of a sample at a time", Gram, vec![(x, true)]).in_f32();
    case.binding_limit = Some(16 << 10);
    case.check_forward(&[y], Tolerance::for_terms(shape.voxels()));
    case.check_backward(&[Some(dy)], &[Some(dx)], Tolerance::for_terms(shape.c()));
}

#[test]
fn mean_squared_differences_match_the_reference() {
    for shape in [
        Shape::new(2, 3, 5, 6, 7),
        Shape::new(3, 4, 1, 3, 8),
        Shape::scalar(),
        Shape::new(2, 2, 21, 30, 52),
        Shape::new(1, 3, 37, 51, 53),
    ] {
        let (a, b) = (random(shape, 1), random(shape, 2));
        // Scaled, as training with f16 scales losses: the mean over many elements has gradients that f16 lacks.
        let dy = HostTensor {
            shape: Shape::scalar(),
            data: vec![0.75 * shape.len() as f64],
        };
        let y = loss::mean_squared(&a, &b);
        let gradients = [(&a, &b), (&b, &a)]
            .map(|(one, other)| Some(loss::mean_squared_gradient(one, other, dy.data[0])));
        let inputs = vec![(a, true), (b, true)];
        let case = Case::new(format!("squares of {shape}"), MeanSquared, inputs);
        case.check_forward(&[y], Tolerance::for_terms(shape.len()));
        case.check_backward(&[Some(dy)], &gradients, Tolerance::for_terms(4));
    }
}

#[test]
fn the_style_loss_matches_pytorch() {
    let fixture = Fixture::load("ops_style");
    let case = fixture.cases().find(|case| case.op() == "style_loss");
    let keys = ["x", "a", "q", "k", "weights"];
    matches(&case.unwrap(), &keys, 4, |graph, inputs| {
        let layers = [(inputs[0], inputs[1]), (inputs[2], inputs[3])];
        style_loss(graph, &layers, inputs[4]).unwrap()
    });
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let mut graph = Graph::new();
    let mut input = |name: &str, shape| graph.input(name, shape).unwrap();
    let x = input("x", Shape::new(2, 4, 2, 2, 2));
    let wide = input("wide", Shape::new(2, 5, 2, 2, 2));
    let one = input("one", Shape::vector(1));
    let two = input("two", Shape::vector(2));
    let mut refused = |style, weights, word: &str| {
        let error = style_loss(&mut graph, &[(x, style)], weights).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(wide, one, "the second input");
    refused(x, two, "weights");
    let shapes = [Shape::new(1, 2, 1, 1, 1), Shape::new(1, 3, 1, 1, 1)];
    assert!(MeanSquared.infer(&shapes).is_err());
}
