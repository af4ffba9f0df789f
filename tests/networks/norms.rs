//! Normalisations in networks: groups against PyTorch, and a scale and a shift for each style.

use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, differentiate};
use voxseg::models::{PlainNet, UNetConfig, plain_unet};
use voxseg::nn::{Nonlinearity, Norm, adaptive_norm_layer, conditional_norm_layer};
use voxseg::tensor::Shape;

use crate::{family, gpu};

#[test]
fn a_network_with_group_norm() {
    let network = UNetConfig {
        norm: Norm::Group {
            groups: 2,
            eps: 1e-5,
        },
        encoder_features: vec![vec![4], vec![6], vec![8]],
        decoder_features: vec![vec![4], vec![6]],
        ..plain_unet(PlainNet {
            in_channels: 2,
            out_channels: 3,
            features: vec![4, 6, 8],
            kernels: vec![[3; 3]; 3],
            strides: vec![[1; 3], [1, 2, 2], [2; 3]],
        })
    };
    family::matches("network_unet3d_group_norm", &network.into());
}

#[test]
fn groups_that_do_not_divide_the_channels_are_refused_by_the_node_that_has_them() {
    let norm = Norm::Group {
        groups: 4,
        eps: 1e-5,
    };
    let network = UNetConfig {
        norm,
        ..plain_unet(PlainNet::isotropic(1, 2, 2, 6, false))
    };
    let mut graph = Graph::new();
    let image = graph.input("image", Shape::new(1, 1, 8, 8, 8)).unwrap();
    let network: voxseg::models::Network = network.into();
    let error = network.build(&mut graph, image, voxseg::nn::Mode::Training);
    let error = error.unwrap_err();
    let message = error.to_string();
    assert!(error.is_users_fault(), "{message}");
    for word in ["encoder.stages.0.0.convs.0.norm", "4 groups divide"] {
        assert!(message.contains(word), "{message}");
    }
}

/// y and the gradients of both tables for a layer of three styles on two equal samples; the tables differ in every number.
fn conditional(styles: [f32; 2]) -> [Vec<f32>; 3] {
    let shape = Shape::new(2, 2, 1, 2, 3);
    let mut graph = Graph::new();
    let x = graph.input("x", shape).unwrap();
    let style = graph.input("style", Shape::new(2, 1, 1, 1, 1)).unwrap();
    let y = conditional_norm_layer(
        &mut graph,
        x,
        style,
        3,
        1e-5,
        Some(Nonlinearity::LeakyRelu { slope: 0.5 }),
    )
    .unwrap();
    let dy = graph.input("dy", shape).unwrap();
    let tables = ["norm.weight", "norm.bias"].map(|name| graph.find(name).unwrap());
    let gradients = differentiate(&mut graph, y, dy, &tables).unwrap();
    let outputs = [y, gradients[&tables[0]], gradients[&tables[1]]];
    let mut parameters = Parameters::new(gpu(), 0);
    parameters.ensure(&graph).unwrap();
    let table = Shape::new(3, 2, 1, 1, 1);
    for (name, values) in [
        ("norm.weight", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ("norm.bias", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    ] {
        parameters.insert(name, table, &values).unwrap();
    }
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &outputs, gpu().profile(), options).unwrap();
    let executor = Executor::new(program, &mut parameters).unwrap();
    let sample: Vec<f32> = (0..12).map(|i| (i * i % 7) as f32).collect();
    let both = [&sample[..], &sample[..]].concat();
    let found = pollster::block_on(async {
        let feed: [(_, &[f32]); 3] = [(x, &both), (style, &styles), (dy, &both)];
        executor.run(&feed).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });
    std::array::from_fn(|i| found[i].data.clone())
}

#[test]
fn each_sample_is_scaled_and_shifted_by_the_style_that_it_names() {
    let [y, dweight, dbias] = conditional([2.0, 0.0]);
    let [swapped, ..] = conditional([0.0, 2.0]);
    let (first, second) = y.split_at(12);
    assert_eq!([second, first].concat(), swapped);
    assert!(first.iter().zip(second).all(|(a, b)| a != b));
    for table in [dweight, dbias] {
        let chosen = |row: usize| table[2 * row..][..2].iter().all(|&d| d != 0.0);
        assert!(chosen(0) && chosen(2), "{table:?}");
        assert_eq!(table[2..4], [0.0; 2]);
    }
}

#[test]
fn a_misfit_names_the_node() {
    let mut graph = Graph::new();
    let mut input = |name, shape| graph.input(name, shape).unwrap();
    let x = input("x", Shape::new(2, 4, 2, 2, 2));
    let style = input("style", Shape::new(2, 3, 2, 2, 2));
    let error = graph
        .scope("mix", |g| adaptive_norm_layer(g, x, style, 1e-5))
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("mix") && message.contains("the style"),
        "{message}"
    );
}
