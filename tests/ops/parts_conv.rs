//! Convolutions of operands larger than the device can bind.

use voxseg::ops::conv::{BiasGrad, ConvAttributes, ConvForward, ConvInputGrad};
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};

use crate::harness::{Case, random};
use crate::parts::{Agreement, EVEN, LIMIT, ODD, Tensor, bits, check, image, vector};

/// A convolution of `channels`, in and out, all of whose operands are larger than the limit.
struct Conv {
    x: Shape,
    c_out: usize,
    attributes: ConvAttributes,
}

impl Conv {
    fn weight(&self, rows: usize, columns: usize) -> (Tensor, bool) {
        let a = &self.attributes;
        let shape = a.weight_shape("test", columns, rows).unwrap();
        (random(shape, 7), false)
    }

    /// Forward with its gradients, then the transposed convolution with its own.
    fn check(&self, limit: u64, variants: &[&'static str]) {
        let a = self.attributes;
        let terms = self.x.n() * self.x.voxels();
        for &variant in variants {
            let forced = |case: Case| match variant {
                "" => case,
                name => case.with_variant("conv", name),
            };
            let inputs = vec![
                image(self.x, 1),
                self.weight(self.c_out, self.x.c()),
                vector(self.c_out, 2),
            ];
            let name = format!("{a:?} of {}", self.x);
            let case = forced(Case::new(name, ConvForward { attributes: a }, inputs));
            check(case, limit, &[true, true, true], Agreement::Terms(terms));

            let size = a.output_size("test", self.x.spatial()).unwrap();
            let dy = self.x.with_c(self.c_out).with_spatial(size);
            let inputs = vec![
                image(dy, 1),
                self.weight(self.c_out, self.x.c()),
                vector(self.x.c(), 2),
            ];
            let op = ConvInputGrad {
                attributes: a,
                input_size: self.x.spatial(),
            };
            let case = forced(Case::new(format!("transposed {a:?} of {dy}"), op, inputs));
            check(case, limit, &[true, true, true], Agreement::Terms(terms));
        }
    }
}

#[test]
fn convolutions_of_stride_1() {
    // Enough for the padded copy of one plane with its neighbours.
    let conv = Conv {
        x: Shape::new(1, 24, 16, 24, 21),
        c_out: 20,
        attributes: ConvAttributes::same([3; 3]),
    };
    conv.check(256 << 10, &["", "gemm"]);
    let small = Conv {
        x: Shape::new(1, 12, 6, 9, 11),
        c_out: 10,
        attributes: ConvAttributes::same([3; 3]),
    };
    small.check(LIMIT, &["naive"]);
}

#[test]
fn convolutions_with_strides() {
    for (kernel, stride, padding) in [
        ([3; 3], [2; 3], [1; 3]),
        ([2; 3], [2; 3], [0; 3]),
        ([1; 3], [2; 3], [0; 3]),
    ] {
        let conv = Conv {
            x: Shape::new(1, 9, 15, 28, 27),
            c_out: 40,
            attributes: ConvAttributes::new(kernel)
                .with_stride(stride)
                .with_padding(padding),
        };
        conv.check(168 << 10, &[""]);
    }
}

#[test]
fn convolutions_of_one_voxel_and_of_planes() {
    let pointwise = Conv {
        x: Shape::new(2, 19, 5, 12, 16),
        c_out: 24,
        attributes: ConvAttributes::new([1; 3]),
    };
    pointwise.check(64 << 10, &[""]);
    let planar = Conv {
        x: Shape::new(2, 12, 1, 45, 40),
        c_out: 11,
        attributes: ConvAttributes::same([1, 3, 3]),
    };
    planar.check(64 << 10, &[""]);
}

#[test]
fn convolutions_in_groups_and_dilated() {
    let depthwise = Conv {
        x: Shape::new(2, 12, 9, 20, 16),
        c_out: 12,
        attributes: ConvAttributes::same([3; 3]).with_groups(12),
    };
    depthwise.check(64 << 10, &[""]);
    let grouped = Conv {
        x: Shape::new(1, 24, 9, 20, 11),
        c_out: 18,
        attributes: ConvAttributes::same([3; 3]).with_groups(2),
    };
    grouped.check(64 << 10, &[""]);
    let dilated = Conv {
        x: Shape::new(1, 12, 9, 14, 13),
        c_out: 12,
        attributes: ConvAttributes::new([3; 3])
            .with_dilation([2; 3])
            .with_padding([2; 3]),
    };
    dilated.check(64 << 10, &[""]);
}

#[test]
fn gradients_of_biases() {
    bits("bias", BiasGrad, vec![image(ODD, 1)], &[]);
    bits("bias", BiasGrad, vec![image(EVEN, 1)], &[]);
}

/// The size that the parts are made for; some voxels are compared with sums in f64. Takes seconds and 2 GiB of memory:
/// `cargo test --test ops -- --ignored parts_conv::a_map`.
#[test]
#[ignore = "takes 2 GiB of memory"]
fn a_map_of_32_channels_at_128_cubed() {
    let shape = Shape::new(1, 32, 128, 128, 128);
    let (x, w) = (random(shape, 1), random(Shape::new(32, 32, 3, 3, 3), 2));
    let sum_at = |channel: usize, at: [usize; 3]| -> f64 {
        let mut sum = 0.0;
        for (i, weight) in w.data[channel * 32 * 27..][..32 * 27].iter().enumerate() {
            let (c, tap) = (i / 27, [i / 9 % 3, i / 3 % 3, i % 3]);
            let from = [0, 1, 2].map(|a| (at[a] + tap[a]).wrapping_sub(1));
            if from.iter().all(|&v| v < 128) {
                sum += weight * x.data[((c * 128 + from[0]) * 128 + from[1]) * 128 + from[2]];
            }
        }
        sum
    };
    let attributes = ConvAttributes::same([3; 3]);
    let inputs = vec![(x.clone(), true), (w.clone(), false)];
    let case = Case::new("32 to 32 at 128^3", ConvForward { attributes }, inputs);
    let found = &case.run(false, None)[0];
    // Corners, borders of slabs, and voxels anywhere.
    let mut state = 1usize;
    let mut draw = |end: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % end
    };
    let (mut positions, mut values, mut sums) = (0, Vec::new(), Vec::new());
    for z in 0..128 {
        for _ in 0..8 {
            let channel = draw(32);
            let at = [z, draw(130).saturating_sub(2), draw(130).saturating_sub(2)];
            values.push(found.data[((channel * 128 + at[0]) * 128 + at[1]) * 128 + at[2]]);
            sums.push(sum_at(channel, at));
            positions += 1;
        }
    }
    let shape = Shape::vector(positions);
    let found = HostTensor {
        shape,
        data: values,
    };
    let expected = HostTensor { shape, data: sums };
    let compared = Tolerance::for_terms(32 * 27).compare("32 to 32 at 128^3", &found, &expected);
    compared.unwrap_or_else(|text| panic!("{text}"));
}
