use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions};
use voxseg::ops::elementwise::add;
use voxseg::ops::layout::{Concat, PadChannels, Reshape, SliceChannels, concat, convert};
use voxseg::reference::Tolerance;
use voxseg::tensor::{Element, HostTensor, Shape};

use crate::harness::{Case, gpu, halves, random};

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

#[test]
fn what_f16_cannot_hold_becomes_infinite_and_is_not_cut() {
    // One sample whose rows are whole vec4 and one whose rows are not: they are stored by different instructions.
    for width in [8, 7] {
        let shape = Shape::new(1, 1, 1, 1, width);
        let mut graph = Graph::new();
        let x = graph.input("x", shape).unwrap();
        let half = convert(&mut graph, x, Element::F16).unwrap();
        let sum = add(&mut graph, half, half).unwrap();
        assert_eq!(graph.value(sum).element, Element::F16);
        let outputs = [half, sum].map(|v| convert(&mut graph, v, Element::F32).unwrap());
        let options = ProgramOptions::default();
        let program = Program::compile(graph, &outputs, gpu().profile(), options).unwrap();
        let executor = Executor::new(program, &mut Parameters::new(gpu(), 0)).unwrap();
        let infinity = f32::INFINITY;
        let values = [60000.0, -60000.0, 1e6, -infinity, 1.0, 0.0, -2.5, 1e30];
        let found = pollster::block_on(async {
            executor.run(&[(x, &values[..width])]).await.unwrap();
            executor.fetch().await.unwrap().unwrap()
        });
        let stored = [
            60000.0, -60000.0, infinity, -infinity, 1.0, 0.0, -2.5, infinity,
        ];
        let doubled = [
            infinity, -infinity, infinity, -infinity, 2.0, 0.0, -5.0, infinity,
        ];
        assert_eq!(found[0].data, stored[..width]);
        assert_eq!(found[1].data, doubled[..width]);
    }
}

#[test]
fn parts_of_both_types_are_converted_where_they_are_joined() {
    let shape = Shape::new(2, 1, 1, 3, 5);
    let mut graph = Graph::new();
    let [single, other] = ["single", "other"].map(|name| graph.input(name, shape).unwrap());
    let half = convert(&mut graph, other, Element::F16).unwrap();
    // Made by nodes, so that they could lie inside the result if they were of its type.
    let single_sum = add(&mut graph, single, single).unwrap();
    let half_sum = add(&mut graph, half, half).unwrap();
    let mut outputs = Vec::new();
    for inputs in [[half_sum, single_sum], [single_sum, half_sum]] {
        let joined = concat(&mut graph, &inputs).unwrap();
        assert_eq!(graph.value(joined).element, graph.value(inputs[0]).element);
        outputs.push(convert(&mut graph, joined, Element::F32).unwrap());
    }
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &outputs, gpu().profile(), options).unwrap();
    let executor = Executor::new(program, &mut Parameters::new(gpu(), 0)).unwrap();
    let [a, b] = [1, 2].map(|seed| halves(random(shape, seed)));
    let found = pollster::block_on(async {
        let data = [a.to_f32().data, b.to_f32().data];
        let feed = [(single, &data[0][..]), (other, &data[1][..])];
        executor.run(&feed).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });
    let twice = |t: &HostTensor<f64>| HostTensor {
        shape: t.shape,
        data: t.data.iter().map(|v| 2.0 * v).collect(),
    };
    let (a, b) = (twice(&a), twice(&b));
    assert_eq!(found[0], join(&[&b, &a]).to_f32());
    assert_eq!(found[1], join(&[&a, &b]).to_f32());
}
