//! The weight gradient's fast kernels against the f64 reference, at sizes that no tile divides.

use voxseg::ops::conv::{ConvAttributes, ConvWeightGrad};
use voxseg::reference::Tolerance;
use voxseg::reference::conv::{Window, weight_grad};
use voxseg::tensor::Shape;

use crate::harness::{Case, random};

fn check(variant: &'static str, a: ConvAttributes, [c_in, c_out]: [usize; 2], size: [usize; 3]) {
    let x = random(Shape::new(2, c_in, 1, 1, 1).with_spatial(size), 1);
    let y = a.output_size("test", size).unwrap();
    let dy = random(x.shape.with_c(c_out).with_spatial(y), 2);
    let window = Window {
        stride: a.stride,
        padding: a.padding,
        dilation: a.dilation,
        groups: a.groups,
    };
    let shape = a.weight_shape("test", c_in, c_out).unwrap();
    let expected = weight_grad(&window, &x, &dy, shape);
    let terms = 2 * dy.shape.voxels();
    Case::new(
        format!("weight gradient {:?} {:?}", a.kernel, a.stride),
        ConvWeightGrad { attributes: a },
        vec![(x, true), (dy, true)],
    )
    .with_variant("conv", variant)
    .check_forward(&[expected], Tolerance::for_terms(terms));
}

#[test]
fn lanes_match_the_reference_for_every_window() {
    let k = ConvAttributes::same;
    let two = ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]);
    let deep = k([3, 3, 3])
        .with_dilation([2, 1, 1])
        .with_padding([2, 1, 1]);
    let bare = ConvAttributes::new([3, 3, 3]);
    for (a, channels, size) in [
        (k([3, 3, 3]), [3, 5], [3, 5, 7]),
        (k([3, 3, 3]), [9, 19], [5, 9, 17]),
        (k([3, 3, 3]), [8, 16], [4, 8, 16]),
        (k([3, 3, 3]), [2, 33], [9, 3, 3]),
        (bare, [5, 8], [4, 6, 10]),
        (deep, [2, 3], [5, 6, 7]),
        // High enough for strips, which end within a word or with one.
        (k([1, 3, 3]), [1, 4], [1, 37, 45]),
        (k([3, 3, 3]), [9, 17], [3, 17, 9]),
        (k([3, 3, 3]), [8, 16], [2, 16, 16]),
        (bare, [2, 9], [4, 20, 26]),
        (k([5, 5, 5]), [5, 17], [3, 7, 13]),
        // Strips of a source that is read where it lies.
        (k([3, 3, 3]), [9, 17], [3, 25, 12]),
        (k([1, 3, 3]), [1, 4], [1, 24, 32]),
        (k([5, 5, 5]), [5, 17], [3, 7, 20]),
        (k([1, 5, 5]), [1, 4], [1, 18, 3]),
        (deep, [5, 3], [5, 16, 7]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [5, 17], [7, 11, 18]),
        (k([1, 3, 3]).with_stride([1, 2, 2]), [4, 8], [3, 8, 16]),
        (two, [9, 17], [6, 9, 13]),
        (two, [8, 32], [4, 8, 16]),
        (k([1, 1, 1]), [17, 3], [3, 5, 7]),
        (k([1, 1, 1]), [16, 33], [4, 4, 8]),
        (k([1, 1, 1]).with_stride([2, 2, 2]), [3, 10], [5, 6, 7]),
    ] {
        check("lanes", a, channels, size);
    }
}

#[test]
fn lanes_add_up_several_parts() {
    let a = ConvAttributes::same([3, 3, 3]);
    check("lanes", a, [4, 3], [21, 30, 33]);
}

#[test]
fn gemm_adds_up_several_parts() {
    let a = ConvAttributes::same([3, 3, 3]);
    check("gemm", a, [2, 35], [11, 20, 17]);
    check("gemm", a, [3, 4], [11, 20, 17]);
}
