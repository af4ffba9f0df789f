use voxseg::ops::layout::{Concat, PadChannels, Reshape, SliceChannels};
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};

use crate::harness::{Case, random};

/// Channels of `parts` side by side.
fn join(parts: &[&HostTensor<f64>]) -> HostTensor<f64> {
    let first = parts[0].shape;
    let channels = parts.iter().map(|p| p.shape.c()).sum();
    let mut data = Vec::new();
    for n in 0..first.n() {
        for part in parts {
            let len = part.shape.per_sample();
            data.extend(&part.data[n * len..][..len]);
        }
    }
    HostTensor {
        shape: first.with_c(channels),
        data,
    }
}

#[test]
fn concat_joins_channels_and_its_gradient_takes_them_apart() {
    let (a, b) = (
        random(Shape::new(2, 3, 2, 3, 5), 1),
        random(Shape::new(2, 2, 2, 3, 5), 2),
    );
    let case = Case::new("concat", Concat, vec![(a.clone(), true), (b.clone(), true)]);
    case.check_forward(&[join(&[&a, &b])], Tolerance::for_terms(1));
    let (da, db) = (random(a.shape, 3), random(b.shape, 4));
    case.check_backward(
        &[Some(join(&[&da, &db]))],
        &[Some(da), Some(db)],
        Tolerance::for_terms(1),
    );
}

#[test]
fn slice_takes_channels_and_its_gradient_pads_them() {
    let parts = [3, 2, 1].map(|c| random(Shape::new(2, c, 3, 1, 5), c as u64));
    let whole = join(&[&parts[0], &parts[1], &parts[2]]);
    let case = Case::new(
        "slice",
        SliceChannels { start: 3, len: 2 },
        vec![(whole, true)],
    );
    case.check_forward(&[parts[1].clone()], Tolerance::for_terms(1));
    let dy = random(parts[1].shape, 9);
    let (before, after) = (
        HostTensor::zeros(parts[0].shape),
        HostTensor::zeros(parts[2].shape),
    );
    let dx = join(&[&before, &dy, &after]);
    case.check_backward(
        &[Some(dy.clone())],
        &[Some(dx.clone())],
        Tolerance::for_terms(1),
    );
    let pad = PadChannels {
        start: 3,
        channels: 6,
    };
    Case::new("pad channels", pad, vec![(dy.clone(), true)])
        .check_forward(&[dx], Tolerance::for_terms(1));
}

#[test]
fn reshape_keeps_elements() {
    let x = random(Shape::new(2, 3, 2, 4, 5), 1);
    let to = Shape::new(2, 120, 1, 1, 1);
    let y = HostTensor {
        shape: to,
        data: x.data.clone(),
    };
    let case = Case::new("reshape", Reshape { to }, vec![(x.clone(), true)]);
    case.check_forward(std::slice::from_ref(&y), Tolerance::for_terms(1));
    case.check_backward(&[Some(y)], &[Some(x)], Tolerance::for_terms(1));
}
