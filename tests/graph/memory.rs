//! Memory that is saved without a change of results: storage taken over, forward values made again.

use voxseg::gpu::DeviceProfile;
use voxseg::graph::{Executor, Graph, Init, Parameters, Program, ProgramOptions, differentiate};
use voxseg::graph::{GraphError, Recomputation, compile_training, remove_dead_nodes};
use voxseg::ops::ValueId;
use voxseg::ops::activation::{Activation, activate, prelu};
use voxseg::ops::conv::{ConvAttributes, conv, conv_transpose};
use voxseg::ops::elementwise::add;
use voxseg::ops::layout::concat;
use voxseg::ops::norm::{NormParameters, instance_norm};
use voxseg::tensor::{HostTensor, Shape};

use crate::gpu;

const SHAPE: Shape = Shape::new(2, 1, 4, 6, 8);

/// A small network with a skip connection, a residual one and several activations, and its gradients.
struct Net {
    graph: Graph,
    feeds: Vec<(ValueId, Vec<f32>)>,
    outputs: Vec<ValueId>,
    first_backward: usize,
}

struct Layer {
    channels: usize,
    attributes: ConvAttributes,
    activation: Option<Activation>,
}

fn layer(graph: &mut Graph, name: &str, x: ValueId, layer: &Layer) -> ValueId {
    let channels = layer.channels;
    let c_in = graph.value(x).shape.c();
    let [d, h, w] = layer.attributes.kernel;
    let init = Init::KaimingNormal { a: 0.01 };
    graph
        .scope(name, |g| {
            let weight = g.parameter("weight", Shape::new(channels, c_in, d, h, w), init)?;
            let parameters = NormParameters {
                gamma: g.parameter("gamma", Shape::vector(channels), Init::Constant(1.25))?,
                beta: g.parameter("beta", Shape::vector(channels), Init::Constant(0.1))?,
                slope: None,
            };
            let z = conv(g, x, weight, None, layer.attributes).map_err(|e| g.blame(e))?;
            instance_norm(g, z, parameters, 1e-5, layer.activation).map_err(|e| g.blame(e))
        })
        .unwrap()
}

fn net() -> Net {
    let mut graph = Graph::new();
    let x = graph.input("x", SHAPE).unwrap();
    let same = ConvAttributes::same([3; 3]);
    let plain = |channels, activation| Layer {
        channels,
        attributes: same,
        activation,
    };
    let leaky = Some(Activation::LeakyRelu { slope: 0.01 });
    let fine = layer(&mut graph, "fine", x, &plain(4, leaky));
    let down = Layer {
        channels: 6,
        attributes: same.with_stride([2; 3]),
        activation: leaky,
    };
    let coarse = layer(&mut graph, "coarse", fine, &down);
    let bare = layer(&mut graph, "bare", coarse, &plain(6, None));
    let sum = add(&mut graph, coarse, bare).unwrap();
    let active = activate(&mut graph, sum, Activation::HardSwish).unwrap();
    let slopes = graph
        .parameter("slopes", Shape::vector(6), Init::Constant(0.2))
        .unwrap();
    let active = prelu(&mut graph, active, slopes).unwrap();
    let up = graph
        .parameter(
            "up",
            Shape::new(6, 4, 2, 2, 2),
            Init::KaimingNormal { a: 0.0 },
        )
        .unwrap();
    let window = ConvAttributes::new([2; 3]).with_stride([2; 3]);
    let back = conv_transpose(&mut graph, active, up, None, window, [0; 3]).unwrap();
    let joined = concat(&mut graph, &[back, fine]).unwrap();
    let decoded = layer(&mut graph, "decoded", joined, &plain(4, leaky));
    let last = layer(&mut graph, "last", decoded, &plain(3, leaky));
    let shape = graph.value(last).shape;
    let seed = graph.input("seed", shape).unwrap();
    let first_backward = graph.nodes().len();
    let wanted = graph.trainable();
    let grads = differentiate(&mut graph, last, seed, &wanted).unwrap();
    let wave = |shape: Shape, f: f32| (0..shape.len()).map(|i| (i as f32 * f).sin()).collect();
    Net {
        graph,
        feeds: vec![(x, wave(SHAPE, 0.37)), (seed, wave(shape, 0.91))],
        outputs: [vec![last], grads.into_values().collect()].concat(),
        first_backward,
    }
}

fn run(net: &Net, graph: Graph, reuse_memory: bool) -> (Vec<HostTensor>, u64) {
    let options = ProgramOptions {
        reuse_memory,
        ..ProgramOptions::default()
    };
    run_with(net, graph, options)
}

fn run_with(net: &Net, graph: Graph, options: ProgramOptions) -> (Vec<HostTensor>, u64) {
    let program = Program::compile(graph, &net.outputs, gpu().profile(), options).unwrap();
    let bytes = program.memory_plan().total_bytes();
    (execute(net, program), bytes)
}

fn execute(net: &Net, program: Program) -> Vec<HostTensor> {
    let executor = Executor::new(program, &mut Parameters::new(gpu(), 7)).unwrap();
    let views: Vec<(ValueId, &[f32])> = net.feeds.iter().map(|(v, d)| (*v, &d[..])).collect();
    pollster::block_on(async {
        // Twice: the second run finds in each slot what the first has left there.
        executor.run(&views).await.unwrap();
        executor.run(&views).await.unwrap();
        executor.fetch().await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    })
}

fn assert_same_bits(found: &[HostTensor], expected: &[HostTensor]) {
    let bits = |list: &[HostTensor]| -> Vec<Vec<u32>> {
        let of = |t: &HostTensor| t.data.iter().map(|v| v.to_bits()).collect();
        list.iter().map(of).collect()
    };
    assert!(expected.iter().flat_map(|t| &t.data).all(|v| v.is_finite()));
    assert_eq!(bits(found), bits(expected));
}

#[test]
fn storage_that_is_shared_and_taken_over_changes_no_bit() {
    let net = net();
    let (apart, most) = run(&net, net.graph.clone(), false);
    let (shared, bytes) = run(&net, net.graph.clone(), true);
    assert_same_bits(&shared, &apart);
    assert!(bytes < most / 2, "{bytes} of {most}");
    let options = ProgramOptions {
        mixed_slots: true,
        ..ProgramOptions::default()
    };
    let (mixed, closer) = run_with(&net, net.graph.clone(), options);
    assert_same_bits(&mixed, &apart);
    assert!(closer < bytes, "{closer} of {bytes}");
}

#[test]
fn values_that_are_made_again_are_the_same_bits() {
    let net = net();
    let (kept, _) = run(&net, net.graph.clone(), true);
    let plan = Recomputation::new(&net.graph, net.first_backward, &net.outputs);
    assert!(plan.families().len() > 6, "{:?}", plan.families());
    let all = plan.families().keys().copied().collect();
    for dropped in [plan.cheap(), all] {
        let (mut graph, flops) = plan.apply(&dropped);
        assert!(flops > 0.0 && graph.nodes().len() > net.graph.nodes().len());
        remove_dead_nodes(&mut graph, &net.outputs);
        let (again, _) = run(&net, graph, true);
        assert_same_bits(&again, &kept);
    }
}

#[test]
fn the_storage_of_a_sum_is_that_of_a_dying_operand() {
    let mut graph = Graph::new();
    let x = graph.input("x", SHAPE).unwrap();
    let two = add(&mut graph, x, x).unwrap();
    let three = add(&mut graph, x, two).unwrap();
    let six = add(&mut graph, three, three).unwrap();
    let tensors = |outputs: &[ValueId]| {
        let (graph, options) = (graph.clone(), ProgramOptions::default());
        let program = Program::compile(graph, outputs, gpu().profile(), options).unwrap();
        program.memory_plan().total_bytes() / SHAPE.bytes()
    };
    // x is the host's and `three` is both operands of the last sum: only `two` is taken over.
    assert_eq!(tensors(&[six]), 2);
    assert_eq!(tensors(&[six, two]), 3);
    let found = {
        let options = ProgramOptions::default();
        let program =
            Program::compile(graph.clone(), &[six, two], gpu().profile(), options).unwrap();
        let executor = Executor::new(program, &mut Parameters::new(gpu(), 0)).unwrap();
        let data: Vec<f32> = (0..SHAPE.len()).map(|i| i as f32).collect();
        pollster::block_on(async {
            executor.run(&[(x, &data)]).await.unwrap();
            executor.fetch().await.unwrap().unwrap()
        })
    };
    assert_eq!((found[0].data[5], found[1].data[5]), (30.0, 10.0));
}

#[test]
fn a_norm_is_written_over_its_source_from_the_start_in_its_place_of_a_join() {
    let shape = Shape::new(1, 1, 16, 16, 16);
    let mut graph = Graph::new();
    let x = graph.input("x", shape).unwrap();
    let mut parameter = |name: &str, value| {
        let parameter = graph.parameter(name, Shape::vector(1), Init::Constant(value));
        parameter.unwrap()
    };
    let parameters = NormParameters {
        gamma: parameter("gamma", 1.5),
        beta: parameter("beta", -0.5),
        slope: None,
    };
    let source = add(&mut graph, x, x).unwrap();
    let normal = instance_norm(&mut graph, source, parameters, 1e-5, None).unwrap();
    let joined = concat(&mut graph, &[x, normal]).unwrap();
    let net = Net {
        feeds: vec![(x, (0..shape.len()).map(|i| (i as f32).sin()).collect())],
        outputs: vec![joined],
        first_backward: 0,
        graph,
    };
    let (apart, _) = run(&net, net.graph.clone(), false);
    let (over, bytes) = run(&net, net.graph.clone(), true);
    assert_same_bits(&over, &apart);
    // The join, and statistics.
    assert!(bytes < 3 * shape.bytes(), "{bytes}");
}

#[test]
fn without_a_backward_part_nothing_is_made_again() {
    let net = net();
    let plan = Recomputation::new(&net.graph, net.graph.nodes().len(), &net.outputs);
    assert!(plan.families().is_empty());
}

/// The network compiled within `budget`, and its results.
fn within(net: &Net, budget: u64) -> Result<(Vec<HostTensor>, Program), GraphError> {
    let device = DeviceProfile {
        memory_budget: Some(budget),
        ..gpu().profile().clone()
    };
    let compile = || compile_training(&net.graph, net.first_backward, &net.outputs, &device);
    Ok((execute(net, compile()?), compile()?))
}

#[test]
fn a_budget_is_met_with_the_same_bits_or_refused_with_the_least() {
    let net = net();
    let (kept, _) = run(&net, net.graph.clone(), true);
    let Err(GraphError::Budget { budget: 1, least }) = within(&net, 1) else {
        panic!("no step fits one byte");
    };
    let (free, easy) = within(&net, u64::MAX).unwrap();
    assert_same_bits(&free, &kept);
    assert!(least < easy.total_bytes(), "{least}");
    // The least itself can be reached, and half-way there less is made again.
    let (found, tight) = within(&net, least).unwrap();
    assert_same_bits(&found, &kept);
    assert!(tight.total_bytes() <= least);
    let (found, middle) = within(&net, (least + easy.total_bytes()) / 2).unwrap();
    assert_same_bits(&found, &kept);
    let madds = [&easy, &middle, &tight].map(Program::recomputed_madds);
    assert!(madds.is_sorted() && madds[0] < madds[2], "{madds:?}");
    let refused = within(&net, least - 1).map(|(_, p)| p).unwrap_err();
    assert!(refused.is_users_fault(), "{refused}");
    assert!(refused.to_string().contains("--memory-budget"), "{refused}");
}
