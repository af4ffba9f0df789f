//! What moves voxels: resampling, padding and cropping, joining and cutting channels. `cargo bench --bench geometry`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::differentiate;
use voxseg::ops::border::{Fill, crop, pad};
use voxseg::ops::layout::{concat, slice_channels};
use voxseg::ops::resample::{Mode, resample};
use voxseg::reference::{Tolerance, border, resample as resample_reference};
use voxseg::tensor::{HostTensor, Shape};

use common::Case;

const SHAPE: Shape = Shape::new(1, 16, 32, 32, 32);
const SIZE: [usize; 3] = SHAPE.spatial();

/// Forward and backward.
fn resample_case(
    (name, mode, truth, size): (&str, Mode, resample_reference::Mode, [usize; 3]),
) -> Case {
    // Doubling a size, up to 4 outputs along each axis touch an input.
    Case::new(name, Tolerance::for_terms(64), move |graph, feeds| {
        let x = feeds.random(graph, "x", SHAPE)?;
        let y = resample(graph, x, size, mode)?;
        let dy = feeds.random(graph, "dy", SHAPE.with_spatial(size))?;
        Ok(vec![y, differentiate(graph, y, dy, &[x])?[&x]])
    })
    .with_reference(move |inputs| {
        let y = resample_reference::resample(&inputs[0], size, truth);
        vec![
            y,
            resample_reference::resample_backward(&inputs[1], SIZE, truth),
        ]
    })
}

fn resampling(criterion: &mut Criterion) {
    let linear = Mode::Linear {
        align_corners: false,
    };
    let borders = resample_reference::Mode::LinearBorders;
    let nearest = resample_reference::Mode::NearestExact;
    let (double, half) = (SIZE.map(|s| 2 * s), SIZE.map(|s| s / 2));
    let cases = [
        ("trilinear to twice the size", linear, borders, double),
        ("trilinear to half the size", linear, borders, half),
        (
            "nearest to twice the size",
            Mode::NearestExact,
            nearest,
            double,
        ),
    ];
    common::bench(criterion, "resample", cases.map(resample_case));
}

fn pad_case((name, fill, truth): (&str, Fill, border::Fill)) -> Case {
    const MARGIN: [usize; 3] = [4; 3];
    Case::new(name, Tolerance::for_terms(8), move |graph, feeds| {
        let x = feeds.random(graph, "x", SHAPE)?;
        let y = pad(graph, x, MARGIN, MARGIN, fill)?;
        let dy = feeds.random(graph, "dy", graph.value(y).shape)?;
        Ok(vec![y, differentiate(graph, y, dy, &[x])?[&x]])
    })
    .with_reference(move |inputs| {
        let dx = border::pad_backward(&inputs[1], MARGIN, SIZE, truth);
        vec![border::pad(&inputs[0], MARGIN, MARGIN, truth), dx]
    })
}

fn borders(criterion: &mut Criterion) {
    let cropped = Case::new("crop by 4", Tolerance::for_terms(1), |graph, feeds| {
        let x = feeds.random(graph, "x", SHAPE)?;
        Ok(vec![crop(graph, x, [4; 3], SIZE.map(|s| s - 8))?])
    })
    .with_reference(|inputs| vec![border::crop(&inputs[0], [4; 3], SIZE.map(|s| s - 8))]);
    let fills = [
        (
            "pad by 4, zeros",
            Fill::Constant(0.0),
            border::Fill::Constant(0.0),
        ),
        ("pad by 4, mirrored", Fill::Mirror, border::Fill::Mirror),
    ];
    let cases = fills.map(pad_case).into_iter().chain([cropped]);
    common::bench(criterion, "border", cases);
}

/// Inputs of a graph cannot be produced in place, so this concatenation copies; between operators it costs nothing.
fn joined() -> Case {
    Case::new(
        "concat of two inputs",
        Tolerance::for_terms(1),
        |graph, feeds| {
            let (a, b) = (
                feeds.random(graph, "a", SHAPE)?,
                feeds.random(graph, "b", SHAPE)?,
            );
            Ok(vec![concat(graph, &[a, b])?])
        },
    )
    .with_reference(|inputs| {
        vec![HostTensor {
            shape: SHAPE.with_c(2 * SHAPE.c()),
            data: [inputs[0].data.as_slice(), &inputs[1].data].concat(),
        }]
    })
}

/// The gradient of a slice is its dy between channels of zeros.
fn spread() -> Case {
    Case::new(
        "gradient of a slice",
        Tolerance::for_terms(1),
        |graph, feeds| {
            let x = feeds.random(graph, "x", SHAPE)?;
            let half = SHAPE.c() / 2;
            let y = slice_channels(graph, x, half, half)?;
            let dy = feeds.random(graph, "dy", SHAPE.with_c(half))?;
            Ok(vec![differentiate(graph, y, dy, &[x])?[&x]])
        },
    )
    .with_reference(|inputs| {
        let dy = &inputs[1].data;
        vec![HostTensor {
            shape: SHAPE,
            data: [vec![0.0; SHAPE.len() - dy.len()].as_slice(), dy].concat(),
        }]
    })
}

fn layout(criterion: &mut Criterion) {
    common::bench(criterion, "layout", [joined(), spread()]);
}

criterion_group!(benches, resampling, borders, layout);
criterion_main!(benches);
