//! Convolutions slab by slab over their sources, and gradients for one part of a join at a time: the bits of the whole.

use std::sync::Arc;

use voxseg::gpu::{CooperativeMatrix, DeviceProfile};
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, Role};
use voxseg::ops::conv::{
    ConvAttributes, ConvForward, ConvInputGrad, ConvInputGradShare, ConvWeightGrad,
    ConvWeightGradShare, Piece, Streamed, conv_transpose,
};
use voxseg::ops::elementwise::add;
use voxseg::ops::layout::{concat, slice_channels};
use voxseg::ops::{Operator, ValueId};
use voxseg::tensor::{Element, Shape};

use crate::harness::{gpu, random};

/// What the adapter would take, the kernels of GPUs and the plain ones.
const VARIANTS: [&str; 4] = ["", "gemm", "winograd", "naive"];

fn device(variant: &str) -> DeviceProfile {
    let mut device = gpu().profile().clone();
    if !variant.is_empty() {
        let forced = ("conv".to_owned(), variant.to_owned());
        device.forced_variants.extend([forced]);
    }
    device
}

/// The bits of `output` where all inputs hold random numbers, and the bytes that tensors and scratch space take.
fn run(device: &DeviceProfile, graph: Graph, output: ValueId) -> (Vec<u32>, u64) {
    let inputs = graph.values().filter(|(_, v)| v.role == Role::Input);
    let feeds: Vec<(ValueId, Vec<f32>)> = inputs
        .map(|(id, value)| {
            let data = random(value.shape, u64::from(id.0)).data;
            (id, data.into_iter().map(|v| v as f32).collect())
        })
        .collect();
    let options = ProgramOptions {
        mixed_slots: true,
        ..ProgramOptions::default()
    };
    let program = Program::compile(graph, &[output], device, options).unwrap();
    let bytes = program.memory_plan().total_bytes();
    let executor = Executor::new(program, &mut Parameters::new(gpu(), 0)).unwrap();
    let views: Vec<(ValueId, &[f32])> = feeds.iter().map(|(v, d)| (*v, &d[..])).collect();
    let found = pollster::block_on(async {
        // Twice: the second run finds in the slot what the first has left there.
        executor.run(&views).await.unwrap();
        executor.run(&views).await.unwrap();
        executor.fetch().await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });
    assert!(found[0].data.iter().all(|v| v.is_finite()));
    (found[0].data.iter().map(|v| v.to_bits()).collect(), bytes)
}

/// A source that dies at its convolution, a weight and a bias.
fn operands(graph: &mut Graph, source: Shape, weight: Shape, bias: usize) -> Vec<ValueId> {
    let x = graph.input("x", source).unwrap();
    let w = graph.input("w", weight).unwrap();
    let bias = graph.input("bias", Shape::vector(bias)).unwrap();
    vec![add(graph, x, x).unwrap(), w, bias]
}

/// `op` of a source of `source` gives the same bits slab by slab over its source, in less memory.
fn over_its_source(op: impl Operator + 'static, source: Shape, weight: Shape, variant: &str) {
    let device = device(variant);
    let op: Arc<dyn Operator> = Arc::new(op);
    let target = op.infer(&[source, weight]).unwrap()[0];
    let results = [false, true].map(|in_slabs| {
        let mut graph = Graph::new();
        let inputs = operands(&mut graph, source, weight, target.c());
        let node: Arc<dyn Operator> = match in_slabs {
            false => op.clone(),
            true => {
                let piece = Piece {
                    shape: source,
                    made: None,
                    inputs: 1,
                };
                let conv = op.convolution().unwrap();
                let f32 = Element::F32;
                Arc::new(Streamed::new(conv, vec![piece], target, f32, &device).unwrap())
            }
        };
        let output = graph.node(node, &inputs).unwrap()[0];
        run(&device, graph, output)
    });
    let [(whole, both), (slabs, one)] = results;
    let name = op.name();
    assert!(
        whole == slabs,
        "{name} of {source}, {variant:?}: bits differ"
    );
    assert!(one < both, "{name}: {one} bytes for {both}");
}

#[test]
fn forward_and_input_gradients_lie_over_their_sources() {
    let window = ConvAttributes::same([3; 3]);
    let wide = ConvAttributes::same([5, 3, 3]);
    for variant in VARIANTS {
        for (shape, attributes) in [
            (Shape::new(1, 8, 32, 8, 12), window),
            (Shape::new(2, 9, 30, 7, 9), window),
            (Shape::new(1, 16, 34, 8, 8), wide),
            (
                Shape::new(1, 12, 1, 40, 36),
                ConvAttributes::same([1, 3, 3]),
            ),
        ] {
            let weight = attributes
                .weight_shape("test", shape.c(), shape.c())
                .unwrap();
            over_its_source(ConvForward { attributes }, shape, weight, variant);
            let input_size = shape.spatial();
            let back = ConvInputGrad {
                attributes,
                input_size,
            };
            over_its_source(back, shape, weight, variant);
        }
    }
}

#[test]
fn a_share_of_the_input_gradient_lies_over_its_source() {
    let attributes = ConvAttributes::same([3; 3]);
    let shape = Shape::new(1, 16, 32, 8, 8);
    let weight = attributes.weight_shape("test", 16, 16).unwrap();
    for variant in VARIANTS {
        let share = ConvInputGradShare {
            whole: ConvInputGrad {
                attributes,
                input_size: shape.spatial(),
            },
            channels: 32,
        };
        over_its_source(share, shape, weight, variant);
    }
}

#[test]
fn what_is_no_slabs_or_has_other_extents_stays_whole() {
    let device = device("");
    let new = |attributes, shape: Shape, target| {
        let conv = ConvForward { attributes }.convolution()?;
        let piece = Piece {
            shape,
            made: None,
            inputs: 1,
        };
        Streamed::new(conv, vec![piece], target, Element::F32, &device)
    };
    let window = ConvAttributes::same([3; 3]);
    let flat = Shape::new(1, 8, 8, 16, 16);
    assert!(new(window, flat, flat).is_none(), "two slabs are the whole");
    let deep = Shape::new(1, 8, 32, 8, 8);
    assert!(new(window, deep, deep).is_some());
    assert!(new(window.with_groups(8), deep, deep).is_none());
    let half = deep.with_spatial([16, 4, 4]);
    assert!(new(window.with_stride([2; 3]), deep, half).is_none());
}

/// Few rows are fetched for cooperative matrices in another order, in which sums would have other bits.
#[test]
fn slabs_that_would_be_added_up_in_another_order_are_none() {
    let matrix = CooperativeMatrix {
        edge: 8,
        operands: Element::F32,
    };
    let device = DeviceProfile {
        cooperative: vec![matrix],
        ..device("coop")
    };
    let attributes = ConvAttributes::same([1, 3, 3]);
    let new = |rows: usize| {
        let shape = Shape::new(1, 16, 1, rows, 40);
        let conv = ConvForward { attributes }.convolution().unwrap();
        let piece = Piece {
            shape,
            made: None,
            inputs: 1,
        };
        Streamed::new(conv, vec![piece], shape, Element::F32, &device)
    };
    assert!(new(48).is_some());
    assert!(new(49).is_none(), "the last slab has one row");
}

/// A convolution whose tensors can be bound, but lie in joins that cannot.
#[test]
fn what_lies_far_apart_is_computed_slab_by_slab() {
    let attributes = ConvAttributes::same([3; 3]);
    let part = Shape::new(2, 8, 16, 8, 8);
    let device = DeviceProfile {
        max_binding: 2 * part.bytes(),
        ..device("")
    };
    let results = [false, true].map(|in_slabs| {
        let mut graph = Graph::new();
        let join = graph.input("join", part.with_c(32)).unwrap();
        let w = graph.input("w", Shape::new(8, 8, 3, 3, 3)).unwrap();
        let x = slice_channels(&mut graph, join, 8, 8).unwrap();
        let piece = Piece {
            shape: part,
            made: None,
            inputs: 1,
        };
        let whole = ConvForward { attributes };
        let conv = whole.convolution().unwrap();
        let node: Arc<dyn Operator> = match in_slabs {
            false => Arc::new(whole),
            true => {
                let slabs = Streamed::new(conv, vec![piece], part, Element::F32, &device);
                Arc::new(slabs.unwrap())
            }
        };
        let y = graph.node(node, &[x, w]).unwrap()[0];
        run(&device, graph, y).0
    });
    assert!(results[0] == results[1], "bits differ");
}

/// A convolution of the join of what a transposed convolution makes of `coarse` with a skip connection.
fn of_a_join(coarse: Shape, skip: Shape, up: ConvAttributes, variant: &str) {
    let device = device(variant);
    let channels = skip.c();
    let attributes = ConvAttributes::same([3; 3]);
    let results = [false, true].map(|in_slabs| {
        let mut graph = Graph::new();
        let low = graph.input("low", coarse).unwrap();
        let [d, h, w] = up.kernel;
        let shape = Shape::new(coarse.c(), channels, d, h, w);
        let w_up = graph.input("up", shape).unwrap();
        let b_up = graph.input("bias of up", Shape::vector(channels)).unwrap();
        let weight = attributes
            .weight_shape("test", 2 * channels, channels)
            .unwrap();
        let own = operands(&mut graph, skip, weight, channels);
        let output = if in_slabs {
            let maker = ConvInputGrad {
                attributes: up,
                input_size: skip.spatial(),
            };
            let made = Piece {
                shape: skip,
                made: Some((maker.convolution().unwrap(), coarse)),
                inputs: 3,
            };
            let whole = Piece {
                shape: skip,
                made: None,
                inputs: 1,
            };
            let conv = ConvForward { attributes }.convolution().unwrap();
            let op = Streamed::new(conv, vec![made, whole], skip, Element::F32, &device);
            let inputs = [&[low, w_up, b_up], &own[..]].concat();
            graph.node(Arc::new(op.unwrap()), &inputs).unwrap()[0]
        } else {
            let made = conv_transpose(&mut graph, low, w_up, Some(b_up), up, [0; 3]).unwrap();
            let join = concat(&mut graph, &[made, own[0]]).unwrap();
            let op = Arc::new(ConvForward { attributes });
            graph.node(op, &[join, own[1], own[2]]).unwrap()[0]
        };
        run(&device, graph, output)
    });
    let [(whole, all), (slabs, few)] = results;
    assert!(
        whole == slabs,
        "{coarse} and {skip}, {variant:?}: bits differ"
    );
    // One map and slabs, for three maps.
    assert!(few < all, "{few} bytes for {all}");
}

#[test]
fn a_join_is_made_slab_by_slab() {
    let halved = ConvAttributes::new([2; 3]).with_stride([2; 3]);
    let flat = ConvAttributes::new([1, 2, 2]).with_stride([1, 2, 2]);
    for variant in VARIANTS {
        let skip = Shape::new(1, 8, 48, 8, 16);
        of_a_join(Shape::new(1, 12, 24, 4, 8), skip, halved, variant);
        of_a_join(Shape::new(1, 12, 48, 4, 8), skip, flat, variant);
        let skip = Shape::new(2, 5, 50, 6, 10);
        of_a_join(Shape::new(2, 7, 25, 3, 5), skip, halved, variant);
    }
}

/// The weight gradient and the input gradient of a convolution of a join, whole and in shares.
#[test]
fn gradients_of_a_join_in_shares() {
    for (x, c_out, kernel, parts) in [
        (Shape::new(1, 32, 16, 16, 16), 16, [3; 3], [16, 16]),
        (Shape::new(2, 17, 7, 9, 10), 6, [3; 3], [5, 12]),
        (Shape::new(1, 48, 8, 12, 16), 24, [1; 3], [16, 32]),
    ] {
        let attributes = ConvAttributes::same(kernel);
        let channels = x.c();
        for variant in VARIANTS {
            let device = device(variant);
            let results = [false, true].map(|in_shares| {
                let mut graph = Graph::new();
                let [x, dy] = [("x", x), ("dy", x.with_c(c_out))]
                    .map(|(name, shape)| graph.input(name, shape).unwrap());
                let whole = || ConvWeightGrad { attributes };
                let output = if in_shares {
                    let mut start = 0;
                    let shares = parts.map(|len| {
                        let part = slice_channels(&mut graph, x, start, len).unwrap();
                        start += len;
                        let whole = whole();
                        let op = ConvWeightGradShare { whole, channels };
                        graph.node(Arc::new(op), &[part, dy]).unwrap()[0]
                    });
                    concat(&mut graph, &shares).unwrap()
                } else {
                    graph.node(Arc::new(whole()), &[x, dy]).unwrap()[0]
                };
                run(&device, graph, output).0
            });
            let [whole, shares] = results;
            assert!(whole == shares, "dw of {x}, {variant:?}: bits differ");

            let weight = attributes.weight_shape("test", channels, c_out).unwrap();
            let results = [false, true].map(|in_shares| {
                let mut graph = Graph::new();
                let dy = graph.input("dy", x.with_c(c_out)).unwrap();
                let w = graph.input("w", weight).unwrap();
                let whole = || ConvInputGrad {
                    attributes,
                    input_size: x.spatial(),
                };
                let output = if in_shares {
                    let mut start = 0;
                    let shares = parts.map(|len| {
                        let part = slice_channels(&mut graph, w, start, len).unwrap();
                        start += len;
                        let whole = whole();
                        let op = ConvInputGradShare { whole, channels };
                        graph.node(Arc::new(op), &[dy, part]).unwrap()[0]
                    });
                    concat(&mut graph, &shares).unwrap()
                } else {
                    graph.node(Arc::new(whole()), &[dy, w]).unwrap()[0]
                };
                run(&device, graph, output).0
            });
            let [whole, shares] = results;
            assert!(whole == shares, "dx of {x}, {variant:?}: bits differ");
        }
    }
}
