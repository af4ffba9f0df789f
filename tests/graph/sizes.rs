//! Tensors that no device can hold are refused at once, with the figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use voxseg::gpu::DeviceProfile;
use voxseg::graph::{Graph, GraphError, Init, Program, ProgramOptions, remove_dead_nodes};
use voxseg::ops::Build;
use voxseg::ops::conv::{ConvAttributes, conv};
use voxseg::ops::layout::PadChannels;
use voxseg::tensor::Shape;

/// A convolution of `n` small patches, compiled for the smallest device.
fn compile(n: usize) -> Result<Program, GraphError> {
    let mut graph = Graph::new();
    let x = graph.input("image", Shape::new(n, 1, 1, 4, 4))?;
    let w = Shape::new(8, 1, 1, 3, 3);
    let w = graph.parameter("weight", w, Init::Constant(0.0))?;
    let attributes = ConvAttributes::same([1, 3, 3]);
    let y = conv(&mut graph, x, w, None, attributes).map_err(|e| graph.blame(e))?;
    let device = DeviceProfile::minimal_gpu();
    Program::compile(graph, &[y], &device, ProgramOptions::default())
}

#[test]
fn an_absurd_batch_is_refused_at_once() {
    assert!(compile(2).is_ok());
    // Beyond the device, beyond u32, and so many that the number of bytes overflows.
    for n in [1 << 22, 1 << 28, 1 << 40, usize::MAX / 8, usize::MAX] {
        let start = Instant::now();
        let error = compile(n).unwrap_err();
        assert!(start.elapsed() < Duration::from_millis(500), "{n}");
        assert!(matches!(error, GraphError::TooLarge { .. }), "{n}: {error}");
        assert!(error.is_users_fault(), "{error}");
    }
}

#[test]
fn an_output_whose_size_overflows_is_refused_when_the_graph_is_built() {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1 << 20, 1, 1, 4, 4)).unwrap();
    let op = PadChannels {
        start: 0,
        channels: 1 << 40,
    };
    let error = graph.add(Arc::new(op), &[x]).unwrap_err();
    assert!(error.to_string().contains("smaller patch"), "{error}");
}

#[test]
fn values_of_removed_nodes_need_not_fit() {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1, 2, 1, 4, 4)).unwrap();
    let op = PadChannels {
        start: 0,
        channels: 1 << 30,
    };
    graph.node(Arc::new(op), &[x]).unwrap();
    remove_dead_nodes(&mut graph, &[x]);
    let device = DeviceProfile::minimal_gpu();
    Program::compile(graph, &[x], &device, ProgramOptions::default()).unwrap();
}
