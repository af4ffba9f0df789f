//! Networks as published have the tensors of the state dicts that users of other libraries have, by name and shape.

use std::collections::BTreeMap;

use serde::Deserialize;
use voxseg::graph::Graph;
use voxseg::models::{Network, model};
use voxseg::nn::Mode;
use voxseg::run::network_tensors;
use voxseg::tensor::Shape;

use crate::fixture;

#[derive(Deserialize)]
struct StateDict {
    library: String,
    tensors: BTreeMap<String, Vec<usize>>,
}

/// What `export` would write of the network.
fn ours(name: &str) -> BTreeMap<String, Vec<usize>> {
    let model = model(name).unwrap();
    let form = model.published;
    let network = Network::new((model.of_form)(form).unwrap());
    let mut graph = Graph::new();
    let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
    let image = graph.input("image", shape).unwrap();
    network.build(&mut graph, image, Mode::Inference).unwrap();
    let planar = form.extent[0] == 1;
    network_tensors(&graph)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.axes.extents(tensor.shape, planar)))
        .collect()
}

#[test]
fn files_of_other_libraries_fit_by_name_and_shape() {
    let text = std::fs::read_to_string(fixture("state_dicts.json")).unwrap();
    let theirs: BTreeMap<String, StateDict> = serde_json::from_str(&text).unwrap();
    assert!(!theirs.is_empty());
    let mut differ = Vec::new();
    for (name, StateDict { library, tensors }) in theirs {
        let ours = ours(&name);
        let of = |from: &BTreeMap<String, Vec<usize>>, other: &BTreeMap<String, Vec<usize>>| {
            let alone = from
                .iter()
                .filter(|(n, shape)| other.get(*n) != Some(shape));
            alone
                .map(|(n, shape)| format!("{n} {shape:?}"))
                .collect::<Vec<_>>()
        };
        let alone = [of(&tensors, &ours), of(&ours, &tensors)];
        if alone.iter().any(|list| !list.is_empty()) {
            let [theirs, ours] = alone.map(|list| list.join(", "));
            differ.push(format!(
                "{name}: {library} alone has {theirs}; here alone {ours}"
            ));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
