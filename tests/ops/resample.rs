use voxseg::ops::resample::{Mode, Resample};
use voxseg::ops::{OpError, Operator};
use voxseg::reference::Tolerance;
use voxseg::reference::resample as reference;
use voxseg::tensor::Shape;

use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, random, stored};

const MODES: [(Mode, reference::Mode); 4] = [
    (
        Mode::Linear {
            align_corners: false,
        },
        reference::Mode::LinearBorders,
    ),
    (
        Mode::Linear {
            align_corners: true,
        },
        reference::Mode::LinearCorners,
    ),
    (Mode::Nearest, reference::Mode::Nearest),
    (Mode::NearestExact, reference::Mode::NearestExact),
];

/// Up and down, even and odd factors, one axis only, from one voxel and to one, no change at all.
fn sizes() -> Vec<(Shape, [usize; 3])> {
    vec![
        (Shape::new(2, 3, 3, 4, 5), [6, 8, 10]),
        (Shape::new(2, 2, 6, 8, 10), [3, 4, 5]),
        (Shape::new(1, 3, 5, 7, 3), [7, 3, 11]),
        (Shape::new(2, 2, 1, 9, 13), [1, 4, 26]),
        (Shape::new(1, 2, 3, 4, 5), [3, 9, 5]),
        (Shape::new(1, 2, 1, 1, 1), [5, 6, 7]),
        (Shape::new(1, 2, 5, 6, 7), [1, 1, 1]),
        (Shape::new(1, 2, 2, 3, 4), [2, 3, 4]),
        (Shape::new(1, 1, 2, 1, 16), [3, 1, 161]),
    ]
}

/// The most outputs that touch one input voxel: that is how many terms a gradient has.
fn terms(x: Shape, size: [usize; 3]) -> usize {
    (0..3)
        .map(|a| 2 * size[a].div_ceil(x.spatial()[a]) + 2)
        .product()
}

#[test]
fn resampling_matches_the_reference() {
    for (mode, truth) in MODES {
        for (k, (shape, size)) in sizes().into_iter().enumerate() {
            let x = random(shape, k as u64);
            let name = format!("{mode:?} {shape} to {size:?}");
            let case = Case::new(name, Resample { size, mode }, vec![(x.clone(), true)]);
            let y = reference::resample(&x, size, truth);
            case.check_forward(&[y], Tolerance::for_terms(8));
            let dy = random(shape.with_spatial(size), 100 + k as u64);
            let dx = reference::resample_backward(&dy, shape.spatial(), truth);
            let tolerance = Tolerance::for_terms(terms(shape, size));
            case.check_backward(&[Some(dy)], &[Some(dx)], tolerance);
        }
    }
}

#[test]
fn gradients_of_the_reference_agree_with_differences() {
    for (_, truth) in MODES {
        for (shape, size) in [
            (Shape::new(1, 2, 2, 3, 4), [3, 6, 5]),
            (Shape::new(2, 1, 3, 5, 4), [2, 3, 1]),
        ] {
            let x = random(shape, 1);
            let dy = random(shape.with_spatial(size), 2);
            let dx = reference::resample_backward(&dy, shape.spatial(), truth);
            let name = format!("{truth:?}");
            check_reference_gradient(&name, &x, &dx, &dy, |x| reference::resample(x, size, truth));
        }
    }
}

#[test]
fn resampling_agrees_with_pytorch() {
    for f in Fixture::load("ops_resample").cases() {
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|key| stored(f.tensor(key)));
        let mode = match f.text("mode") {
            "linear" => Mode::Linear {
                align_corners: f.flag("align_corners"),
            },
            "nearest" => Mode::Nearest,
            "nearest-exact" => Mode::NearestExact,
            other => panic!("no mode {other}"),
        };
        let size = f.axes("size");
        let tolerance = Tolerance::for_terms(terms(x.shape, size));
        let case = Case::new(f.name(), Resample { size, mode }, vec![(x, true)]);
        case.check_forward(&[y], Tolerance::for_terms(8));
        case.check_backward(&[Some(dy)], &[Some(dx)], tolerance);
    }
}

#[test]
fn labels_stay_labels_and_land_where_the_definition_says() {
    // 41 * f32(1 / 41) is below 1: positions in f32 would take a voxel too low there.
    let mut labels = random(Shape::new(1, 1, 1, 1, 41), 1);
    for (i, v) in labels.data.iter_mut().enumerate() {
        *v = i as f64;
    }
    let op = Resample {
        size: [1, 1, 41 * 41],
        mode: Mode::Nearest,
    };
    let y = &Case::new("labels", op, vec![(labels, true)]).run(false, None)[0];
    let expected: Vec<f32> = (0..41 * 41).map(|o| (o / 41) as f32).collect();
    assert_eq!(y.data, expected);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let mode = Mode::Nearest;
    let x = Shape::new(1, 1, 4, 4, 4);
    for size in [[0, 1, 1], [1, 1 << 15, 1], [1, 1, usize::MAX]] {
        let error = Resample { size, mode }.infer(&[x]).unwrap_err();
        assert!(matches!(error, OpError::Attribute { .. }), "{error}");
    }
    let op = Resample {
        size: [1, 1, 1],
        mode,
    };
    for x in [Shape::new(1, 1, 0, 4, 4), Shape::new(1, 1, 1, 1, 40_000)] {
        let error = op.infer(&[x]).unwrap_err();
        assert!(matches!(error, OpError::Shape { .. }), "{error}");
    }
}
