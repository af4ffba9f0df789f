use voxseg::ops::elementwise::Add;
use voxseg::reference::{Tolerance, elementwise};
use voxseg::tensor::Shape;

use crate::harness::{Case, random};

#[test]
fn add_matches_the_reference_forward_and_backward() {
    for shape in [Shape::new(2, 3, 5, 6, 7), Shape::new(1, 1, 1, 1, 1)] {
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
