use voxseg::graph::Graph;
use voxseg::ops::border::{Crop, Fill, Pad, center_crop};
use voxseg::ops::{OpError, Operator};
use voxseg::reference::{Tolerance, border};
use voxseg::tensor::{HostTensor, Shape};

use crate::harness::{Case, check_reference_gradient, random};

const FILLS: [(Fill, border::Fill); 4] = [
    (Fill::Constant(0.0), border::Fill::Constant(0.0)),
    (Fill::Constant(-2.5), border::Fill::Constant(-2.5)),
    (Fill::Mirror, border::Fill::Mirror),
    (Fill::Replicate, border::Fill::Replicate),
];

/// No border on some sides, borders as wide as mirroring allows, one voxel in depth.
fn borders() -> Vec<(Shape, [usize; 3], [usize; 3])> {
    vec![
        (Shape::new(2, 3, 5, 6, 7), [1, 2, 3], [2, 0, 1]),
        (Shape::new(2, 2, 3, 4, 5), [2, 3, 4], [2, 3, 4]),
        (Shape::new(1, 2, 1, 9, 11), [0, 1, 5], [0, 8, 10]),
        (Shape::new(1, 1, 2, 2, 2), [0, 0, 0], [1, 1, 1]),
    ]
}

/// The most padded voxels that one voxel feeds.
fn terms(before: [usize; 3], after: [usize; 3]) -> usize {
    (0..3).map(|a| 1 + before[a].max(after[a])).product()
}

#[test]
fn padding_matches_the_reference() {
    for (fill, truth) in FILLS {
        for (k, (shape, before, after)) in borders().into_iter().enumerate() {
            let x = random(shape, k as u64);
            let op = Pad {
                before,
                after,
                fill,
            };
            let name = format!("pad {shape} by {before:?} and {after:?} {fill:?}");
            let case = Case::new(name, op, vec![(x.clone(), true)]);
            let y = border::pad(&x, before, after, truth);
            let dy = random(y.shape, 100 + k as u64);
            case.check_forward(&[y], Tolerance::for_terms(1));
            let dx = border::pad_backward(&dy, before, shape.spatial(), truth);
            let tolerance = Tolerance::for_terms(terms(before, after));
            case.check_backward(&[Some(dy)], &[Some(dx)], tolerance);
        }
    }
}

#[test]
fn replication_goes_further_than_the_image() {
    let (shape, before, after) = (Shape::new(1, 2, 1, 2, 3), [3, 5, 4], [2, 0, 7]);
    let x = random(shape, 1);
    let fill = Fill::Replicate;
    let op = Pad {
        before,
        after,
        fill,
    };
    let case = Case::new("wide border", op, vec![(x.clone(), true)]);
    let y = border::pad(&x, before, after, border::Fill::Replicate);
    let dy = random(y.shape, 2);
    case.check_forward(&[y], Tolerance::for_terms(1));
    let dx = border::pad_backward(&dy, before, shape.spatial(), border::Fill::Replicate);
    let tolerance = Tolerance::for_terms(6 * 6 * 8);
    case.check_backward(&[Some(dy)], &[Some(dx)], tolerance);
}

#[test]
fn a_mirrored_row_reads_as_pytorch_documents_it() {
    let row = HostTensor {
        shape: Shape::new(1, 1, 1, 1, 4),
        data: vec![0.0, 1.0, 2.0, 3.0],
    };
    let op = Pad {
        before: [0, 0, 2],
        after: [0, 0, 3],
        fill: Fill::Mirror,
    };
    let y = &Case::new("mirror", op, vec![(row, true)]).run(false, None)[0];
    assert_eq!(y.data, [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]);
}

#[test]
fn cropping_matches_the_reference() {
    for (shape, start, size) in [
        (Shape::new(2, 3, 5, 6, 7), [1, 0, 3], [2, 6, 3]),
        (Shape::new(1, 2, 3, 9, 11), [0, 0, 0], [3, 9, 11]),
        (Shape::new(2, 2, 1, 9, 13), [0, 8, 12], [1, 1, 1]),
    ] {
        let x = random(shape, 1);
        let name = format!("crop {shape} from {start:?}");
        let case = Case::new(name, Crop { start, size }, vec![(x.clone(), true)]);
        case.check_forward(&[border::crop(&x, start, size)], Tolerance::for_terms(1));
        let dy = random(shape.with_spatial(size), 2);
        let outer = shape.spatial();
        let after = [0, 1, 2].map(|a| outer[a] - start[a] - size[a]);
        let dx = border::pad(&dy, start, after, border::Fill::Constant(0.0));
        case.check_backward(&[Some(dy)], &[Some(dx)], Tolerance::for_terms(1));
    }
}

#[test]
fn gradients_of_the_reference_agree_with_differences() {
    let (shape, before, after) = (Shape::new(2, 1, 3, 2, 4), [2, 1, 0], [1, 0, 3]);
    let x = random(shape, 1);
    for (_, fill) in FILLS {
        let dy = random(border::pad(&x, before, after, fill).shape, 2);
        let dx = border::pad_backward(&dy, before, shape.spatial(), fill);
        check_reference_gradient(&format!("{fill:?}"), &x, &dx, &dy, |x| {
            border::pad(x, before, after, fill)
        });
    }
}

#[test]
fn a_centre_crop_leaves_the_larger_half_behind() {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1, 1, 4, 7, 9)).unwrap();
    let y = center_crop(&mut graph, x, [4, 4, 4]).unwrap();
    assert_eq!(graph.value(y).shape, Shape::new(1, 1, 4, 4, 4));
    let text = format!("{:?}", graph.nodes().last().unwrap().op);
    assert!(text.contains("start: [0, 1, 2]"), "{text}");
    assert_eq!(center_crop(&mut graph, x, [4, 7, 9]).unwrap(), x);
    let error = center_crop(&mut graph, x, [4, 8, 9]).unwrap_err();
    assert!(matches!(error, OpError::Shape { .. }), "{error}");
}

#[test]
fn borders_that_cannot_be_are_refused() {
    let x = Shape::new(1, 1, 3, 4, 5);
    let pad = |before, fill| {
        Pad {
            before,
            after: [0; 3],
            fill,
        }
        .infer(&[x])
    };
    let error = pad([0, 4, 0], Fill::Mirror).unwrap_err();
    assert!(matches!(error, OpError::Shape { .. }), "{error}");
    let error = pad([0, 0, usize::MAX], Fill::Replicate).unwrap_err();
    assert!(matches!(error, OpError::Attribute { .. }), "{error}");
    for (start, size) in [
        ([0, 0, 0], [0, 1, 1]),
        ([0, 1, 0], [1, 4, 1]),
        ([usize::MAX, 0, 0], [1, 1, 1]),
    ] {
        let error = Crop { start, size }.infer(&[x]).unwrap_err();
        assert!(matches!(error, OpError::Shape { .. }), "{error}");
    }
}
