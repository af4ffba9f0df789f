//! Choices of kernels that were measured, as data.

use std::collections::BTreeMap;

use voxseg::gpu::{AdapterClass, CooperativeMatrix, DeviceProfile};
use voxseg::graph::{Graph, Program, ProgramOptions};
use voxseg::ops::conv::{ConvAttributes, conv};
use voxseg::ops::layout::convert;
use voxseg::tensor::{Element, Shape};
use voxseg::tune::{Measured, problems_of};

fn convolution(channels: usize, stored: Element) -> (Graph, voxseg::ops::ValueId) {
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

fn kernels_for(device: &DeviceProfile, channels: usize) -> Vec<&'static str> {
    kernels_in(device, channels, Element::F32)
}

fn kernels_in(device: &DeviceProfile, channels: usize, stored: Element) -> Vec<&'static str> {
    let (graph, y) = convolution(channels, stored);
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

#[test]
fn a_gpu_multiplies_matrices_of_what_is_stored_and_no_others() {
    const KERNEL: &str = "conv/coop_correlate";
    let with = |edge, operands| DeviceProfile {
        f16: true,
        cooperative: vec![CooperativeMatrix { edge, operands }],
        max_workgroup_memory: 32 << 10,
        ..DeviceProfile::minimal_gpu()
    };
    let uses = |device: &DeviceProfile, channels, stored| {
        kernels_in(device, channels, stored).contains(&KERNEL)
    };
    let (singles, halves) = (with(8, Element::F32), with(16, Element::F16));
    assert!(uses(&singles, 32, Element::F32) && uses(&halves, 32, Element::F16));
    assert!(!uses(&singles, 32, Element::F16) && !uses(&halves, 32, Element::F32));
    // Matrices that would not be full; in f32 Winograd's transform saves more.
    assert!(!uses(&halves, 40, Element::F16));
    assert!(!uses(&singles, 64, Element::F32) && uses(&halves, 64, Element::F16));
    let small = DeviceProfile {
        max_workgroup_memory: 16 << 10,
        ..halves.clone()
    };
    let slow = DeviceProfile {
        class: AdapterClass::CpuLike,
        ..halves.clone()
    };
    assert!(!uses(&small, 32, Element::F16) && !uses(&slow, 32, Element::F16));
}

#[test]
fn storage_in_f16_is_measured_by_itself() {
    let device = DeviceProfile {
        cooperative: vec![CooperativeMatrix {
            edge: 16,
            operands: Element::F16,
        }],
        max_workgroup_memory: 32 << 10,
        ..DeviceProfile::minimal_gpu()
    };
    let measurable = |stored| {
        let (graph, _) = convolution(32, stored);
        let (problem, (_, candidates)) = problems_of(&graph, &device).pop_first().unwrap();
        (problem, candidates.variants)
    };
    let (in_f32, in_f16) = (measurable(Element::F32), measurable(Element::F16));
    assert_eq!(in_f16.0, format!("{} in f16", in_f32.0));
    assert_eq!(in_f16.1[0], "coop");
    assert!(!in_f32.1.contains(&"coop"), "{:?}", in_f32.1);
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
