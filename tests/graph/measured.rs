//! Choices of kernels that were measured, as data.

use std::collections::BTreeMap;

use voxseg::gpu::DeviceProfile;
use voxseg::graph::{Graph, Program, ProgramOptions};
use voxseg::ops::conv::{ConvAttributes, conv};
use voxseg::tensor::Shape;
use voxseg::tune::{Measured, problems_of};

fn convolution() -> (Graph, voxseg::ops::ValueId) {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1, 32, 4, 8, 8)).unwrap();
    let w = graph.input("w", Shape::new(32, 32, 3, 3, 3)).unwrap();
    let attributes = ConvAttributes::same([3; 3]);
    let y = conv(&mut graph, x, w, None, attributes).unwrap();
    (graph, y)
}

fn kernels_for(device: &DeviceProfile) -> Vec<&'static str> {
    let (graph, y) = convolution();
    let program = Program::compile(graph, &[y], device, ProgramOptions::default()).unwrap();
    program.kernels().map(|(kernel, _)| kernel.name).collect()
}

#[test]
fn what_was_measured_wins_over_the_rule_and_what_is_forced_over_both() {
    let mut device = DeviceProfile::minimal_gpu();
    let (graph, _) = convolution();
    let problem = problems_of(&graph, &device).into_keys().next().unwrap();
    assert!(kernels_for(&device).contains(&"conv/gemm_correlate"));
    device.measured_variants = BTreeMap::from([(problem, "naive".to_owned())]);
    assert_eq!(kernels_for(&device), ["conv/naive_forward"]);
    device.forced_variants.insert("conv".into(), "gemm".into());
    assert!(kernels_for(&device).contains(&"conv/gemm_correlate"));
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
