//! `voxseg models`, and `train --model`.

use serde_json::Value;
use voxseg::models::MODELS;
use voxseg::run::RunFolder;
use voxseg::train::TrainConfig;

use crate::harness::{Run, voxseg};
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
    let text = models(&[]).succeeded().stdout;
    for model in MODELS {
        assert!(text.contains(model.name), "{} in {text}", model.name);
    }
}

#[test]
fn the_family_of_a_run_is_chosen_by_name() {
    let folder = folder_with(&Phantom::balls(2));
    let unknown = ["--config", "quick.toml", "--model", "unet9000"];
    train(&folder, &unknown).refused(&["network.model", "unet9000", "nnunet3d", "resenc3d"]);
    // A published form that no plan describes.
    let unpadded = ["--config", "quick.toml", "--model", "ronneberger2d"];
    train(&folder, &unpadded).refused(&["ronneberger2d", "nnunet3d"]);
    assert!(!folder.path("run").exists());
    let residual = ["--config", "quick.toml", "--model", "resenc3d"];
    train(&folder, &residual).succeeded();
    let plan = std::fs::read_to_string(RunFolder::new(folder.path("run")).plan()).unwrap();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["model"], "resenc3d");
    assert!(plan["topology"]["blocks"].is_array(), "{plan}");
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
