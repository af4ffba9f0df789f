//! Choices of kernels that were measured, as data.

use std::collections::BTreeMap;

use voxseg::gpu::{CooperativeMatrix, DeviceProfile};
use voxseg::graph::{Graph, Program, ProgramOptions};
use voxseg::ops::ValueId;
use voxseg::ops::conv::{ConvAttributes, conv, conv_weight_grad};
use voxseg::ops::layout::convert;
use voxseg::tensor::{Element, Shape};
use voxseg::tune::{Measured, problems_of};

fn convolution(channels: usize, stored: Element) -> (Graph, ValueId) {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1, channels, 4, 8, 8)).unwrap();
    let x = convert(&mut graph, x, stored).unwrap();
    let w = Shape::new(channels, channels, 3, 3, 3);
    let w = graph.input("w", w).unwrap();
    let attributes = ConvAttributes::same([3; 3]);
    let y = conv(&mut graph, x, w, None, attributes).unwrap();
    let y = convert(&mut graph, y, Element::F32).unwrap();
    (graph, y)
}

/// The gradient of its weight.
fn weight_gradient(channels: usize, stored: Element) -> (Graph, ValueId) {
    let mut graph = Graph::new();
    let [x, dy] = ["x", "dy"].map(|name| {
        let value = graph.input(name, Shape::new(1, channels, 4, 8, 8)).unwrap();
        convert(&mut graph, value, stored).unwrap()
    });
    let dw = conv_weight_grad(&mut graph, x, dy, ConvAttributes::same([3; 3])).unwrap();
    (graph, dw)
}

fn kernels_for(device: &DeviceProfile, channels: usize) -> Vec<&'static str> {
    kernels_of(convolution(channels, Element::F32), device)
}

fn kernels_of((graph, y): (Graph, ValueId), device: &DeviceProfile) -> Vec<&'static str> {
    let program = Program::compile(graph, &[y], device, ProgramOptions::default()).unwrap();
    program.kernels().map(|(kernel, _)| kernel.name).collect()
}

#[test]
fn what_was_measured_wins_over_the_rule_and_what_is_forced_over_both() {
    let mut device = DeviceProfile::minimal_gpu();
    let (graph, _) = convolution(32, Element::F32);
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

/// The problem of a graph of one, and what may be measured for it, the choice by rule first.
fn measurable((graph, _): (Graph, ValueId), device: &DeviceProfile) -> (String, Vec<&'static str>) {
    let (problem, (_, candidates)) = problems_of(&graph, device).pop_first().unwrap();
    (problem, candidates.variants)
}

/// Of one kind of cooperative matrices.
fn with_matrices(edge: u32, operands: Element) -> DeviceProfile {
    DeviceProfile {
        f16: true,
        cooperative: vec![CooperativeMatrix { edge, operands }],
        max_workgroup_memory: 32 << 10,
        ..DeviceProfile::minimal_gpu()
    }
}

#[test]
fn matrices_of_what_is_stored_are_measured_and_never_chosen_by_rule() {
    let singles = with_matrices(8, Element::F32);
    let halves = with_matrices(16, Element::F16);
    for (device, stored, other) in [
        (&singles, Element::F32, Element::F16),
        (&halves, Element::F16, Element::F32),
    ] {
        for problem in [convolution, weight_gradient] {
            let (_, variants) = measurable(problem(32, stored), device);
            assert!(variants[1..].contains(&"coop"), "{variants:?}");
            let kernels = kernels_of(problem(32, stored), device);
            assert!(!kernels.iter().any(|k| k.contains("coop")), "{kernels:?}");
            let (_, variants) = measurable(problem(32, other), device);
            assert!(!variants.contains(&"coop"), "{variants:?}");
        }
    }
}

#[test]
fn storage_in_f16_is_measured_by_itself() {
    let device = with_matrices(16, Element::F16);
    let problem = |stored| measurable(convolution(32, stored), &device).0;
    assert_eq!(
        problem(Element::F16),
        format!("{} in f16", problem(Element::F32))
    );
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
