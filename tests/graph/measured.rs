//! Choices of kernels that were measured, as data.

use std::collections::BTreeMap;

use voxseg::gpu::DeviceProfile;
use voxseg::graph::{Graph, Program, ProgramOptions};
use voxseg::ops::conv::{ConvAttributes, conv};
use voxseg::tensor::Shape;
use voxseg::tune::{Measured, problems_of};

fn convolution(channels: usize) -> (Graph, voxseg::ops::ValueId) {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1, channels, 4, 8, 8)).unwrap();
    let w = Shape::new(channels, channels, 3, 3, 3);
    let w = graph.input("w", w).unwrap();
    let attributes = ConvAttributes::same([3; 3]);
    let y = conv(&mut graph, x, w, None, attributes).unwrap();
    (graph, y)
}

fn kernels_for(device: &DeviceProfile, channels: usize) -> Vec<&'static str> {
    let (graph, y) = convolution(channels);
    let program = Program::compile(graph, &[y], device, ProgramOptions::default()).unwrap();
    program.kernels().map(|(kernel, _)| kernel.name).collect()
}

#[test]
fn what_was_measured_wins_over_the_rule_and_what_is_forced_over_both() {
    let mut device = DeviceProfile::minimal_gpu();
    let (graph, _) = convolution(32);
    let problem = problems_of(&graph, &device).into_keys().next().unwrap();
    assert!(kernels_for(&device, 32).contains(&"conv/gemm_correlate"));
    device.measured_variants = BTreeMap::from([(problem, "naive".to_owned())]);
    assert_eq!(kernels_for(&device, 32), ["conv/naive_forward"]);
    device.forced_variants.insert("conv".into(), "gemm".into());
    assert!(kernels_for(&device, 32).contains(&"conv/gemm_correlate"));
}

#[test]
fn a_gpu_takes_winograd_where_the_channels_are_many() {
    let device = DeviceProfile::minimal_gpu();
    assert!(kernels_for(&device, 64).contains(&"conv/winograd_product"));
    assert!(!kernels_for(&device, 32).contains(&"conv/winograd_product"));
}

#[test]
fn of_equal_times_the_rule_wins() {
    let measured = |times: &[(&'static str, f64)]| Measured {
        problem: String::new(),
        times: times.to_vec(),
    };
    assert_eq!(measured(&[("a", 2.0), ("b", 2.0)]).fastest(), "a");
    assert_eq!(
        measured(&[("a", 2.0), ("b", 1.0), ("c", 1.5)]).fastest(),
        "b"
    );
}
