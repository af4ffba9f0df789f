//! Tensors of others in networks of ours.

use std::collections::BTreeMap;
use std::path::Path;

use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions};
use voxseg::models::{
    Architecture, Network, PlainNet, UNetConfig, plain_unet, residual_encoder_unet,
};
use voxseg::nn::{Mode, Norm};
use voxseg::run::{NetworkTensor, network_tensors};
use voxseg::tensor::{HostTensor, Shape};
use voxseg::weights::{WeightsError, WeightsFile, fit, load_into, save_safetensors};

use crate::{fixture, gpu};

/// The network of the fixture `plain_3d`.
fn plain_3d() -> UNetConfig {
    let mut network = plain_unet(PlainNet {
        in_channels: 2,
        out_channels: 3,
        features: vec![3, 4, 6],
        kernels: vec![[1, 3, 3], [3; 3], [3; 3]],
        strides: vec![[1; 3], [1, 2, 2], [2; 3]],
    });
    network.encoder_features[1] = vec![4];
    network.decoder_features = vec![vec![3], vec![4, 4]];
    network
}

fn residual_2d() -> UNetConfig {
    let net = PlainNet {
        in_channels: 3,
        out_channels: 3,
        features: vec![3, 4, 6],
        kernels: vec![[1, 3, 3]; 3],
        strides: vec![[1; 3], [1, 2, 2], [1, 2, 2]],
    };
    residual_encoder_unet(net, vec![1, 2, 1])
}

fn graph_of(network: &UNetConfig, x: Shape) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("image", x).unwrap();
    network.build(&mut graph, x, Mode::Inference).unwrap();
    graph
}

fn wanted(network: &UNetConfig) -> BTreeMap<String, NetworkTensor> {
    let shape = Shape::new(1, network.in_channels, 8, 16, 16);
    network_tensors(&graph_of(network, shape))
}

pub fn open(path: &Path) -> WeightsFile {
    WeightsFile::open(path).unwrap_or_else(|e| panic!("{e}"))
}

/// The five axes of a tensor of a truth file.
pub fn stored(file: &mut WeightsFile, name: &str) -> HostTensor {
    let shapes: BTreeMap<&str, &[usize]> = file.shapes().collect();
    let shape = match *shapes[name] {
        [c, d, h, w] => [1, c, d, h, w],
        ref five => five.try_into().unwrap(),
    };
    let data = file.read(name).unwrap();
    HostTensor::from_vec(Shape(shape), data).unwrap()
}

/// Whether `network` with the weights of `weights` gives the logits that PyTorch stored beside them.
pub fn same_logits(network: &Network, weights: &Path, truth: &Path) {
    let mut truth = open(truth);
    let (x, expected) = (stored(&mut truth, "input"), stored(&mut truth, "logits"));
    let mut graph = Graph::new();
    let image = graph.input("image", x.shape).unwrap();
    let heads = network.build(&mut graph, image, Mode::Inference).unwrap();
    let mut parameters = Parameters::new(gpu(), 0);
    load_into(&mut open(weights), &graph, &mut parameters).unwrap_or_else(|e| panic!("{e}"));
    let logits = [heads.logits[0]];
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &logits, gpu().profile(), options).unwrap();
    let executor = Executor::new(program, &mut parameters).unwrap();
    let found = pollster::block_on(async {
        executor.run(&[(image, &x.data)]).await.unwrap();
        executor.fetch().await.unwrap().unwrap().remove(0)
    });
    same_maps(&weights.display().to_string(), &found, &expected);
}

/// Whether the logits `found` are those `expected`, and the label maps but for ties.
pub fn same_maps(name: &str, found: &HostTensor, expected: &HostTensor) {
    assert_eq!(found.shape, expected.shape);
    let largest = expected.data.iter().fold(0f32, |m, v| m.max(v.abs()));
    let pairs = found.data.iter().zip(&expected.data);
    let worst = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("{name}: off by {:.1e} of {largest}", worst / largest);
    assert!(worst <= 1e-4 * largest, "{worst} of {largest}");
    let (ours, theirs) = (label_map(found), label_map(expected));
    let voxels = ours.iter().zip(&theirs);
    // Where two classes are as good, within what the logits may differ by, either label is right.
    let differ = voxels.filter(|((a, _), (b, lead))| a != b && *lead > 2.0 * worst);
    assert_eq!(differ.count(), 0, "{name}");
}

/// The class of the largest logit of each voxel, and by how much it leads.
fn label_map(logits: &HostTensor) -> Vec<(usize, f32)> {
    let [n, classes, ..] = logits.shape.0;
    let voxels = logits.shape.voxels();
    let of_voxel = |at: usize| {
        let logit = |c| logits.data[(at / voxels * classes + c) * voxels + at % voxels];
        let mut order: Vec<usize> = (0..classes).collect();
        order.sort_by(|&a, &b| logit(b).total_cmp(&logit(a)));
        (order[0], logit(order[0]) - logit(order[1]))
    };
    (0..n * voxels).map(of_voxel).collect()
}

#[test]
fn state_dicts_give_the_logits_of_pytorch() {
    for (network, name) in [(plain_3d(), "plain_3d"), (residual_2d(), "residual_2d")] {
        let folder = fixture("nnunet").join(name);
        let weights = folder.join("fold_0/checkpoint_final.pth");
        same_logits(&network.into(), &weights, &folder.join("truth.safetensors"));
    }
}

#[test]
fn the_first_of_several_names_is_enough() {
    let truth = fixture("nnunet/plain_3d/truth.safetensors");
    same_logits(
        &plain_3d().into(),
        &fixture("weights/plain_3d_first_names.safetensors"),
        &truth,
    );
}

/// A file with every tensor of `tensors` under the name that `rename` gives it.
fn renamed(
    path: &Path,
    tensors: &BTreeMap<String, HostTensor>,
    rename: impl Fn(&str) -> String,
) -> WeightsFile {
    let tensors = tensors.iter().map(|(name, t)| (rename(name), t.clone()));
    save_safetensors(path, &tensors.collect(), &BTreeMap::new(), false).unwrap();
    open(path)
}

#[test]
fn wrappers_are_no_part_of_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.safetensors");
    let wanted = wanted(&plain_3d());
    let mut file = open(&fixture("nnunet/plain_3d/fold_0/checkpoint_final.pth"));
    let tensors = fit(&mut file, &wanted).unwrap();
    for prefix in [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "module.module.",
    ] {
        let mut file = renamed(&path, &tensors, |name| format!("{prefix}{name}"));
        assert_eq!(fit(&mut file, &wanted).unwrap(), tensors, "{prefix}");
    }
    let inner = |name: &str| name.replace("encoder.", "encoder._orig_mod.");
    assert_eq!(
        fit(&mut renamed(&path, &tensors, inner), &wanted).unwrap(),
        tensors
    );
    let alias = |name: &str| match name.starts_with("encoder.") {
        true => format!("decoder.{name}"),
        false => name.to_owned(),
    };
    assert_eq!(
        fit(&mut renamed(&path, &tensors, alias), &wanted).unwrap(),
        tensors
    );
    // Of two names of a tensor its own counts, whatever the other holds.
    let mut both = tensors.clone();
    for (name, tensor) in &tensors {
        let mut other = tensor.clone();
        other.data.iter_mut().for_each(|v| *v += 1.0);
        both.insert(alias(name), other.clone());
        both.insert(name.replace(".conv.", ".all_modules.0."), other);
    }
    both.extend(tensors.clone());
    let mut file = renamed(&path, &both, str::to_owned);
    assert_eq!(fit(&mut file, &wanted).unwrap(), tensors);
}

#[test]
fn batch_norms_keep_their_statistics_and_lose_their_counter() {
    let network = UNetConfig {
        norm: Norm::Batch {
            eps: 1e-5,
            momentum: 0.1,
        },
        ..plain_3d()
    };
    let wanted = wanted(&network);
    assert!(wanted.keys().any(|name| name.ends_with("norm.running_var")));
    let mut tensors: BTreeMap<String, HostTensor> = wanted
        .iter()
        .map(|(name, tensor)| (name.clone(), HostTensor::zeros(tensor.shape)))
        .collect();
    let expected = tensors.clone();
    let counter = "encoder.stages.0.0.convs.0.norm.num_batches_tracked";
    tensors.insert(counter.into(), HostTensor::zeros(Shape::scalar()));
    let folder = tempfile::tempdir().unwrap();
    let mut file = renamed(
        &folder.path().join("a.safetensors"),
        &tensors,
        str::to_owned,
    );
    assert_eq!(fit(&mut file, &wanted).unwrap(), expected);
}

#[test]
fn a_wrong_network_lists_all_that_differs() {
    let path = fixture("nnunet/plain_3d/fold_0/checkpoint_final.pth");
    let misfit = |network: UNetConfig| match fit(&mut open(&path), &wanted(&network)) {
        Err(error @ WeightsError::Misfit { .. }) => {
            let text = error.to_string();
            assert!(text.starts_with(&path.display().to_string()), "{text}");
            let WeightsError::Misfit { misfit, .. } = error else {
                unreachable!()
            };
            (misfit, text)
        }
        other => panic!("{other:?}"),
    };
    let mut more_classes = plain_3d();
    more_classes.out_channels = 5;
    let (found, text) = misfit(more_classes);
    assert!(
        found.missing.is_empty() && found.unexpected.is_empty(),
        "{text}"
    );
    let names: Vec<&str> = found.misshapen.iter().map(|m| m.name.as_str()).collect();
    let heads = [
        "decoder.seg_layers.0.bias",
        "decoder.seg_layers.0.weight",
        "decoder.seg_layers.1.bias",
        "decoder.seg_layers.1.weight",
    ];
    assert_eq!(names, heads);
    let words = "decoder.seg_layers.0.weight [3, 4, 1, 1, 1] instead of [5, 4, 1, 1, 1]";
    assert!(
        text.contains("4 misshapen") && text.contains(words),
        "{text}"
    );

    let mut longer = plain_3d();
    longer.encoder_features[1] = vec![4, 4];
    longer.encoder_features[2] = vec![6];
    let (found, text) = misfit(longer);
    assert_eq!(found.missing.len(), 4, "{text}");
    assert_eq!(found.unexpected.len(), 4, "{text}");
    assert!(
        found
            .missing
            .contains(&"encoder.stages.1.0.convs.1.conv.weight".to_owned())
    );
    assert!(
        found
            .unexpected
            .contains(&"encoder.stages.2.0.convs.1.norm.bias".to_owned())
    );
    assert!(
        text.contains("4 missing: encoder.stages.1.0.convs.1.conv.bias"),
        "{text}"
    );

    let (_, text) = misfit(residual_2d());
    assert!(text.contains(" more\n"), "long lists are cut: {text}");
}

#[test]
fn another_network_and_a_v_net_without_prelus_are_told() {
    let path = fixture("nnunet/plain_3d/fold_0/checkpoint_final.pth");
    let renamed: BTreeMap<_, _> = wanted(&plain_3d())
        .into_iter()
        .map(|(name, tensor)| (format!("down.{name}"), tensor))
        .collect();
    let text = fit(&mut open(&path), &renamed).unwrap_err().to_string();
    assert!(text.contains("holds another network"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");

    let mut slopes = wanted(&plain_3d());
    let slope = *slopes.values().next().expect("a tensor");
    slopes.insert("down_tr32.act_function1.weight".into(), slope);
    let text = fit(&mut open(&path), &slopes).unwrap_err().to_string();
    assert!(!text.contains("another network"), "{text}");
    assert!(
        text.contains("1 missing: down_tr32.act_function1.weight")
            && text.contains("--model vnet_elu"),
        "{text}"
    );
}

#[test]
fn what_is_written_for_pytorch_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    for (network, name, planar) in [
        (plain_3d(), "plain_3d", false),
        (residual_2d(), "residual_2d", true),
    ] {
        let source = fixture("nnunet")
            .join(name)
            .join("fold_0/checkpoint_final.pth");
        let tensors = fit(&mut open(&source), &wanted(&network)).unwrap();
        let path = folder.path().join("out.safetensors");
        save_safetensors(&path, &tensors, &wanted(&network), planar).unwrap();
        let mut written = open(&path);
        let theirs = open(&source);
        let theirs: BTreeMap<&str, &[usize]> = theirs.shapes().collect();
        for (name, shape) in written.shapes() {
            assert_eq!(theirs[name], shape, "{name}");
        }
        assert_eq!(fit(&mut written, &wanted(&network)).unwrap(), tensors);
    }
}
