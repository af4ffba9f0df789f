//! Operands larger than the device can bind: computed part by part, every operator gives what it gives in one piece.
//!
//! The bindings of the runs in parts are bounds-checked, and so small that a kernel that reached beyond its part would read
//! and write other numbers.

use voxseg::ops::Operator;
use voxseg::ops::activation::{Activate, Activation};
use voxseg::ops::attention::SelfAttention;
use voxseg::ops::border::{Crop, Fill, Pad};
use voxseg::ops::dropout::{Dropout, DropoutUnit, seed_bits};
use voxseg::ops::elementwise::{Add, AddBroadcast, Multiply, ScaleChannels, ScaleVoxels};
use voxseg::ops::layout::{Concat, PadChannels, SliceChannels};
use voxseg::ops::loss::{Activation as Probability, LossAttributes, PixelLoss, SegmentationLoss};
use voxseg::ops::matmul::LinearLast;
use voxseg::ops::norm::{LayerApply, LayerStats, MeanDeviation, NormApply, NormKind, NormStats};
use voxseg::ops::pool::{AvgPool, GlobalAvgPool, MaxPool, Window};
use voxseg::ops::resample::{Mode, Resample};
use voxseg::ops::softmax::Softmax;
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};

use crate::harness::{Case, random, random_in};

pub type Tensor = HostTensor<f64>;

/// 4096 elements.
pub const LIMIT: u64 = 16 << 10;

/// Samples of 495 elements a channel: 24 KiB each, so that some channels of one sample fit, and no two samples do.
pub const ODD: Shape = Shape::new(2, 12, 5, 9, 11);
/// The same in rows of fours.
pub const EVEN: Shape = Shape::new(2, 12, 4, 8, 16);

/// How close the results must be.
#[derive(Clone, Copy)]
pub enum Agreement {
    /// Every sum in its old order.
    Bits,
    /// Sums of so many terms in another order.
    Terms(usize),
}

fn agree(name: &str, whole: &[HostTensor], parts: &[HostTensor], agreement: Agreement) {
    assert_eq!(whole.len(), parts.len(), "{name}");
    for (i, (whole, parts)) in whole.iter().zip(parts).enumerate() {
        match agreement {
            Agreement::Bits => {
                let bits = |t: &HostTensor| t.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(bits(whole) == bits(parts), "{name}: result {i} differs");
            }
            Agreement::Terms(terms) => {
                let expected = HostTensor {
                    shape: whole.shape,
                    data: whole.data.iter().map(|&v| f64::from(v)).collect(),
                };
                let tolerance = Tolerance::for_terms(terms);
                let compared = tolerance.compare(&format!("{name}: result {i}"), parts, &expected);
                let deviation = compared.unwrap_or_else(|text| panic!("{text}"));
                println!("{name}: result {i}: {:.3} of the tolerance", deviation.used);
            }
        }
    }
}

/// Runs `case` whole and in parts, plain and embedded: forward, and backward for the `wanted` inputs where there are any.
pub fn check(mut case: Case, limit: u64, wanted: &[bool], agreement: Agreement) {
    let shapes: Vec<Shape> = case.inputs.iter().map(|(t, _)| t.shape).collect();
    let outputs = case.op.infer(&shapes).unwrap();
    let mut dys: Vec<Option<Tensor>> = vec![None; outputs.len()];
    dys[0] = Some(random(outputs[0], 99));
    for embed in [false, true] {
        for backward in [None, Some((&dys[..], wanted))] {
            if backward.is_some() && !wanted.contains(&true) {
                continue;
            }
            let way = ["forward", "backward"][usize::from(backward.is_some())];
            let name = format!("{} {way}, embedded {embed}", case.name);
            case.binding_limit = None;
            let whole = case.run(embed, backward);
            let dispatches = case.dispatches.get();
            case.binding_limit = Some(limit);
            let parts = case.run(embed, backward);
            assert!(
                case.dispatches.get() > dispatches,
                "{name}: {} dispatches in parts, {dispatches} in one piece",
                case.dispatches.get()
            );
            agree(&name, &whole, &parts, agreement);
        }
    }
}

pub fn bits(name: &str, op: impl Operator + 'static, inputs: Vec<(Tensor, bool)>, wanted: &[bool]) {
    let shape = inputs[0].0.shape;
    let case = Case::new(format!("{name} of {shape}"), op, inputs);
    check(case, LIMIT, wanted, Agreement::Bits);
}

pub fn image(shape: Shape, seed: u64) -> (Tensor, bool) {
    (random(shape, seed), true)
}

pub fn vector(len: usize, seed: u64) -> (Tensor, bool) {
    (random_in(Shape::vector(len), seed, 0.1, 1.0), false)
}

#[test]
fn elementwise_operators() {
    for shape in [ODD, EVEN] {
        let two = || vec![image(shape, 1), image(shape, 2)];
        bits("add", Add, two(), &[]);
        bits("multiply", Multiply, two(), &[true, true]);
        let scale = (random(shape.with_spatial([1; 3]), 3), false);
        let inputs = vec![image(shape, 1), scale];
        bits("scale", ScaleChannels, inputs, &[true, true]);
        let inputs = vec![image(shape, 1), image(shape.with_c(1), 3)];
        bits("scale voxels", ScaleVoxels, inputs, &[true, true]);
    }
}

#[test]
fn activations() {
    for shape in [ODD, EVEN] {
        let leaky = Activate(Activation::LeakyRelu { slope: 0.01 });
        bits("leaky relu", leaky, vec![image(shape, 1)], &[true]);
        let inputs = vec![image(shape, 1), vector(shape.c(), 2)];
        bits("prelu", Activate(Activation::Prelu), inputs, &[true, true]);
    }
}

#[test]
fn operators_on_tokens() {
    for shape in [ODD, EVEN] {
        let [_, c, d, h, w] = shape.0;
        let same = (random(Shape::new(1, c, d, h, w), 2), false);
        bits(
            "add to each",
            AddBroadcast,
            vec![image(shape, 1), same],
            &[true, false],
        );
        bits(
            "layer statistics",
            LayerStats { eps: 1e-5 },
            vec![image(shape, 1)],
            &[],
        );
        let stats = [2, 3].map(|seed| (random_in(shape.with_c(1), seed, 0.5, 1.5), false));
        let [gamma, beta] = [4, 5].map(|seed| vector(c, seed));
        let [mean, rstd] = stats;
        let inputs = vec![image(shape, 1), mean, rstd, gamma, beta];
        let case = Case::new(format!("layer norm of {shape}"), LayerApply, inputs);
        let wanted = [true, false, false, true, true];
        check(
            case,
            LIMIT,
            &wanted,
            Agreement::Terms(shape.n() * shape.voxels()),
        );
        for outputs in [9, 40] {
            let weight = (random(Shape::new(outputs, w, 1, 1, 1), 2), false);
            let x = shape.with_c(6);
            let inputs = vec![image(x, 1), weight, vector(outputs, 3)];
            let name = format!("along the last axis of {x} to {outputs}");
            bits(&name, LinearLast, inputs.clone(), &[true, false, false]);
            let rows = x.len() / w;
            let case = Case::new(name, LinearLast, inputs);
            check(case, LIMIT, &[true, true, true], Agreement::Terms(rows));
        }
        for variant in ["tiled", "naive"] {
            let op = SelfAttention { heads: 2 };
            let case = Case::new(format!("attention of {shape}"), op, vec![image(shape, 1)]);
            let case = case.with_variant("attention", variant);
            check(case, LIMIT, &[true], Agreement::Bits);
        }
    }
    // The scores of a head fit, heads together do not.
    let shape = Shape::new(2, 192, 1, 1, 61);
    let op = SelfAttention { heads: 2 };
    let case = Case::new(format!("attention of {shape}"), op, vec![image(shape, 1)]);
    let case = case.with_variant("attention", "products");
    check(case, 16 << 10, &[true], Agreement::Bits);
}

#[test]
fn dropout() {
    for unit in [DropoutUnit::Element, DropoutUnit::Channel] {
        let seed = HostTensor {
            shape: Shape::scalar(),
            data: vec![f64::from(seed_bits(0x4049_0fdb))],
        };
        let op = Dropout {
            p: 0.3,
            unit,
            salt: 5,
        };
        let inputs = vec![image(ODD, 1), (seed, false)];
        bits("dropout", op, inputs, &[true, false]);
    }
}

#[test]
fn norms() {
    for shape in [ODD, EVEN, Shape::new(1, 24, 1, 25, 37)] {
        let pairs = NormKind::Group {
            groups: shape.c() / 2,
        };
        for kind in [NormKind::Instance, NormKind::Batch, pairs] {
            bits(
                "stats",
                NormStats { kind, eps: 1e-5 },
                vec![image(shape, 1)],
                &[],
            );
            let stats = kind.stats_shape("test", shape).unwrap();
            let c = shape.c();
            let op = NormApply {
                kind,
                activation: Some(Activation::Prelu),
                constant_stats: false,
            };
            let own = shape.with_spatial([1; 3]);
            for affine in [Shape::vector(c), own] {
                let inputs = vec![
                    image(shape, 1),
                    (random(stats, 2), false),
                    (random_in(stats, 3, 0.5, 2.0), false),
                    (random_in(affine, 4, 0.1, 1.0), false),
                    (random_in(affine, 5, 0.1, 1.0), false),
                    vector(c, 6),
                ];
                let wanted = [true, false, false, true, true, true];
                let name = format!("{kind:?} apply with {}", affine.n());
                bits(&name, op.clone(), inputs, &wanted);
            }
        }
        let deviation = MeanDeviation { eps: 1e-5 };
        bits("deviation", deviation, vec![image(shape, 1)], &[true]);
    }
}

#[test]
fn pooling() {
    let odd = Window {
        kernel: [3; 3],
        stride: [2; 3],
        padding: [1; 3],
    };
    for (shape, window) in [(ODD, odd), (EVEN, Window::tiles([2; 3]))] {
        bits("max", MaxPool { window }, vec![image(shape, 1)], &[true]);
        let count_include_pad = true;
        let average = AvgPool {
            window,
            count_include_pad,
        };
        bits("average", average, vec![image(shape, 1)], &[true]);
        bits("global", GlobalAvgPool, vec![image(shape, 1)], &[true]);
    }
}

#[test]
fn borders_and_resampling() {
    for fill in [Fill::Constant(0.5), Fill::Mirror, Fill::Replicate] {
        let op = Pad {
            before: [1, 2, 3],
            after: [2, 1, 0],
            fill,
        };
        bits("pad", op, vec![image(ODD, 1)], &[true]);
    }
    let crop = Crop {
        start: [1, 2, 3],
        size: [4, 6, 7],
    };
    bits("crop", crop, vec![image(ODD, 1)], &[true]);
    let linear = Mode::Linear {
        align_corners: false,
    };
    for (mode, size) in [(linear, [10, 13, 7]), (Mode::Nearest, [5, 18, 22])] {
        bits(
            "resample",
            Resample { size, mode },
            vec![image(ODD, 1)],
            &[true],
        );
    }
}

#[test]
fn layouts() {
    let inputs = vec![
        image(ODD.with_c(5), 1),
        image(ODD.with_c(1), 2),
        image(ODD.with_c(12), 3),
    ];
    bits("concat", Concat, inputs, &[]);
    // Where x ends, inside a part, between two, and at the ends.
    for (start, channels) in [(0, 13), (7, 19), (20, 40)] {
        let op = PadChannels { start, channels };
        bits("pad channels", op, vec![image(ODD, 1)], &[]);
    }
    let slice = SliceChannels { start: 3, len: 2 };
    // A view has no dispatch, but its gradient is padded with channels of zeros.
    let mut case = Case::new("slice", slice, vec![image(ODD, 1)]);
    let dy = [Some(random(ODD.with_c(2), 2))];
    let whole = case.run(false, Some((&dy, &[true])));
    case.binding_limit = Some(LIMIT);
    let parts = case.run(false, Some((&dy, &[true])));
    agree("slice", &whole, &parts, Agreement::Bits);
}

#[test]
fn softmax() {
    for shape in [ODD, EVEN, Shape::new(3, 12, 1, 19, 23)] {
        bits("softmax", Softmax, vec![image(shape, 1)], &[true]);
    }
}

#[test]
fn segmentation_losses() {
    let labels = LossAttributes::dice_ce();
    let focal = LossAttributes {
        pixel: Some(PixelLoss::Focal { gamma: 2.0 }),
        class_weighted: true,
        voxel_weighted: true,
        ..labels
    };
    let regions = LossAttributes {
        activation: Probability::Sigmoid,
        background: true,
        ..labels
    };
    // The partial sums of one slab take 80 KiB.
    const LIMIT: u64 = 128 << 10;
    for shape in [Shape::new(2, 12, 9, 20, 23), Shape::new(2, 12, 1, 60, 80)] {
        for (name, attributes) in [("labels", labels), ("focal", focal), ("regions", regions)] {
            let is_regions = attributes.activation == Probability::Sigmoid;
            let classes = if is_regions { 1.0 } else { shape.c() as f64 };
            let channels = if is_regions { shape.c() } else { 1 };
            let mut target = random_in(shape.with_c(channels), 2, 0.0, 1.0);
            for value in &mut target.data {
                *value = (*value * classes).floor().min(classes - 1.0);
                if is_regions {
                    *value = f64::from(u8::from(*value > 0.5));
                }
            }
            let mut inputs = vec![image(shape, 1), (target, true)];
            let mut wanted = vec![true, false];
            if attributes.class_weighted {
                inputs.push(vector(shape.c(), 3));
                inputs.push((random_in(shape.with_c(1), 4, 0.0, 2.0), true));
                wanted.extend([false, false]);
            }
            let case = Case::new(
                format!("{name} of {shape}"),
                SegmentationLoss { attributes },
                inputs,
            );
            check(case, LIMIT, &wanted, Agreement::Terms(shape.voxels()));
        }
    }
}
