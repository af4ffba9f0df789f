//! Convolution in its three directions, by the kernels that the device would choose, beside the naive kernels:
//! `cargo bench --bench conv -- "32->32"`.
//!
//! Times are summed over all dispatches of the operator, packing and padding included.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::ops::conv::{
    ConvAttributes, Direction, bias_grad, conv, conv_input_grad, conv_weight_grad,
};
use voxseg::reference::{Tolerance, conv as reference};
use voxseg::tensor::Shape;

use common::Case;

/// Name, window, input channels, output channels, (D, H, W) of the input.
type Layer = (&'static str, ConvAttributes, usize, usize, [usize; 3]);

/// Layers of planar networks: kernel, stride, padding, dilation, groups, channels in and out, edge of the image.
fn planar() -> impl Iterator<Item = Layer> {
    let layers = [
        (
            "16x16 stride 16 3->384 224^2",
            [16, 16, 0, 1, 1],
            [3, 384],
            224,
        ),
        ("4x4 stride 4 3->96 224^2", [4, 4, 0, 1, 1], [3, 96], 224),
        (
            "2x2 stride 2 192->384 28^2",
            [2, 2, 0, 1, 1],
            [192, 384],
            28,
        ),
        ("7x7 stride 2 3->64 224^2", [7, 2, 3, 1, 1], [3, 64], 224),
        ("5x5 stride 2 16->32 112^2", [5, 2, 2, 1, 1], [16, 32], 112),
        ("3x3 stride 2 3->32 224^2", [3, 2, 1, 1, 1], [3, 32], 224),
        ("7x7 2->1 112^2", [7, 1, 3, 1, 1], [2, 1], 112),
        ("7x7 16->16 112^2", [7, 1, 3, 1, 1], [16, 16], 112),
        ("3x3 dilation 2 64->64 56^2", [3, 1, 2, 2, 1], [64, 64], 56),
        ("3x3 dilation 4 64->64 28^2", [3, 1, 4, 4, 1], [64, 64], 28),
        (
            "3x3 dilation 2 depthwise 128 56^2",
            [3, 1, 2, 2, 128],
            [128, 128],
            56,
        ),
        (
            "5x5 dilation 2 depthwise 160 28^2",
            [5, 1, 4, 2, 160],
            [160, 160],
            28,
        ),
    ];
    layers
        .into_iter()
        .map(|(name, window, [c_in, c_out], edge)| {
            let [kernel, stride, padding, dilation, groups] = window;
            let window = ConvAttributes::new([1, kernel, kernel])
                .with_stride([1, stride, stride])
                .with_padding([0, padding, padding])
                .with_dilation([1, dilation, dilation])
                .with_groups(groups);
            (name, window, c_in, c_out, [1, edge, edge])
        })
}

fn layers() -> Vec<Layer> {
    let same = ConvAttributes::same;
    let halving = ConvAttributes::new([2; 3]).with_stride([2; 3]);
    let strided = same([3; 3]).with_stride([2; 3]);
    vec![
        ("3x3x3 32->32 32^3", same([3; 3]), 32, 32, [32; 3]),
        ("3x3x3 1->32 32^3", same([3; 3]), 1, 32, [32; 3]),
        ("3x3x3 64->64 16^3", same([3; 3]), 64, 64, [16; 3]),
        ("3x3x3 128->128 6^3", same([3; 3]), 128, 128, [6; 3]),
        ("3x3x3 stride 2 32->64 32^3", strided, 32, 64, [32; 3]),
        ("2x2x2 stride 2 32->64 32^3", halving, 32, 64, [32; 3]),
        ("1x1x1 64->64 32^3", same([1; 3]), 64, 64, [32; 3]),
        ("1x1x1 32->3 32^3", same([1; 3]), 32, 3, [32; 3]),
        (
            "1x1x1 384->1536 197 tokens",
            same([1; 3]),
            384,
            1536,
            [1, 1, 197],
        ),
        ("5x5x5 16->16 32^3", same([5; 3]), 16, 16, [32; 3]),
        (
            "16x16x16 stride 16 1->384 96^3",
            ConvAttributes::new([16; 3]).with_stride([16; 3]),
            1,
            384,
            [96; 3],
        ),
        (
            "7x7x7 stride 2 1->64 64^3",
            same([7; 3]).with_stride([2; 3]),
            1,
            64,
            [64; 3],
        ),
        (
            "3x3x3 dilation 2 32->32 32^3",
            same([3; 3]).with_padding([2; 3]).with_dilation([2; 3]),
            32,
            32,
            [32; 3],
        ),
        ("1x3x3 32->32 128^2", same([1, 3, 3]), 32, 32, [1, 128, 128]),
        (
            "3x3x3 depthwise 64 32^3",
            same([3; 3]).with_groups(64),
            64,
            64,
            [32; 3],
        ),
        (
            "3x3x3 depthwise 64 48^3",
            same([3; 3]).with_groups(64),
            64,
            64,
            [48; 3],
        ),
        (
            "3x3x3 stride 2 depthwise 64 48^3",
            strided.with_groups(64),
            64,
            64,
            [48; 3],
        ),
    ]
}

fn case(direction: Direction, (name, window, c_in, c_out, size): Layer) -> Case {
    let x = Shape::new(1, c_in, 1, 1, 1).with_spatial(size);
    let terms = (window.taps() * c_in.max(c_out)).max(x.voxels());
    Case::new(name, Tolerance::for_terms(terms), move |graph, feeds| {
        let w = window.weight_shape("bench", c_in, c_out)?;
        let y = x
            .with_c(c_out)
            .with_spatial(window.output_size("bench", size)?);
        let output = match direction {
            Direction::Forward => {
                let (x, w) = (feeds.random(graph, "x", x)?, feeds.random(graph, "w", w)?);
                conv(graph, x, w, None, window)
            }
            Direction::InputGrad => {
                let (dy, w) = (feeds.random(graph, "dy", y)?, feeds.random(graph, "w", w)?);
                conv_input_grad(graph, dy, w, None, window, size)
            }
            Direction::WeightGrad => {
                let (x, dy) = (feeds.random(graph, "x", x)?, feeds.random(graph, "dy", y)?);
                conv_weight_grad(graph, x, dy, window)
            }
        };
        Ok(vec![output?])
    })
    .with_twin("conv", "naive")
}

fn bias_gradients() -> impl Iterator<Item = Case> {
    [("64 48^3", 64, 48), ("16 63^3", 16, 63)]
        .into_iter()
        .map(|(name, c, edge)| {
            let shape = Shape::new(1, c, edge, edge, edge);
            let tolerance = Tolerance::for_terms(shape.voxels());
            Case::new(name, tolerance, move |graph, feeds| {
                let dy = feeds.random(graph, "dy", shape)?;
                Ok(vec![bias_grad(graph, dy)?])
            })
            .with_reference(|inputs| vec![reference::bias_grad(&inputs[0])])
        })
}

fn convolutions(criterion: &mut Criterion) {
    for direction in [
        Direction::Forward,
        Direction::InputGrad,
        Direction::WeightGrad,
    ] {
        let cases = layers()
            .into_iter()
            .chain(planar())
            .map(|layer| case(direction, layer));
        common::bench(criterion, &format!("conv {direction:?}"), cases);
    }
    common::bench(criterion, "conv bias gradient", bias_gradients());
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
