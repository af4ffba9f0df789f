//! Trained models of nnU-Net: the same logits as a run of ours, and a refusal by name of what there is not here.

use std::fs;
use std::path::{Path, PathBuf};

use rawzip::{ZipArchive, ZipArchiveWriter};
use serde_json::{Value, json};
use voxseg::dataset::Normalisation;
use voxseg::graph::Parameters;
use voxseg::infer::{InferenceOptions, Predictor};
use voxseg::optim::{OptimizerConfig, Schedule};
use voxseg::run::{RunFolder, network_of};
use voxseg::tensor::HostTensor;
use voxseg::weights::{ImportedModel, ModelChoice, WeightsError};

use crate::hostile::store;
use crate::names::{open, same_logits, same_maps, stored};
use crate::{fixture, gpu};

fn choice() -> ModelChoice {
    ModelChoice {
        fold: None,
        configuration: None,
        checkpoint: "checkpoint_final.pth".into(),
    }
}

fn import(name: &str) -> ImportedModel {
    let folder = fixture("nnunet").join(name);
    ImportedModel::read(&folder, &choice()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn imported_runs_give_the_logits_of_pytorch() {
    for name in ["plain_3d", "residual_3d", "plain_2d", "residual_2d"] {
        let model = import(name);
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::new(root.path().join("run"));
        model.write(&run).unwrap();
        let plan = voxseg::dataset::Plan::read(&run.plan()).unwrap();
        assert_eq!(plan, model.plan, "{name}");
        // The checkpoint of a run is a safetensors file of the same names.
        let truth = fixture("nnunet").join(name).join("truth.safetensors");
        same_logits(&network_of(&plan).unwrap(), &run.last(), &truth);
        let again = model.write(&run).unwrap_err().to_string();
        assert!(again.contains("not empty"), "{again}");
    }
}

#[test]
fn volumes_larger_than_the_patch_are_segmented_as_by_nnunet() {
    for name in ["plain_3d", "residual_3d", "plain_2d", "residual_2d"] {
        let model = import(name);
        let network = network_of(&model.plan).unwrap();
        let mut parameters = Parameters::new(gpu(), 0);
        for (name, tensor) in &model.tensors {
            parameters.insert(name, tensor.shape, &tensor.data).unwrap();
        }
        let predictor = Predictor::new(&network, model.plan.patch, &mut parameters).unwrap();
        let mut truth = open(&fixture("nnunet").join(name).join("truth.safetensors"));
        let (volume, expected) = (stored(&mut truth, "volume"), stored(&mut truth, "slid"));
        let extent = volume.shape.spatial();
        let mut windows = 0;
        let found = pollster::block_on(predictor.predict(
            &volume.data,
            extent,
            &InferenceOptions::default(),
            &mut || windows += 1,
        ));
        assert!(windows >= 4, "{windows} windows");
        let shape = expected.shape;
        let found = HostTensor {
            shape,
            data: found.unwrap(),
        };
        same_maps(name, &found, &expected);
    }
}

#[test]
fn plans_say_the_same_as_in_nnunet() {
    let model = import("plain_3d");
    assert_eq!(
        (model.configuration.as_str(), model.fold.as_str()),
        ("3d_fullres", "0")
    );
    assert!(model.remarks.is_empty(), "{:?}", model.remarks);
    let plan = &model.plan;
    assert_eq!(plan.patch, [6, 12, 16]);
    assert_eq!(plan.preprocessing.spacing, [2.5, 0.8, 0.8]);
    let channels = &plan.preprocessing.channels;
    assert_eq!(channels[0].normalisation, Normalisation::Ct);
    assert_eq!(channels[0].intensities.percentile_00_5, -90.25);
    assert_eq!(channels[1].normalisation, Normalisation::ZScore);
    assert_eq!(plan.topology.convs, Some(vec![2, 1, 2]));
    assert_eq!(plan.topology.decoder_convs, Some(vec![1, 2]));
    assert_eq!(plan.topology.heads, Some(vec![0, 1]));

    let regions = import("residual_3d").plan;
    assert_eq!(regions.labels.region_order, Some(vec![1, 2]));
    assert_eq!(regions.topology.blocks, Some(vec![1, 2, 2]));
    let plane = import("plain_2d").plan;
    assert!(plane.preprocessing.planar);
    assert_eq!(plane.patch, [1, 16, 24]);
    assert_eq!(plane.preprocessing.spacing[1..], [0.7, 0.7]);
    assert_eq!(plane.topology.strides[1], [1, 2, 2]);
}

#[test]
fn training_goes_on_with_the_optimiser_of_pytorch() {
    for name in ["plain_3d", "residual_3d", "plain_2d", "residual_2d"] {
        let model = import(name);
        let training = model.training.unwrap_or_else(|| panic!("{name}"));
        assert_eq!((training.step, training.steps), (750, 250_000));
        assert_eq!(training.optimizer, OptimizerConfig::default(), "{name}");
        assert_eq!(training.learning_rate, Schedule::default(), "{name}");
        assert_eq!(training.batch_dice, name.ends_with("2d"), "{name}");
        // The generator made each velocity a quarter of its parameter, and left out the coarsest head.
        assert!(
            training.velocities.keys().eq(model.tensors.keys()),
            "{name}"
        );
        for (parameter, velocity) in &training.velocities {
            let is_still = parameter.starts_with("decoder.seg_layers.0.");
            let share = if is_still { 0.0 } else { 0.25 };
            let weight = &model.tensors[parameter];
            let expected: Vec<f32> = weight.data.iter().map(|w| w * share).collect();
            assert_eq!(velocity.data, expected, "{name}: {parameter}");
            assert_eq!(velocity.shape, weight.shape, "{name}: {parameter}");
        }
    }
}

/// The archive `bytes` with the text `to` for the first `from` of the same length in its pickle.
fn renamed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let archive = ZipArchive::from_slice(bytes).unwrap();
    let mut made = Vec::new();
    let mut writer = ZipArchiveWriter::new(&mut made);
    for entry in archive.entries() {
        let entry = entry.unwrap();
        let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        let mut content = archive
            .get_entry(entry.wayfinder())
            .unwrap()
            .data()
            .to_vec();
        if name.ends_with("data.pkl") {
            let mut windows = content.windows(from.len());
            let at = windows.position(|w| w == from.as_bytes());
            let at = at.unwrap_or_else(|| panic!("{from}"));
            content[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        store(&mut writer, &name, &content);
    }
    writer.finish().unwrap();
    made
}

#[test]
fn without_the_optimiser_weights_are_imported_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let folder = edited(root.path(), |_| ());
    let file = folder.join("fold_0/checkpoint_final.pth");
    let whole = fs::read(&file).unwrap();
    for (from, to, words) in [
        (
            "optimizer_state",
            "optimizer_strip",
            "no state of an optimiser",
        ),
        ("param_groups", "param_groops", "one group"),
        ("nesterov", "nesteroo", "not SGD"),
        ("momentum_buffer", "momentum_puffer", "no momentum_buffer"),
        ("current_epoch", "current_epoxx", "epoch"),
    ] {
        fs::write(&file, renamed(&whole, from, to)).unwrap();
        let model = ImportedModel::read(&folder, &choice()).unwrap_or_else(|e| panic!("{e}"));
        let remarks = model.remarks.join("\n");
        assert!(
            model.training.is_none() && remarks.contains(words),
            "{remarks}"
        );
        let run = RunFolder::new(root.path().join(from));
        model.write(&run).unwrap();
        assert!(run.last().exists() && !run.latest().exists());
    }
}

/// A copy of the model plain_3d with `edit` done to its plans.json.
fn edited(root: &Path, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let (from, to) = (fixture("nnunet/plain_3d"), root.join("model"));
    fs::create_dir_all(to.join("fold_0")).unwrap();
    for name in ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let text = fs::read_to_string(to.join("plans.json")).unwrap();
    let mut plans: Value = serde_json::from_str(&text).unwrap();
    edit(&mut plans);
    fs::write(to.join("plans.json"), plans.to_string()).unwrap();
    to
}

fn set(plans: &mut Value, at: &str, value: Value) {
    let at = at.replace("CONFIG", "/configurations/3d_fullres");
    let at = at.replace(
        "ARGS",
        "/configurations/3d_fullres/architecture/arch_kwargs",
    );
    *plans.pointer_mut(&at).unwrap_or_else(|| panic!("{at}")) = value;
}

#[test]
fn what_there_is_not_here_is_refused_by_name() {
    for (at, value, words) in [
        (
            "/transpose_forward",
            json!([1, 0, 2]),
            "transpose_forward is [1, 0, 2]",
        ),
        (
            "/image_reader_writer",
            json!("NibabelIOWithReorient"),
            "NibabelIOWithReorient",
        ),
        ("/label_manager", json!("MyLabels"), "MyLabels"),
        (
            "CONFIG/preprocessor_name",
            json!("MyPreprocessor"),
            "MyPreprocessor",
        ),
        (
            "CONFIG/resampling_fn_data",
            json!("resample_torch_fornnunet"),
            "resample_torch_fornnunet",
        ),
        (
            "CONFIG/normalization_schemes/0",
            json!("MyNormalization"),
            "MyNormalization",
        ),
        (
            "CONFIG/normalization_schemes",
            json!(["CTNormalization"]),
            "2 channels",
        ),
        ("CONFIG/patch_size", json!([6, 12]), "as many numbers"),
        ("CONFIG/patch_size", json!([5, 12, 16]), "divide the patch"),
        ("CONFIG/spacing", json!([0.0, 1.0, 1.0]), "spacing"),
        (
            "CONFIG/architecture",
            json!(null),
            "architecture is missing",
        ),
        (
            "CONFIG/architecture/network_class_name",
            json!("a.b.Primus"),
            "`Primus`",
        ),
        ("CONFIG/architecture/arch_kwargs", json!([]), "arch_kwargs"),
        (
            "ARGS/conv_op",
            json!("torch.nn.modules.conv.Conv1d"),
            "Conv1d",
        ),
        ("ARGS/conv_bias", json!(false), "conv_bias is `false`"),
        (
            "ARGS/norm_op",
            json!("torch.nn.modules.normalization.GroupNorm"),
            "GroupNorm",
        ),
        ("ARGS/norm_op_kwargs/affine", json!(false), "unexpected"),
        ("ARGS/norm_op_kwargs/eps", json!(-1.0), "norm.eps"),
        (
            "ARGS/dropout_op",
            json!("torch.nn.AlphaDropout"),
            "AlphaDropout",
        ),
        ("ARGS/nonlin", json!("torch.nn.GELU"), "GELU"),
        ("ARGS/n_stages", json!(4), "features_per_stage"),
        (
            "ARGS/kernel_sizes",
            json!([[3, 3], [3, 3], [3, 3]]),
            "kernel_sizes",
        ),
        ("ARGS/features_per_stage", json!([3, 4, 7]), "misshapen"),
        ("ARGS/n_conv_per_stage", json!([2, 2, 2]), "missing"),
        ("ARGS/n_conv_per_stage", json!([2, 1, 0]), "plans.json"),
        ("CONFIG/batch_size", json!("two"), "plans.json of nnU-Net"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let folder = edited(root.path(), |plans| set(plans, at, value));
        let error = ImportedModel::read(&folder, &choice()).expect_err(words);
        let text = error.to_string();
        assert!(
            error.is_users_fault() && text.contains(words),
            "{at}: {text}"
        );
    }
    let root = tempfile::tempdir().unwrap();
    let folder = edited(root.path(), |plans| {
        let arguments = "/configurations/3d_fullres/architecture/arch_kwargs";
        plans.pointer_mut(arguments).unwrap()["squeeze_excitation"] = json!(true);
        plans.pointer_mut(arguments).unwrap()["stem_channels"] = json!(null);
    });
    let text = ImportedModel::read(&folder, &choice())
        .unwrap_err()
        .to_string();
    assert!(text.contains("squeeze_excitation"), "{text}");
    let folder = edited(root.path(), |plans| {
        plans.pointer_mut("/configurations/3d_fullres").unwrap()["previous_stage"] =
            json!("3d_lowres");
    });
    let text = ImportedModel::read(&folder, &choice())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("previous_stage") && text.contains("cascade"),
        "{text}"
    );
}

#[test]
fn folds_and_configurations_are_chosen() {
    let root = tempfile::tempdir().unwrap();
    let folder = edited(root.path(), |_| ());
    let read = |fold: Option<&str>, configuration: Option<&str>, checkpoint: &str| {
        let choice = ModelChoice {
            fold: fold.map(str::to_owned),
            configuration: configuration.map(str::to_owned),
            checkpoint: checkpoint.into(),
        };
        ImportedModel::read(&folder, &choice)
    };
    let last = "checkpoint_final.pth";
    let inherited = read(Some("0"), Some("3d_fullres_bs4"), last).unwrap();
    assert_eq!(
        (inherited.plan.batch, inherited.plan.patch),
        (4, [6, 12, 16])
    );
    let refused = |result: Result<ImportedModel, WeightsError>, words: &[&str]| {
        let text = result.unwrap_err().to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    };
    refused(read(Some("1"), None, last), &["fold_1", "--fold"]);
    refused(
        read(None, None, "checkpoint_best.pth"),
        &["checkpoint_best.pth"],
    );
    refused(
        read(None, Some("2d"), last),
        &["`2d`", "3d_fullres, 3d_fullres_bs4"],
    );
    fs::create_dir(folder.join("fold_all")).unwrap();
    fs::copy(
        folder.join("fold_0").join(last),
        folder.join("fold_all").join(last),
    )
    .unwrap();
    refused(read(None, None, last), &["0, all", "--fold"]);
    assert!(read(Some("all"), None, last).is_ok());
    let looped = edited(root.path(), |plans| {
        plans["configurations"]["3d_fullres"]["inherits_from"] = json!("3d_fullres");
    });
    let text = ImportedModel::read(
        &looped,
        &ModelChoice {
            fold: Some("0".into()),
            ..choice()
        },
    );
    refused(text, &["inherits"]);
}
