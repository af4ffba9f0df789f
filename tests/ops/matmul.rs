use voxseg::ops::matmul::{Linear, LinearLast};
use voxseg::ops::{OpError, Operator};
use voxseg::reference::{Tolerance, matmul};
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, random, stored};

/// (N, C_in, C_out): below, at and beyond the edge of a tile, and single rows and columns.
const EXTENTS: [(usize, usize, usize); 6] = [
    (5, 7, 9),
    (1, 1, 1),
    (16, 16, 16),
    (17, 33, 18),
    (2, 130, 3),
    (3, 1, 70),
];

fn matrix(rows: usize, columns: usize, seed: u64) -> HostTensor<f64> {
    random(Shape::new(rows, columns, 1, 1, 1), seed)
}

/// Checks both variants, forward and backward; only x is an activation, the parameters are dense.
fn check(
    name: &str,
    inputs: &[HostTensor<f64>],
    y: &HostTensor<f64>,
    dy: &HostTensor<f64>,
    grads: &[HostTensor<f64>],
) {
    let list: Vec<_> = (0..)
        .zip(inputs)
        .map(|(i, t)| (t.clone(), i == 0))
        .collect();
    let terms = y.shape.c().max(y.shape.n()).max(inputs[0].shape.c());
    for variant in ["pointwise", "naive", "tiled"] {
        let case = Case::new(name, Linear, list.clone()).with_variant("matmul", variant);
        case.check_forward(std::slice::from_ref(y), Tolerance::for_terms(terms));
        let expected: Vec<_> = grads.iter().cloned().map(Some).collect();
        case.check_backward(&[Some(dy.clone())], &expected, Tolerance::for_terms(terms));
    }
}

#[test]
fn a_fully_connected_layer_matches_the_reference() {
    for (samples, features, outputs) in EXTENTS {
        let (x, w) = (matrix(samples, features, 1), matrix(outputs, features, 2));
        let (b, dy) = (
            random(Shape::vector(outputs), 3),
            matrix(samples, outputs, 4),
        );
        let grads = matmul::linear_backward(&x, &w, &dy);
        let name = format!("linear {samples} x {features} to {outputs}");
        let y = matmul::linear(&x, &w, Some(&b));
        check(&name, &[x.clone(), w.clone(), b], &y, &dy, &grads);
        let y = matmul::linear(&x, &w, None);
        check(&format!("{name} no bias"), &[x, w], &y, &dy, &grads[..2]);
    }
}

/// The rows of (N, C, D, H, L) as those of (N C D H, L, 1, 1, 1), and back.
fn as_rows(t: &HostTensor<f64>) -> HostTensor<f64> {
    rows(t.clone(), t.shape.0[4])
}

fn with_rows(t: HostTensor<f64>, [n, c, d, h, _]: [usize; 5]) -> HostTensor<f64> {
    HostTensor {
        shape: Shape::new(n, c, d, h, t.shape.c()),
        data: t.data,
    }
}

#[test]
fn a_layer_along_the_last_axis_matches_that_over_rows() {
    // The shape, and the outputs: odd rows and columns, a prime number of rows, more than one tile, one of each.
    let extents = [
        (Shape::new(2, 5, 1, 1, 7), 9),
        (Shape::new(3, 4, 2, 3, 6), 5),
        (Shape::new(1, 37, 1, 1, 18), 33),
        (Shape::new(2, 1, 1, 1, 1), 1),
        (Shape::new(2, 96, 1, 1, 49), 16),
        // Enough workgroups for the large tiles.
        (Shape::new(32, 65, 1, 1, 19), 67),
    ];
    for (shape, outputs) in extents {
        let (x, w) = (random(shape, 1), matrix(outputs, shape.0[4], 2));
        let b = random(Shape::vector(outputs), 3);
        let dy = with_rows(matrix(shape.len() / shape.0[4], outputs, 4), shape.0);
        let y = |b| with_rows(matmul::linear(&as_rows(&x), &w, b), shape.0);
        let [dx, dw, db] = matmul::linear_backward(&as_rows(&x), &w, &as_rows(&dy));
        let dx = with_rows(dx, shape.0);
        let rows = shape.len() / shape.0[4];
        let tolerance = Tolerance::for_terms(rows.max(outputs).max(shape.0[4]));
        for variant in ["pointwise", "naive", "tiled"] {
            for bias in [true, false] {
                let mut inputs = vec![(x.clone(), true), (w.clone(), false)];
                let mut grads = vec![Some(dx.clone()), Some(dw.clone())];
                if bias {
                    inputs.push((b.clone(), false));
                    grads.push(Some(db.clone()));
                }
                let name = format!("along the last axis of {shape} to {outputs}, bias {bias}");
                let case = Case::new(name, LinearLast, inputs).with_variant("matmul", variant);
                case.check_forward(&[y(bias.then_some(&b))], tolerance);
                case.check_backward(&[Some(dy.clone())], &grads, tolerance);
            }
        }
    }
}

#[test]
fn gradients_of_the_reference_agree_with_differences() {
    let (x, w, dy) = (matrix(3, 4, 1), matrix(5, 4, 2), matrix(3, 5, 3));
    let b = random(Shape::vector(5), 4);
    let [dx, dw, db] = matmul::linear_backward(&x, &w, &dy);
    check_reference_gradient("dx", &x, &dx, &dy, |x| matmul::linear(x, &w, Some(&b)));
    check_reference_gradient("dw", &w, &dw, &dy, |w| matmul::linear(&x, w, Some(&b)));
    check_reference_gradient("db", &b, &db, &dy, |b| matmul::linear(&x, &w, Some(b)));
}

/// A fixture's matrix; all axes but the last are samples.
fn rows(t: HostTensor<f64>, features: usize) -> HostTensor<f64> {
    HostTensor {
        shape: Shape::new(t.data.len() / features, features, 1, 1, 1),
        data: t.data,
    }
}

#[test]
fn a_fully_connected_layer_agrees_with_pytorch() {
    let fixture = Fixture::load("ops_matmul");
    for f in fixture.cases().filter(|f| f.op() == "linear") {
        let matrix = |key: &str| {
            let tensor = f.tensor(key);
            rows(stored(tensor), *tensor.shape.last().unwrap())
        };
        let mut inputs = vec![matrix("x"), matrix("w")];
        let mut grads = vec![matrix("dx"), matrix("dw")];
        if f.flag("bias") {
            inputs.push(matrix("b"));
            grads.push(matrix("db"));
        }
        check(f.name(), &inputs, &matrix("y"), &matrix("dy"), &grads);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let x = Shape::new(2, 3, 1, 1, 1);
    let w = Shape::new(4, 3, 1, 1, 1);
    for inputs in [
        vec![Shape::new(2, 3, 1, 1, 2), w],
        vec![x, Shape::new(4, 5, 1, 1, 1)],
        vec![x, Shape::new(4, 3, 3, 3, 3)],
        vec![x, w, Shape::vector(3)],
    ] {
        let error = Linear.infer(&inputs).unwrap_err();
        assert!(matches!(error, OpError::Shape { .. }), "{error}");
    }
    let row = Shape::new(2, 5, 1, 1, 3);
    assert_eq!(
        LinearLast.infer(&[row, w]).unwrap(),
        [Shape::new(2, 5, 1, 1, 4)]
    );
    for inputs in [
        vec![x, w],
        vec![row, Shape::new(4, 3, 3, 3, 3)],
        vec![row, w, Shape::vector(3)],
    ] {
        let error = LinearLast.infer(&inputs).unwrap_err();
        assert!(matches!(error, OpError::Shape { .. }), "{error}");
    }
    let error = Linear.infer(&[x]).unwrap_err();
    assert!(matches!(error, OpError::InputCount { .. }), "{error}");
}
