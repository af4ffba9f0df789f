use voxseg::ops::elementwise::{Add, Multiply, ScaleChannels};
use voxseg::reference::{Tolerance, elementwise};
use voxseg::tensor::Shape;

use crate::harness::{Case, random};

#[test]
fn add_matches_the_reference_forward_and_backward() {
    for shape in [
        Shape::new(2, 3, 5, 6, 7),
        Shape::new(2, 3, 4, 6, 8),
        Shape::new(1, 1, 1, 1, 1),
    ] {
        let (a, b) = (random(shape, 1), random(shape, 2));
        let case = Case::new("add", Add, vec![(a.clone(), true), (b.clone(), true)]);
        case.check_forward(&[elementwise::add(&a, &b)], Tolerance::for_terms(1));
        let dy = random(shape, 3);
        case.check_backward(
            &[Some(dy.clone())],
            &[Some(dy.clone()), Some(dy)],
            Tolerance::for_terms(1),
        );
    }
}

#[test]
fn multiply_matches_the_reference_forward_and_backward() {
    for shape in [
        Shape::new(2, 3, 5, 6, 7),
        Shape::new(2, 3, 4, 6, 8),
        Shape::new(2, 3, 1, 1, 1),
    ] {
        let (a, b, dy) = (random(shape, 1), random(shape, 2), random(shape, 3));
        let inputs = vec![(a.clone(), true), (b.clone(), true)];
        let case = Case::new("multiply", Multiply, inputs);
        let product = elementwise::multiply;
        case.check_forward(&[product(&a, &b)], Tolerance::for_terms(1));
        case.check_backward(
            &[Some(dy.clone())],
            &[Some(product(&dy, &b)), Some(product(&dy, &a))],
            Tolerance::for_terms(1),
        );
    }
}

#[test]
fn scale_channels_matches_the_reference_forward_and_backward() {
    for shape in [
        Shape::new(2, 3, 5, 6, 7),
        Shape::new(2, 3, 4, 6, 8),
        Shape::new(1, 2, 21, 30, 52),
        Shape::new(2, 5, 1, 1, 1),
        // More rows than an axis of a grid may count.
        Shape::new(257, 256, 1, 2, 2),
    ] {
        let (x, dy) = (random(shape, 1), random(shape, 2));
        let scale = random(shape.with_spatial([1, 1, 1]), 3);
        let inputs = vec![(x.clone(), true), (scale.clone(), true)];
        let case = Case::new(format!("scale channels {shape}"), ScaleChannels, inputs);
        let y = elementwise::scale_channels(&x, &scale);
        case.check_forward(&[y], Tolerance::for_terms(1));
        let dx = elementwise::scale_channels(&dy, &scale);
        let dscale = elementwise::channel_products(&dy, &x);
        case.check_backward(
            &[Some(dy)],
            &[Some(dx), Some(dscale)],
            Tolerance::for_terms(shape.voxels()),
        );
    }
}
