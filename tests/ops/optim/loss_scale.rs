//! Dynamic loss scaling against PyTorch's rule, step by step.

use voxseg::graph::{Executor, Graph, Init, Parameters, Program, ProgramOptions};
use voxseg::ops::optim::{LossScaling, loss_scale};
use voxseg::tensor::Shape;

use crate::harness::gpu;

const INTERVAL: u32 = 2000;

/// torch.amp.GradScaler.update() with its defaults.
fn rule((scale, steps): (f32, u32), is_finite: bool) -> (f32, u32) {
    match (is_finite, steps + 1) {
        (false, _) => (scale * 0.5, 0),
        (true, INTERVAL) => (scale * 2.0, 0),
        (true, steps) => (scale, steps),
    }
}

/// The states after one step from `state` with the norm `scaled`, and the norm and factor that it gave.
fn step(state: (f32, u32), scaled: f32, max_norm: Option<f32>) -> ((f32, u32), [f32; 2]) {
    let mut graph = Graph::new();
    let norm = graph.input("norm", Shape::scalar()).unwrap();
    let mut of = |name: &str| {
        graph
            .state(name, Shape::scalar(), Init::Constant(0.0))
            .unwrap()
    };
    let scaling = LossScaling {
        scale: of("scale"),
        steps: of("steps"),
    };
    let found = loss_scale(&mut graph, norm, scaling, max_norm).unwrap();
    let outputs = [found.norm, found.scale];
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &outputs, gpu().profile(), options).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    for (name, value) in [("scale", state.0), ("steps", state.1 as f32)] {
        parameters.insert(name, Shape::scalar(), &[value]).unwrap();
    }
    let executor = Executor::new(program, &mut parameters).unwrap();
    pollster::block_on(async {
        executor.run(&[(norm, &[scaled])]).await.unwrap();
        let outputs = executor.fetch().await.unwrap().unwrap();
        let scale = parameters.read("scale").await.unwrap().data[0];
        let steps = parameters.read("steps").await.unwrap().data[0];
        (
            (scale, steps as u32),
            [outputs[0].data[0], outputs[1].data[0]],
        )
    })
}

#[test]
fn the_scale_follows_pytorchs_rule() {
    for state in [
        (65536.0, 0),
        (8.0, 7),
        (4.0, INTERVAL - 2),
        (0.5, INTERVAL - 1),
    ] {
        for scaled in [3.0 * state.0, f32::INFINITY, f32::NAN] {
            let (after, [norm, factor]) = step(state, scaled, Some(1.5));
            assert_eq!(after, rule(state, scaled.is_finite()), "{state:?} {scaled}");
            match scaled.is_finite() {
                true => {
                    assert_eq!(norm, 3.0);
                    assert!((factor * state.0 - 0.5).abs() < 1e-6, "{factor}");
                }
                false => assert!(!norm.is_finite() && factor == 0.0),
            }
        }
    }
}

#[test]
fn without_a_limit_only_the_scale_is_undone() {
    let (_, [norm, factor]) = step((1024.0, 0), 1e6 * 1024.0, None);
    assert_eq!((norm, factor), (1e6, 1.0 / 1024.0));
}

#[test]
fn a_scale_never_grows_beyond_the_numbers() {
    let state = (2f32.powi(127), INTERVAL - 1);
    assert_eq!(step(state, 1.0, None).0, (state.0, 0));
}
