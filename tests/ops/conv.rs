//! Convolution and transposed convolution against the f64 reference and central differences.

use voxseg::graph::Graph;
use voxseg::ops::Operator;
use voxseg::ops::conv::{
    BiasGrad, ConvAttributes, ConvForward, ConvInputGrad, ConvWeightGrad, conv_transpose,
};
use voxseg::reference::Tolerance;
use voxseg::reference::conv::{self as reference, Window};
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures;
use crate::harness::{Case, check_reference_gradient, random};

pub fn window(a: &ConvAttributes) -> Window {
    Window {
        stride: a.stride,
        padding: a.padding,
        dilation: a.dilation,
        groups: a.groups,
    }
}

/// Windows that networks use and some that they do not, with channels (in, out) and input extents.
fn examples() -> Vec<(ConvAttributes, [usize; 2], [usize; 3])> {
    let k = ConvAttributes::same;
    let mut lopsided = ConvAttributes::new([3, 2, 4]);
    lopsided.padding = [0, 1, 2];
    lopsided.padding_after = [2, 0, 1];
    vec![
        (k([3, 3, 3]), [3, 5], [5, 6, 7]),
        (k([3, 3, 3]), [9, 17], [4, 9, 11]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [3, 4], [7, 6, 9]),
        (k([1, 3, 3]), [4, 8], [3, 7, 6]),
        (k([1, 3, 3]).with_stride([1, 2, 2]), [3, 10], [3, 7, 8]),
        (k([1, 3, 3]), [2, 3], [1, 9, 13]),
        (k([1, 1, 1]), [10, 3], [3, 5, 7]),
        (k([1, 1, 1]).with_stride([2, 2, 2]), [3, 4], [5, 6, 7]),
        (
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [3, 9],
            [6, 5, 8],
        ),
        // Planes so small that cubes cover them better than flat tiles; samples read as one row, in place.
        (k([3, 3, 3]), [8, 17], [4, 3, 4]),
        (k([1, 1, 1]), [8, 19], [2, 6, 6]),
        (
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [5, 8],
            [4, 6, 8],
        ),
        // Rows in fours: read where they lie, in tiles of each shape; both classes of a row of dx written in place.
        (k([3, 3, 3]), [9, 17], [3, 9, 16]),
        (k([3, 3, 3]), [3, 4], [2, 8, 8]),
        (k([5, 5, 5]), [2, 9], [4, 4, 12]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [2, 3], [5, 9, 40]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [17, 3], [5, 8, 8]),
        (
            ConvAttributes::new([3, 3, 3]).with_stride([2, 2, 2]),
            [3, 4],
            [5, 7, 8],
        ),
        (
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [9, 8],
            [4, 16, 16],
        ),
        // Windows that tile the image, with coarse rows of whole words: ends of tiles, blocks and steps.
        (
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [3, 9],
            [4, 6, 16],
        ),
        (
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [10, 17],
            [2, 6, 48],
        ),
        (
            ConvAttributes::new([1, 2, 2]).with_stride([1, 2, 2]),
            [9, 5],
            [3, 4, 32],
        ),
        (k([1, 1, 1]), [9, 35], [3, 6, 12]),
        (k([1, 1, 1]), [33, 40], [3, 5, 7]),
        // The same with channels enough for the weight gradient's blocks, the last one with several parts of the sum.
        (
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [7, 29],
            [4, 6, 16],
        ),
        (
            ConvAttributes::new([1, 2, 2]).with_stride([1, 2, 2]),
            [8, 57],
            [3, 4, 48],
        ),
        (k([1, 1, 1]), [27, 30], [9, 16, 32]),
        (k([5, 5, 5]), [2, 3], [5, 6, 7]),
        (
            k([3, 3, 3])
                .with_dilation([1, 2, 2])
                .with_padding([1, 2, 2]),
            [2, 3],
            [4, 6, 7],
        ),
        (k([3, 3, 3]).with_groups(2), [4, 6], [3, 5, 7]),
        (k([3, 3, 3]).with_groups(5), [5, 10], [3, 5, 7]),
        (lopsided, [2, 3], [4, 5, 6]),
        (
            ConvAttributes::new([1, 3, 3]).with_stride([1, 3, 2]),
            [2, 3],
            [2, 8, 9],
        ),
    ]
}

pub struct Tensors {
    pub x: HostTensor<f64>,
    pub w: HostTensor<f64>,
    pub bias: HostTensor<f64>,
    pub dy: HostTensor<f64>,
}

pub fn tensors(a: &ConvAttributes, [c_in, c_out]: [usize; 2], size: [usize; 3]) -> Tensors {
    let x = Shape::new(2, c_in, 1, 1, 1).with_spatial(size);
    let y = x
        .with_c(c_out)
        .with_spatial(a.output_size("test", size).unwrap());
    Tensors {
        x: random(x, 1),
        w: random(a.weight_shape("test", c_in, c_out).unwrap(), 2),
        bias: random(Shape::vector(c_out), 3),
        dy: random(y, 4),
    }
}

/// Terms of the longest sum in any of the three directions.
pub fn tolerance(a: &ConvAttributes, t: &Tensors) -> Tolerance {
    let longest = (a.taps() * t.x.shape.c().max(t.dy.shape.c())).max(2 * t.dy.shape.voxels());
    Tolerance::for_terms(longest)
}

/// All three directions against the reference.
pub fn check_conv(
    a: ConvAttributes,
    channels: [usize; 2],
    size: [usize; 3],
    variant: Option<&'static str>,
) {
    let t = tensors(&a, channels, size);
    let inputs = vec![
        (t.x.clone(), true),
        (t.w.clone(), false),
        (t.bias.clone(), false),
    ];
    let mut case = Case::new(format!("conv {a:?}"), ConvForward { attributes: a }, inputs);
    if let Some(variant) = variant {
        case = case.with_variant("conv", variant);
    }
    let win = window(&a);
    let y = reference::forward(&win, &t.x, &t.w, Some(&t.bias), t.dy.shape.spatial());
    case.check_forward(&[y], tolerance(&a, &t));
    let dx = reference::input_grad(&win, &t.dy, &t.w, None, size);
    let dw = reference::weight_grad(&win, &t.x, &t.dy, t.w.shape);
    let db = reference::bias_grad(&t.dy);
    case.check_backward(
        &[Some(t.dy.clone())],
        &[Some(dx), Some(dw), Some(db)],
        tolerance(&a, &t),
    );
}

/// The transposed map of the same window: from the shape of y to the shape of x.
pub fn check_transposed(
    a: ConvAttributes,
    channels: [usize; 2],
    size: [usize; 3],
    variant: Option<&'static str>,
) {
    let t = tensors(&a, channels, size);
    let bias = random(Shape::vector(channels[0]), 5);
    let inputs = vec![
        (t.dy.clone(), true),
        (t.w.clone(), false),
        (bias.clone(), false),
    ];
    let op = ConvInputGrad {
        attributes: a,
        input_size: size,
    };
    let mut case = Case::new(format!("conv transposed {a:?}"), op, inputs);
    if let Some(variant) = variant {
        case = case.with_variant("conv", variant);
    }
    let win = window(&a);
    let y = reference::input_grad(&win, &t.dy, &t.w, Some(&bias), size);
    case.check_forward(&[y], tolerance(&a, &t));
    let dx = reference::forward(&win, &t.x, &t.w, None, t.dy.shape.spatial());
    let dw = reference::weight_grad(&win, &t.x, &t.dy, t.w.shape);
    let db = reference::bias_grad(&t.x);
    case.check_backward(
        &[Some(t.x.clone())],
        &[Some(dx), Some(dw), Some(db)],
        tolerance(&a, &t),
    );
}

#[test]
fn the_reference_gradients_agree_with_central_differences() {
    for (a, channels, size) in examples() {
        let t = tensors(&a, channels, size);
        if t.x.data.len() * t.dy.data.len() * a.taps() > 30_000_000 {
            continue;
        }
        let win = window(&a);
        let forward = |x: &HostTensor<f64>, w: &HostTensor<f64>| {
            reference::forward(&win, x, w, Some(&t.bias), t.dy.shape.spatial())
        };
        let dx = reference::input_grad(&win, &t.dy, &t.w, None, size);
        check_reference_gradient("conv dx", &t.x, &dx, &t.dy, |x| forward(x, &t.w));
        let dw = reference::weight_grad(&win, &t.x, &t.dy, t.w.shape);
        check_reference_gradient("conv dw", &t.w, &dw, &t.dy, |w| forward(&t.x, w));
    }
}

#[test]
fn naive_conv_matches_the_reference_forward_and_backward() {
    for (a, channels, size) in examples() {
        check_conv(a, channels, size, Some("naive"));
    }
}

#[test]
fn naive_transposed_conv_matches_the_reference_forward_and_backward() {
    for (a, channels, size) in examples() {
        check_transposed(a, channels, size, Some("naive"));
    }
}

#[test]
fn gemm_conv_matches_the_reference_forward_and_backward() {
    for (a, channels, size) in examples() {
        check_conv(a, channels, size, Some("gemm"));
        check_transposed(a, channels, size, Some("gemm"));
    }
    let dilated = ConvAttributes::new([3, 4, 3])
        .with_stride([2, 3, 4])
        .with_dilation([2, 2, 6])
        .with_padding([2, 3, 5]);
    check_conv(dilated, [18, 70], [7, 9, 11], Some("gemm"));
    check_transposed(dilated, [18, 70], [7, 9, 11], Some("gemm"));
}

/// Odd extents, so that tiles overhang; channels that fill no step or block, one block and several; windows of one plane.
#[test]
fn winograd_conv_matches_the_reference_forward_and_backward() {
    let k = ConvAttributes::same;
    let lopsided = k([3, 3, 3]).with_padding([0, 2, 1]);
    for (a, channels, size) in [
        (k([3, 3, 3]), [3, 5], [5, 6, 7]),
        (k([3, 3, 3]), [17, 35], [4, 5, 9]),
        (k([3, 3, 3]), [2, 66], [3, 4, 4]),
        (k([3, 3, 3]), [1, 1], [1, 1, 1]),
        (k([1, 3, 3]), [4, 8], [3, 7, 6]),
        (k([1, 3, 3]), [2, 3], [1, 9, 13]),
        (lopsided, [2, 3], [4, 5, 12]),
        (k([3, 3, 3]).with_padding([0, 0, 0]), [2, 3], [4, 5, 12]),
    ] {
        check_conv(a, channels, size, Some("winograd"));
        check_transposed(a, channels, size, Some("winograd"));
    }
}

/// So many channels that the transformed copies are made in chunks.
#[test]
fn winograd_conv_in_chunks_matches_the_reference() {
    let a = ConvAttributes::same([3, 3, 3]);
    let t = tensors(&a, [520, 1], [12, 14, 13]);
    let inputs = vec![(t.x.clone(), true), (t.w.clone(), false)];
    let y = reference::forward(&window(&a), &t.x, &t.w, None, t.dy.shape.spatial());
    Case::new("conv in chunks", ConvForward { attributes: a }, inputs)
        .with_variant("conv", "winograd")
        .check_forward(&[y], tolerance(&a, &t));
}

/// Large enough that the largest tiles are chosen.
#[test]
fn gemm_conv_with_large_tiles_matches_the_reference() {
    let a = ConvAttributes::same([1, 1, 1]);
    let t = tensors(&a, [9, 41], [33, 32, 32]);
    let inputs = vec![(t.x.clone(), true), (t.w.clone(), false)];
    let y = reference::forward(&window(&a), &t.x, &t.w, None, t.dy.shape.spatial());
    Case::new("large conv", ConvForward { attributes: a }, inputs)
        .with_variant("conv", "gemm")
        .check_forward(&[y], Tolerance::for_terms(t.x.shape.c()));
}

#[test]
fn depthwise_conv_matches_the_reference_forward_and_backward() {
    let k = ConvAttributes::same;
    let dilated = k([3, 3, 3])
        .with_dilation([2, 3, 1])
        .with_padding([2, 1, 0]);
    for (a, channels, size) in [
        (k([3, 3, 3]), [5, 5], [3, 5, 17]),
        (k([3, 3, 3]), [3, 6], [4, 5, 8]),
        (k([5, 5, 5]), [3, 3], [5, 6, 9]),
        (k([1, 7, 7]), [2, 2], [1, 9, 19]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [4, 4], [5, 7, 19]),
        (k([5, 5, 5]).with_stride([1, 2, 2]), [2, 4], [5, 7, 18]),
        (dilated, [3, 3], [6, 7, 11]),
    ] {
        let a = a.with_groups(channels[0]);
        check_conv(a, channels, size, Some("depthwise"));
        check_transposed(a, channels, size, Some("depthwise"));
    }
}

/// Rows in fours, which are read and written in place, and others; tiles that overhang along D and H.
#[test]
fn depthwise_strips_match_the_reference_forward_and_backward() {
    let k = ConvAttributes::same;
    let lopsided = k([3, 3, 3]).with_padding([0, 2, 1]);
    for (a, channels, size) in [
        (k([3, 3, 3]), [5, 5], [5, 9, 12]),
        (k([3, 3, 3]), [19, 19], [4, 4, 4]),
        (k([3, 3, 3]), [3, 6], [4, 5, 7]),
        (lopsided, [2, 2], [6, 3, 9]),
        (k([1, 3, 3]), [2, 2], [3, 11, 16]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [4, 4], [5, 7, 16]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [3, 6], [6, 9, 11]),
        (k([1, 3, 3]).with_stride([1, 2, 2]), [2, 2], [2, 9, 18]),
        (k([5, 5, 5]), [2, 2], [3, 6, 8]),
        (k([5, 5, 5]).with_stride([2, 2, 2]), [2, 2], [4, 7, 11]),
        (k([1, 5, 5]).with_stride([1, 2, 2]), [2, 2], [1, 9, 8]),
        (k([3, 3, 3]).with_stride([1, 2, 1]), [2, 2], [3, 6, 10]),
        (k([1, 5, 5]), [3, 3], [1, 7, 13]),
        (k([1, 7, 7]), [2, 2], [1, 9, 20]),
    ] {
        let a = a.with_groups(channels[0]);
        check_conv(a, channels, size, Some("strips"));
        check_transposed(a, channels, size, Some("strips"));
    }
}

#[test]
fn depthwise_strips_add_up_several_parts_the_same_way_each_time() {
    let a = ConvAttributes::same([3, 3, 3]).with_groups(3);
    let t = tensors(&a, [3, 3], [21, 17, 12]);
    let expected = reference::weight_grad(&window(&a), &t.x, &t.dy, t.w.shape);
    let inputs = vec![(t.x.clone(), true), (t.dy.clone(), true)];
    let op = ConvWeightGrad { attributes: a };
    let case = Case::new("strips in parts", op, inputs).with_variant("conv", "strips");
    case.check_forward(&[expected], tolerance(&a, &t));
    assert_eq!(case.run(false, None)[0].data, case.run(false, None)[0].data);
}

#[test]
fn chosen_conv_matches_the_reference_forward_and_backward() {
    for (a, channels, size) in examples() {
        check_conv(a, channels, size, None);
        check_transposed(a, channels, size, None);
    }
}

#[test]
fn samples_too_large_for_one_padded_copy_match_the_reference() {
    let k = ConvAttributes::same([3, 3, 3]);
    check_conv(k, [12, 1], [18, 70, 150], Some("lanes"));
    check_conv(k, [1, 12], [18, 70, 150], Some("lanes"));
    let strided = k.with_stride([2, 2, 2]);
    check_conv(strided, [10, 2], [23, 70, 150], Some("lanes"));
}

#[test]
fn a_long_bias_gradient_is_added_in_stages() {
    for shape in [
        Shape::new(2, 3, 21, 31, 41),
        Shape::new(2, 3, 16, 32, 48),
        // More rows than an axis of a grid may count.
        Shape::new(257, 256, 1, 1, 4),
    ] {
        let dy = random(shape, 1);
        let case = Case::new("bias gradient", BiasGrad, vec![(dy.clone(), true)]);
        let terms = shape.n() * shape.voxels();
        case.check_forward(&[reference::bias_grad(&dy)], Tolerance::for_terms(terms));
    }
}

/// A tensor of a fixture; a list of C numbers is a vector.
pub fn tensor(case: &fixtures::Case<'_>, key: &str) -> HostTensor<f64> {
    let stored = case.tensor(key);
    let shape = match stored.shape[..] {
        [n, c, d, h, w] => Shape::new(n, c, d, h, w),
        [c] => Shape::vector(c),
        ref other => panic!("{}: {key} has shape {other:?}", case.name()),
    };
    HostTensor {
        shape,
        data: stored.data.iter().map(|&v| f64::from(v)).collect(),
    }
}

#[test]
fn impossible_convolutions_are_refused_with_the_reason() {
    let x = Shape::new(1, 4, 2, 5, 5);
    let refuse = |a: ConvAttributes, w: Shape, part: &str| {
        let text = ConvForward { attributes: a }
            .infer(&[x, w])
            .unwrap_err()
            .to_string();
        assert!(text.contains(part), "{text}");
    };
    let three = ConvAttributes::new([3, 3, 3]);
    refuse(
        three,
        Shape::new(2, 4, 3, 3, 3),
        "does not fit into 2 padded voxels along D",
    );
    let same = ConvAttributes::same([3, 3, 3]);
    refuse(
        same,
        Shape::new(2, 3, 3, 3, 3),
        "must be (2, 4, 3, 3, 3), found (2, 3, 3, 3, 3)",
    );
    refuse(
        same.with_groups(3),
        Shape::new(3, 1, 3, 3, 3),
        "3 groups must divide the 4 input",
    );
    refuse(
        same.with_stride([1, 0, 1]),
        Shape::new(2, 4, 3, 3, 3),
        "stride must lie in 1..=",
    );
    let mut graph = Graph::new();
    let id = graph.input("x", x).unwrap();
    let w = graph.input("w", Shape::new(4, 2, 2, 2, 2)).unwrap();
    let a = ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]);
    let error = conv_transpose(&mut graph, id, w, None, a, [2, 0, 0]).unwrap_err();
    assert!(error.to_string().contains("output padding"), "{error}");
}
