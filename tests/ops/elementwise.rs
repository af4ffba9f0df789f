use voxseg::ops::elementwise::{Add, AddBroadcast, Constant, Multiply, ScaleChannels, ScaleVoxels};
use voxseg::reference::{Tolerance, elementwise};
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, random, stored};

type Tensor = HostTensor<f64>;

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
fn a_constant_has_its_value_everywhere() {
    for shape in [Shape::vector(7), Shape::new(3, 2, 5, 6, 7)] {
        let value = -0.3;
        let case = Case::new("constant", Constant { shape, value }, vec![]).in_f32();
        let data = vec![f64::from(value); shape.len()];
        case.check_forward(&[HostTensor { shape, data }], Tolerance::for_terms(1));
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

/// The gradients of x and the scale in f64.
fn voxel_gradients(inputs: [&Tensor; 2], dy: &Tensor) -> [Tensor; 2] {
    let [x, scale] = inputs;
    [
        elementwise::scale_voxels(dy, scale),
        elementwise::channel_dot(dy, x),
    ]
}

#[test]
fn scale_voxels_matches_the_reference_forward_and_backward() {
    for shape in [
        Shape::new(2, 3, 5, 6, 7),
        Shape::new(2, 3, 4, 6, 8),
        Shape::new(1, 2, 21, 30, 52),
        Shape::new(2, 70, 1, 9, 12),
        Shape::new(2, 5, 1, 1, 1),
        Shape::new(2, 1, 3, 4, 4),
    ] {
        let (x, dy) = (random(shape, 1), random(shape, 2));
        let scale = random(shape.with_c(1), 3);
        let inputs = vec![(x.clone(), true), (scale.clone(), true)];
        let case = Case::new(format!("scale voxels {shape}"), ScaleVoxels, inputs);
        let y = elementwise::scale_voxels(&x, &scale);
        case.check_forward(&[y], Tolerance::for_terms(1));
        let gradients = voxel_gradients([&x, &scale], &dy).map(Some);
        case.check_backward(&[Some(dy)], &gradients, Tolerance::for_terms(shape.c()));
    }
}

#[test]
fn scale_voxels_gradient_is_that_of_the_reference() {
    let shape = Shape::new(2, 3, 2, 3, 4);
    let (x, scale, dy) = (
        random(shape, 1),
        random(shape.with_c(1), 2),
        random(shape, 3),
    );
    let [dx, dscale] = voxel_gradients([&x, &scale], &dy);
    let forward = elementwise::scale_voxels;
    check_reference_gradient("x of scale voxels", &x, &dx, &dy, |x| forward(x, &scale));
    check_reference_gradient("scale of scale voxels", &scale, &dscale, &dy, |s| {
        forward(&x, s)
    });
}

#[test]
fn scale_voxels_matches_pytorch() {
    let fixture = Fixture::load("ops_elementwise");
    let mut count = 0;
    for f in fixture.cases() {
        let tensor = |name: &str| stored(f.tensor(name));
        let x = tensor("x");
        let inputs = vec![(x.clone(), true), (tensor("scale"), true)];
        let case = Case::new(f.name(), ScaleVoxels, inputs);
        case.check_forward(&[tensor("y")], Tolerance::for_terms(1));
        case.check_backward(
            &[Some(tensor("dy"))],
            &[Some(tensor("dx")), Some(tensor("dscale"))],
            Tolerance::for_terms(x.shape.c()),
        );
        count += 1;
    }
    assert_eq!(count, 2);
}
#[test]
fn a_tensor_is_added_to_every_sample_and_its_gradient_is_their_sum() {
    for shape in [
        Shape::new(3, 5, 1, 1, 7),
        Shape::new(2, 3, 2, 4, 8),
        Shape::new(1, 2, 1, 1, 5),
    ] {
        let [_, c, d, h, w] = shape.0;
        let one = Shape::new(1, c, d, h, w);
        let (x, p, dy) = (random(shape, 1), random(one, 2), random(shape, 3));
        let every = HostTensor {
            shape,
            data: p.data.repeat(shape.n()),
        };
        let mut sum = HostTensor::<f64>::zeros(one);
        for (i, v) in dy.data.iter().enumerate() {
            sum.data[i % one.len()] += v;
        }
        let inputs = vec![(x.clone(), true), (p, false)];
        let case = Case::new(format!("add to each of {shape}"), AddBroadcast, inputs);
        case.check_forward(&[elementwise::add(&x, &every)], Tolerance::for_terms(1));
        let grads = [Some(dy.clone()), Some(sum)];
        case.check_backward(&[Some(dy)], &grads, Tolerance::for_terms(shape.n()));
    }
}
