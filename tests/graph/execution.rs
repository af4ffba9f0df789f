//! Programs on the device: allocation, reuse of memory, views, shared parameters.

use std::time::Instant;

use voxseg::gpu::{DeviceProfile, Gpu, GpuOptions};
use voxseg::graph::{
    Executor, Graph, GraphError, Init, Parameters, Program, ProgramOptions, differentiate,
    remove_dead_nodes,
};
use voxseg::ops::ValueId;
use voxseg::ops::elementwise::add;
use voxseg::ops::layout::{concat, slice_channels};
use voxseg::ops::pool::global_avg_pool;
use voxseg::tensor::{HostTensor, Shape};

use crate::gpu;

const SHAPE: Shape = Shape::new(2, 3, 2, 3, 5);

fn ramp(shape: Shape, scale: f32) -> Vec<f32> {
    (0..shape.len()).map(|i| i as f32 * scale).collect()
}

/// The outputs of one run on the device.
pub fn run_once(
    graph: Graph,
    outputs: &[ValueId],
    feeds: &[(ValueId, &[f32])],
    reuse_memory: bool,
) -> Vec<HostTensor> {
    let options = ProgramOptions {
        reuse_memory,
        ..ProgramOptions::default()
    };
    let program = Program::compile(graph, outputs, gpu().profile(), options).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    pollster::block_on(async {
        executor.run(feeds).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    })
}

/// x doubled eight times by additions, half of the results joined by concatenations.
fn ladder(graph: &mut Graph) -> (ValueId, ValueId) {
    let x = graph.input("x", SHAPE).unwrap();
    let mut y = x;
    for _ in 0..4 {
        let doubled = add(graph, y, y).unwrap();
        let joined = concat(graph, &[doubled, y]).unwrap();
        let left = slice_channels(graph, joined, 0, SHAPE.c()).unwrap();
        let right = slice_channels(graph, joined, SHAPE.c(), SHAPE.c()).unwrap();
        y = add(graph, left, right).unwrap();
    }
    (x, y)
}

#[test]
fn sharing_memory_changes_no_result() {
    let data = ramp(SHAPE, 0.25);
    let results: Vec<Vec<HostTensor>> = [true, false]
        .into_iter()
        .map(|reuse| {
            let mut graph = Graph::new();
            let (x, y) = ladder(&mut graph);
            run_once(graph, &[y], &[(x, &data)], reuse)
        })
        .collect();
    assert_eq!(results[0], results[1]);
    let expected: Vec<f32> = data.iter().map(|v| v * 81.0).collect();
    assert_eq!(results[0][0].data, expected);
}

#[test]
fn a_step_allocates_nothing_and_submits_once() {
    let mut graph = Graph::new();
    let (x, y) = ladder(&mut graph);
    let program =
        Program::compile(graph, &[y], gpu().profile(), ProgramOptions::default()).unwrap();
    // A device of its own: the counters of a shared one move with other tests.
    let own = pollster::block_on(Gpu::open(&Default::default())).unwrap();
    let mut parameters = Parameters::new(own.clone(), 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    let data = ramp(SHAPE, 1.0);
    let before = own.counters();
    pollster::block_on(async {
        for _ in 0..5 {
            executor.run(&[(x, &data)]).await.unwrap();
            executor.fetch().await.unwrap().unwrap();
        }
    });
    let after = own.counters();
    assert_eq!(after.submits - before.submits, 5);
    assert_eq!(after.buffers, before.buffers);
    assert_eq!(after.bind_groups, before.bind_groups);
    assert_eq!(after.pipelines, before.pipelines);
}

#[test]
fn inputs_keep_their_content_until_written_again() {
    let mut graph = Graph::new();
    let (a, b) = (
        graph.input("a", SHAPE).unwrap(),
        graph.input("b", SHAPE).unwrap(),
    );
    let sum = add(&mut graph, a, b).unwrap();
    let program =
        Program::compile(graph, &[sum], gpu().profile(), ProgramOptions::default()).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    let (one, two) = (vec![1.0; SHAPE.len()], vec![2.0; SHAPE.len()]);
    pollster::block_on(async {
        executor.run(&[(a, &one), (b, &one)]).await.unwrap();
        executor.run(&[(b, &two)]).await.unwrap();
        assert_eq!(executor.fetch().await.unwrap().unwrap()[0].data[0], 2.0);
        assert_eq!(executor.fetch().await.unwrap().unwrap()[0].data[0], 3.0);
        assert!(executor.fetch().await.unwrap().is_none());
    });
}

/// While the host looks at the results of one run, the device computes the next. On a busy machine this thread may come too
/// late to see it, so that one of several attempts has to; a wait for the newest run would make every one of them fail.
#[test]
fn fetching_a_run_does_not_wait_for_the_next() {
    let device = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let shape = Shape::new(1, 64, 32, 64, 64);
    let mut graph = Graph::new();
    let x = graph.input("x", shape).unwrap();
    let mut y = x;
    for _ in 0..20 {
        y = add(&mut graph, y, x).unwrap();
    }
    let sum = global_avg_pool(&mut graph, y).unwrap();
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &[sum], device.profile(), options).unwrap();
    let executor = Executor::new(program, &mut Parameters::new(device, 0)).unwrap();
    let ones = vec![1.0; shape.len()];
    let overlaps = || {
        pollster::block_on(async {
            let start = Instant::now();
            executor.run(&[]).await.unwrap();
            executor.run(&[]).await.unwrap();
            executor.fetch().await.unwrap();
            let first = start.elapsed();
            executor.fetch().await.unwrap();
            start.elapsed() > first.mul_f64(1.3)
        })
    };
    pollster::block_on(executor.run(&[(x, &ones)])).unwrap();
    pollster::block_on(executor.fetch()).unwrap();
    assert!((0..10).any(|_| overlaps()));
}

#[test]
fn data_of_the_wrong_size_and_foreign_values_are_refused() {
    let mut graph = Graph::new();
    let x = graph.input("x", SHAPE).unwrap();
    let y = add(&mut graph, x, x).unwrap();
    let program =
        Program::compile(graph, &[y], gpu().profile(), ProgramOptions::default()).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    let short = pollster::block_on(executor.run(&[(x, &[1.0])]));
    assert!(
        matches!(short, Err(GraphError::DataSize { .. })),
        "{short:?}"
    );
    let data = ramp(SHAPE, 1.0);
    let foreign = pollster::block_on(executor.run(&[(y, &data)]));
    assert!(
        matches!(foreign, Err(GraphError::UnknownName { .. })),
        "{foreign:?}"
    );
}

#[test]
fn a_feed_that_is_refused_leaves_the_others_as_they_were() {
    let mut graph = Graph::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| graph.input(name, SHAPE).unwrap());
    let sum = add(&mut graph, a, b).unwrap();
    let sum = add(&mut graph, sum, c).unwrap();
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &[sum], gpu().profile(), options).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    let (one, short) = (vec![1.0; SHAPE.len()], [1.0]);
    pollster::block_on(async {
        for _ in 0..2 {
            let feeds: [(ValueId, &[f32]); 3] = [(a, &one), (b, &short), (c, &one)];
            let refused = executor.run(&feeds).await;
            assert!(matches!(refused, Err(GraphError::DataSize { .. })));
            let foreign = executor.run(&[(a, &one), (sum, &one)]).await;
            assert!(matches!(foreign, Err(GraphError::UnknownName { .. })));
        }
        // Of an input given twice the last counts.
        let two = vec![2.0; SHAPE.len()];
        let feeds: [(ValueId, &[f32]); 4] = [(a, &one), (b, &one), (c, &one), (a, &two)];
        executor.run(&feeds).await.unwrap();
        assert_eq!(executor.fetch().await.unwrap().unwrap()[0].data[0], 4.0);
    });
}

#[test]
fn parameters_start_alike_for_a_seed_whatever_stands_around_them() {
    let read = |names: &[&str], seed| {
        let mut graph = Graph::new();
        for name in names {
            graph
                .parameter(name, SHAPE, Init::KaimingNormal { a: 0.01 })
                .unwrap();
        }
        let mut parameters = Parameters::new(gpu(), seed);
        parameters.ensure(&graph).unwrap();
        pollster::block_on(parameters.read("w")).unwrap()
    };
    assert_eq!(read(&["w"], 3), read(&["v", "w"], 3));
    assert_ne!(read(&["w"], 3), read(&["w"], 4));
}

#[test]
fn a_gradient_that_arrives_over_several_paths_is_the_sum() {
    let mut graph = Graph::new();
    let x = graph.input("x", SHAPE).unwrap();
    let seed = graph.input("seed", SHAPE).unwrap();
    let two = add(&mut graph, x, x).unwrap();
    let three = add(&mut graph, two, x).unwrap();
    let grads = differentiate(&mut graph, three, seed, &[x]).unwrap();
    let (data, ones) = (ramp(SHAPE, 1.0), vec![1.0; SHAPE.len()]);
    let found = run_once(graph, &[grads[&x]], &[(x, &data), (seed, &ones)], true);
    assert!(found[0].data.iter().all(|&v| v == 3.0));
}

#[test]
fn nodes_that_no_output_needs_are_removed() {
    let mut graph = Graph::new();
    let (_, y) = ladder(&mut graph);
    let used = graph.nodes().len();
    let branch = add(&mut graph, y, y).unwrap();
    add(&mut graph, branch, y).unwrap();
    remove_dead_nodes(&mut graph, &[y]);
    assert_eq!(graph.nodes().len(), used);
}

#[test]
fn a_tensor_above_the_limit_of_buffers_is_refused_with_the_figure() {
    let mut graph = Graph::new();
    let shape = Shape::new(1, 64, 128, 128, 128);
    let x = graph.input("x", shape).unwrap();
    let y = add(&mut graph, x, x).unwrap();
    let profile = DeviceProfile::minimal_gpu();
    let error = Program::compile(graph, &[y], &profile, ProgramOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        error.is_users_fault() && text.contains("536870912"),
        "{text}"
    );
    assert!(text.contains("50 %"), "{text}");
}

#[test]
fn names_must_differ() {
    let mut graph = Graph::new();
    graph.input("x", SHAPE).unwrap();
    let again = graph.input("x", SHAPE);
    assert!(matches!(again, Err(GraphError::DuplicateName(_))));
}

#[test]
fn a_program_records_on_the_noop_backend() {
    let noop = pollster::block_on(Gpu::open_noop()).unwrap();
    let mut graph = Graph::new();
    let (x, y) = ladder(&mut graph);
    let program = Program::compile(graph, &[y], noop.profile(), ProgramOptions::default()).unwrap();
    assert!(program.dispatch_count() > 0);
    let mut parameters = Parameters::new(noop, 0);
    let executor = Executor::new(program, &mut parameters).unwrap();
    let data = ramp(SHAPE, 1.0);
    pollster::block_on(executor.run(&[(x, &data)])).unwrap();
}
