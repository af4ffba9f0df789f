//! Convolutions on the lattices of an image by its stride or dilation, and the windows that they lead to.

use voxseg::gpu::AdapterClass;
use voxseg::ops::Operator;
use voxseg::ops::conv::{ConvAttributes, ConvForward, ConvInputGrad, ConvWeightGrad};
use voxseg::tensor::Element;

use crate::conv::{check_conv, check_transposed, tensors};
use crate::harness::gpu;

/// Patches, windows larger than their stride with padding that it does not divide, dilations with and without groups; extents
/// that neither stride nor dilation divides, rows in fours on both sides and others.
#[test]
fn conv_on_lattices_matches_the_reference_forward_and_backward() {
    let k = ConvAttributes::new;
    let dilated = |kernel: [usize; 3], dilation: [usize; 3]| {
        let padding = [0, 1, 2].map(|i| (kernel[i] - 1) / 2 * dilation[i]);
        k(kernel).with_dilation(dilation).with_padding(padding)
    };
    for (a, channels, size) in [
        (k([1, 4, 4]).with_stride([1, 4, 4]), [3, 9], [1, 18, 32]),
        (k([1, 16, 16]).with_stride([1, 16, 16]), [2, 5], [2, 33, 47]),
        (k([4, 4, 4]).with_stride([4, 4, 4]), [1, 17], [9, 8, 12]),
        (
            k([1, 7, 7]).with_stride([1, 2, 2]).with_padding([0, 3, 3]),
            [3, 10],
            [1, 15, 32],
        ),
        (
            k([7, 7, 7]).with_stride([2, 2, 2]).with_padding([3, 3, 3]),
            [1, 4],
            [5, 9, 11],
        ),
        (
            k([1, 5, 5]).with_stride([1, 2, 2]).with_padding([0, 2, 2]),
            [2, 9],
            [2, 9, 16],
        ),
        (
            k([1, 5, 5]).with_stride([1, 3, 3]).with_padding([0, 2, 2]),
            [2, 3],
            [2, 9, 11],
        ),
        (dilated([1, 3, 3], [1, 2, 2]), [5, 9], [1, 14, 24]),
        (dilated([3, 3, 3], [2, 2, 2]), [3, 10], [5, 7, 9]),
        (dilated([1, 3, 3], [1, 4, 4]), [2, 3], [2, 11, 16]),
        (k([3, 3, 3]).with_dilation([1, 2, 3]), [2, 3], [4, 9, 10]),
        (
            dilated([1, 5, 5], [1, 2, 2]).with_groups(3),
            [3, 3],
            [1, 9, 16],
        ),
        (
            dilated([3, 3, 3], [2, 2, 2]).with_groups(2),
            [2, 2],
            [5, 6, 7],
        ),
    ] {
        check_conv(a, channels, size, Some("lattices"));
        check_transposed(a, channels, size, Some("lattices"));
        let t = tensors(&a, channels, size);
        let (x, w, dy) = (t.x.shape, t.w.shape, t.dy.shape);
        let f32s = [Element::F32; 2];
        let input_size = size;
        let (forward, input_grad, weight_grad) = (
            ConvForward { attributes: a },
            ConvInputGrad {
                attributes: a,
                input_size,
            },
            ConvWeightGrad { attributes: a },
        );
        let profile = gpu().profile().clone();
        for (op, inputs, output) in [
            (&forward as &dyn Operator, [x, w], dy),
            (&input_grad, [dy, w], x),
            (&weight_grad, [x, dy], w),
        ] {
            let found = op.candidates(&inputs, &f32s, &[output], &profile);
            let found = found.is_some_and(|c| c.variants.contains(&"lattices"));
            assert!(
                found || profile.class == AdapterClass::Gpu,
                "{a:?} is not run on lattices by {}",
                op.name()
            );
        }
    }
}

/// Wide windows, whose tiles are small, with padding on either side of the middle.
#[test]
fn wide_windows_match_the_reference_forward_and_backward() {
    let k = ConvAttributes::same;
    for (a, channels, size) in [
        (k([1, 7, 7]), [2, 1], [1, 9, 16]),
        (k([1, 7, 7]), [3, 17], [2, 7, 11]),
        (k([3, 7, 7]), [2, 9], [3, 8, 20]),
        (k([1, 4, 4]), [3, 9], [2, 9, 16]),
        (k([1, 4, 4]).with_padding([0, 2, 2]), [5, 17], [1, 9, 24]),
    ] {
        check_conv(a, channels, size, Some("lanes"));
        check_transposed(a, channels, size, Some("lanes"));
    }
}
