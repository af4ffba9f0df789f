//! Devices that are gone, and operators that break the rules of lowering.

use std::sync::Arc;

use voxseg::gpu::{Gpu, GpuError};
use voxseg::graph::{Executor, Graph, GraphError, Parameters, Program, ProgramOptions};
use voxseg::ops::elementwise::{self, add};
use voxseg::ops::{BufferRef, Lowering, OpError, Operator};
use voxseg::tensor::Shape;

use crate::gpu;

const SHAPE: Shape = Shape::new(1, 2, 1, 3, 5);

fn is_lost(error: &GraphError) -> bool {
    matches!(error, GraphError::Gpu(GpuError::Lost(_))) && !error.is_users_fault()
}

#[test]
fn every_use_of_a_device_that_is_gone_is_an_error_and_none_waits() {
    let own = pollster::block_on(Gpu::open(&Default::default())).unwrap();
    let mut graph = Graph::new();
    let x = graph.input("x", SHAPE).unwrap();
    let y = add(&mut graph, x, x).unwrap();
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &[y], own.profile(), options).unwrap();
    let mut parameters = Parameters::new(own.clone(), 0);
    parameters
        .insert("w", SHAPE, &vec![1.0; SHAPE.len()])
        .unwrap();
    let executor = Executor::new(program, &mut parameters).unwrap();
    let data = vec![1.0; SHAPE.len()];
    pollster::block_on(async {
        executor.run(&[(x, &data)]).await.unwrap();
        own.check_alive().unwrap();
        own.destroy();
        // The run that is under way, one more, and what needs no run.
        assert!(is_lost(&executor.fetch().await.unwrap_err()));
        assert!(is_lost(&executor.run(&[(x, &data)]).await.unwrap_err()));
        assert!(is_lost(&executor.run(&[]).await.unwrap_err()));
        assert!(is_lost(&parameters.read("w").await.unwrap_err()));
        assert!(is_lost(&parameters.insert("v", SHAPE, &data).unwrap_err()));
    });
    let again = own.create_storage("more", 4).unwrap_err();
    assert!(matches!(again, GpuError::Lost(_)), "{again}");
    assert!(again.to_string().contains("--resume"), "{again}");
}

/// An addition that binds scratch space which it did not ask for.
#[derive(Debug)]
struct Greedy;

impl Operator for Greedy {
    fn name(&self) -> &'static str {
        "test.greedy"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        Ok(inputs[..1].to_vec())
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        elementwise::Add.lower(to)?;
        to.dispatches[0].buffers[0].buffer = BufferRef::Scratch(3);
        Ok(())
    }
}

#[test]
fn scratch_space_that_was_not_asked_for_is_refused() {
    let mut graph = Graph::new();
    let x = graph.input("x", SHAPE).unwrap();
    let y = graph.node(Arc::new(Greedy), &[x, x]).unwrap()[0];
    let options = ProgramOptions::default();
    let error = Program::compile(graph, &[y], gpu().profile(), options).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, GraphError::Node { .. }), "{text}");
    for word in ["test.greedy", "scratch space 3", "Lowering::scratch"] {
        assert!(text.contains(word), "{text}");
    }
}

/// An addition that writes over what it reads, though nobody said that it may.
#[derive(Debug)]
struct Overwriting;

impl Operator for Overwriting {
    fn name(&self) -> &'static str {
        "test.overwriting"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        Ok(inputs[..1].to_vec())
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        elementwise::Add.lower(to)?;
        let buffers = &mut to.dispatches[0].buffers;
        let written = buffers.len() - 1;
        buffers[written].buffer = buffers[0].buffer;
        Ok(())
    }
}

#[test]
fn a_dispatch_that_reads_what_it_writes_is_refused() {
    let mut graph = Graph::new();
    let x = graph.input("x", SHAPE).unwrap();
    let doubled = elementwise::add(&mut graph, x, x).unwrap();
    let y = graph.node(Arc::new(Overwriting), &[doubled, x]).unwrap()[0];
    let options = ProgramOptions::default();
    let error = Program::compile(graph, &[y], gpu().profile(), options).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, GraphError::Node { .. }), "{text}");
    for word in ["test.overwriting", "both to read and to write"] {
        assert!(text.contains(word), "{text}");
    }
}
