//! Softmax against the f64 reference, central differences, and PyTorch.

use voxseg::ops::softmax::Softmax;
use voxseg::reference::Tolerance;
use voxseg::reference::softmax as reference;
use voxseg::tensor::{HostTensor, Shape};

use crate::conv::tensor;
use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, random, random_in};

/// exp(d) errs by |d| roundings of its argument, and logits here differ by up to 16.
const EXP: f64 = 16.0;

fn check(name: &str, [x, dy]: [HostTensor<f64>; 2], [y, dx]: [HostTensor<f64>; 2]) {
    let tolerance = Tolerance::for_terms(x.shape.c()).amplified(EXP);
    let case = Case::new(name, Softmax, vec![(x, true)]);
    case.check_forward(&[y], tolerance);
    case.check_backward(&[Some(dy)], &[Some(dx)], tolerance);
}

#[test]
fn the_reference_gradient_agrees_with_central_differences() {
    let shape = Shape::new(2, 4, 1, 3, 3);
    let (x, dy) = (random_in(shape, 1, -4.0, 4.0), random(shape, 2));
    let dx = reference::backward(&reference::forward(&x), &dy);
    check_reference_gradient("softmax", &x, &dx, &dy, reference::forward);
}

#[test]
fn softmax_matches_the_reference_forward_and_backward() {
    let shapes = [
        Shape::new(2, 3, 5, 6, 7),
        Shape::new(2, 14, 3, 5, 8),
        Shape::new(1, 1, 2, 2, 3),
        Shape::new(1, 2, 1, 33, 44),
    ];
    for shape in shapes {
        let (x, dy) = (random_in(shape, 1, -8.0, 8.0), random(shape, 2));
        let y = reference::forward(&x);
        let dx = reference::backward(&y, &dy);
        check(&format!("softmax of {shape}"), [x, dy], [y, dx]);
    }
}

#[test]
fn softmax_matches_pytorch() {
    let fixture = Fixture::load("ops_activation");
    let mut seen = 0;
    for case in fixture.cases().filter(|c| c.op() == "softmax") {
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|key| tensor(&case, key));
        check(case.name(), [x, dy], [y, dx]);
        seen += 1;
    }
    assert_eq!(seen, 2);
}
