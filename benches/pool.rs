//! Pooling, forward and backward, beside the kernels for any window: `cargo bench --bench pool`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::pool::{Window, avg_pool, global_avg_pool, max_pool};
use voxseg::reference::{Tolerance, pool as reference};
use voxseg::tensor::Shape;

use common::Case;

const SHAPE: Shape = Shape::new(1, 32, 32, 32, 32);

const OVERLAPPING: Window = Window {
    kernel: [3; 3],
    stride: [2; 3],
    padding: [1; 3],
};

fn plain(window: Window) -> reference::Window {
    reference::Window {
        kernel: window.kernel,
        stride: window.stride,
        padding: window.padding,
    }
}

fn max_case(name: &str, window: Window) -> Case {
    let taps = window.kernel.iter().product();
    Case::new(name, Tolerance::for_terms(taps), move |graph, feeds| {
        let x = feeds.random(graph, "x", SHAPE)?;
        let y = max_pool(graph, x, window)?;
        let dy = feeds.random(graph, "dy", graph.value(y).shape)?;
        Ok(vec![y, differentiate(graph, y, dy, &[x])?[&x]])
    })
    .with_reference(move |inputs| {
        let (x, window) = (&inputs[0], plain(window));
        let dx = reference::max_pool_backward(x, &inputs[1], window);
        vec![reference::max_pool(x, window), dx]
    })
}

fn average_case() -> Case {
    let window = Window::tiles([2; 3]);
    Case::new(
        "average 2^3",
        Tolerance::for_terms(8),
        move |graph, feeds| {
            let x = feeds.random(graph, "x", SHAPE)?;
            let y = avg_pool(graph, x, window)?;
            let dy = feeds.random(graph, "dy", graph.value(y).shape)?;
            Ok(vec![y, differentiate(graph, y, dy, &[x])?[&x]])
        },
    )
    .with_twin("pool", "generic")
    .with_reference(move |inputs| {
        let (x, window) = (&inputs[0], plain(window));
        let dx = reference::avg_pool_backward(x.shape, &inputs[1], window, true);
        vec![reference::avg_pool(x, window, true), dx]
    })
}

fn global_case() -> Case {
    let tolerance = Tolerance::for_terms(SHAPE.voxels());
    Case::new("global average", tolerance, |graph, feeds| {
        let x = feeds.random(graph, "x", SHAPE)?;
        let y = global_avg_pool(graph, x)?;
        let dy = feeds.random(graph, "dy", graph.value(y).shape)?;
        Ok(vec![y, differentiate(graph, y, dy, &[x])?[&x]])
    })
    .with_reference(|inputs| {
        let dx = reference::global_avg_pool_backward(inputs[0].shape, &inputs[1]);
        vec![reference::global_avg_pool(&inputs[0]), dx]
    })
}

fn pools(criterion: &mut Criterion) {
    let cases = [
        max_case("max 2^3", Window::tiles([2; 3])).with_twin("pool", "generic"),
        max_case("max 3^3 stride 2", OVERLAPPING),
        average_case(),
        global_case(),
    ];
    common::bench(criterion, "pool", cases);
}

criterion_group!(benches, pools);
criterion_main!(benches);
