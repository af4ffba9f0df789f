//! `voxseg models`, and `train --model`.

use serde_json::Value;
use voxseg::models::MODELS;
use voxseg::run::RunFolder;
use voxseg::train::TrainConfig;

use crate::harness::{Folder, Run, voxseg};
use crate::phantom::Phantom;
use crate::runs::{folder_with, train};

fn models(arguments: &[&str]) -> Run {
    Run::of(voxseg().arg("models").args(arguments))
}

#[test]
fn each_network_is_listed_with_its_published_parameters() {
    let document = models(&["--json"]).succeeded().json();
    let listed = document["models"].as_array().expect("a list");
    assert_eq!(listed.len(), MODELS.len());
    let parameters = |name: &str| {
        let found = listed.iter().find(|model| model["name"] == name);
        found.map(|model| model["parameters"].clone())
    };
    assert_eq!(parameters("nnunet3d"), Some(Value::from(31_195_594)));
    assert_eq!(parameters("resenc3d"), Some(Value::from(102_350_575)));
    let follows = |name: &str| {
        let found = listed.iter().find(|model| model["name"] == name);
        found.map(|model| model["follows"].to_string())
    };
    let width = r#"["base_features","max_stages","kernels","strides"]"#;
    assert_eq!(follows("lraspp").as_deref(), Some(width));
    assert_eq!(follows("mobilenet_v2").as_deref(), Some("[]"));
    let text = models(&[]).succeeded().stdout;
    for model in MODELS {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{} ", model.name)));
        let line = line.unwrap_or_else(|| panic!("{} in {text}", model.name));
        assert!(line.contains(model.source), "{line}");
    }
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(120), "{widest:?} characters: {text}");
}

#[test]
fn more_is_told_of_one_network() {
    let text = models(&["cicek3d"]).succeeded().stdout;
    for word in [
        "3D U-Net",
        "2016",
        "3 x 116,132,132",
        "19,074,627",
        "inspect",
    ] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
    let document = models(&["vit_ti16", "--json"]).succeeded().json();
    let listed = document["models"].as_array().expect("a list");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["parameters"], 5_717_416);
    models(&["unet9000"]).refused(&["unet9000", "`voxseg models` lists them all"]);
    let text = models(&["lraspp"]).succeeded().stdout;
    let keys = "base_features, max_stages, kernels, strides";
    assert!(text.contains(keys), "{text}");
}

#[test]
fn the_family_of_a_run_is_chosen_by_name() {
    let folder = folder_with(&Phantom::balls(2));
    let unknown = ["--config", "quick.toml", "--model", "unet9000"];
    train(&folder, &unknown).refused(&["network.model", "unet9000", "voxseg models"]);
    // A published form that no plan describes.
    let unpadded = ["--config", "quick.toml", "--model", "ronneberger2d"];
    train(&folder, &unpadded).refused(&["ronneberger2d", "one published form", "nnunet3d"]);
    for (name, words) in [
        (
            "mobilenet_v2",
            ["whole images", "classify train --model mobilenet_v2"],
        ),
        (
            "vnet-bn",
            ["`vnet-bn` (is vnet_bn or vnet meant?)", "voxseg models"],
        ),
        (
            "VNet",
            ["is vnet or vnet_bn or vnet_elu meant?", "voxseg models"],
        ),
        ("swin", ["no such network: `swin`;", "voxseg models"]),
    ] {
        train(&folder, &["--config", "quick.toml", "--model", name]).refused(&words);
    }
    assert!(!folder.path("run").exists());
    let residual = ["--config", "quick.toml", "--model", "resenc3d"];
    train(&folder, &residual).succeeded();
    let plan = plan_of(&folder);
    assert_eq!(plan["model"], "resenc3d");
    assert!(plan["topology"]["blocks"].is_array(), "{plan}");
}

fn pictures() -> Phantom {
    Phantom {
        shape: [1, 32, 40],
        spacing: [1.0; 3],
        ending: ".png",
        ..Phantom::balls(2)
    }
}

fn plan_of(folder: &Folder) -> Value {
    let plan = std::fs::read_to_string(RunFolder::new(folder.path("run")).plan()).unwrap();
    serde_json::from_str(&plan).unwrap()
}

#[test]
fn a_name_for_volumes_is_refused_for_pictures() {
    let folder = folder_with(&pictures());
    let quick = ["--config", "quick.toml", "--patch", "16,16"];
    for (name, instead) in [
        ("nnunet3d", "take `nnunet2d`"),
        ("resenc3d", "take `resenc2d`"),
        ("isensee3d", "take `isensee2d`"),
    ] {
        let arguments = [&quick[..], &["--model", name]].concat();
        let words = ["--model", name, "for volumes", "a single slice", instead];
        train(&folder, &arguments).refused(&words);
        assert!(!folder.path("run").exists(), "{name}");
    }
    train(&folder, &quick).succeeded();
    let plan = plan_of(&folder);
    assert_eq!(plan["model"], "nnunet2d");
    assert_eq!(plan["preprocessing"]["planar"], true);
}

#[test]
fn a_name_for_slices_makes_slices_of_volumes() {
    let folder = folder_with(&Phantom::balls(2));
    let named = ["--config", "quick.toml", "--model", "nnunet2d"];
    // quick.toml has a patch of [8, 16, 16].
    train(&folder, &named).refused(&["batch.patch", "one voxel deep", "[8, 16, 16]"]);
    assert!(!folder.path("run").exists());
    let arguments = [&named[..], &["--patch", "16,16"]].concat();
    train(&folder, &arguments).succeeded();
    let plan = plan_of(&folder);
    assert_eq!(plan["model"], "nnunet2d");
    assert_eq!(plan["patch"], serde_json::json!([1, 16, 16]));
    let kernels = plan["topology"]["kernels"].as_array().unwrap();
    assert!(kernels.iter().all(|kernel| kernel[0] == 1), "{plan}");
    let config = TrainConfig::read(&RunFolder::new(folder.path("run")).config()).unwrap();
    assert_eq!(config.network.model.as_deref(), Some("nnunet2d"));
    assert_eq!(config.network.planar, Some(true));
}

#[test]
fn a_patch_of_volumes_is_refused_for_pictures() {
    let folder = folder_with(&pictures());
    // quick.toml has a patch of [8, 16, 16].
    for arguments in [&[][..], &["--patch", "4,16,16"]] {
        let arguments = [&["--config", "quick.toml"], arguments].concat();
        let words = ["--patch H,W", "one voxel deep", ", 16, 16]"];
        train(&folder, &arguments).refused(&words);
        assert!(!folder.path("run").exists());
    }
    train(&folder, &["--config", "quick.toml", "--patch", "1,16,16"]).succeeded();
    let mut command = voxseg();
    command.args(["train", "data", "-o", "deeper", "--from", "run"]);
    command.args(["--patch", "8,16,16"]);
    let run = Run::of(command.current_dir(folder.root()));
    run.refused(&["batch.patch", "--from is for slices", "[8, 16, 16]"]);
    assert!(!folder.path("deeper").exists());
}

#[test]
fn networks_without_norms_learn_at_a_tenth_of_the_rate() {
    let rate = |model: &str| {
        let folder = folder_with(&Phantom::balls(2));
        train(&folder, &["--config", "quick.toml", "--model", model]).succeeded();
        let run = RunFolder::new(folder.path("run"));
        let config = TrainConfig::read(&run.config()).unwrap();
        config.learning_rate().rate(0, 1)
    };
    assert_eq!((rate("vnet_bn"), rate("vnet")), (0.003, 0.0003));
}
