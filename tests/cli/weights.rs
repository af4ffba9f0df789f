//! Models of others in, weights for others out.

use std::path::PathBuf;

use voxseg::volume::Geometry;
use voxseg::weights::WeightsFile;

use crate::harness::{Block, Folder, Run, voxseg};

fn model(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/nnunet")
        .join(name)
}

#[test]
fn a_model_of_nnunet_predicts_and_is_written_again() {
    let folder = Folder::new();
    let in_folder =
        |arguments: &[&str]| Run::of(voxseg().args(arguments).current_dir(folder.root()));
    let dir = model("residual_3d");
    let import = ["import", "nnunet", dir.to_str().unwrap(), "-o", "run"];
    let told = in_folder(&import).succeeded();
    for words in ["fold_all", "3 stages", "patch 8,12,16", "whole, core"] {
        assert!(told.stdout.contains(words), "{told:#?}");
    }
    in_folder(&import).refused(&["run", "not empty"]);

    let shape = [10, 12, 16];
    folder.labels_on(
        "scan_0000.nii.gz",
        Geometry::from_spacing(shape, [1.0; 3]),
        &[Block(9, [2, 2, 2], [7, 9, 9])],
    );
    let predict = [
        "predict",
        "run",
        "-i",
        "scan_0000.nii.gz",
        "-o",
        "out.nii.gz",
    ];
    in_folder(&predict).succeeded();
    let labels = voxseg::volume::read_labels(folder.path("out.nii.gz")).unwrap();
    assert_eq!(labels.geometry().shape(), shape);

    in_folder(&["export", "run", "-o", "out.safetensors"]).succeeded();
    let mut ours = WeightsFile::open(&folder.path("out.safetensors")).unwrap();
    let mut theirs = WeightsFile::open(&dir.join("fold_all/checkpoint_final.pth")).unwrap();
    let names: Vec<String> = ours.shapes().map(|(name, _)| name.to_owned()).collect();
    assert!(
        names.contains(&"encoder.stem.convs.0.conv.weight".to_owned()),
        "{names:?}"
    );
    for name in names {
        assert_eq!(
            ours.read(&name).unwrap(),
            theirs.read(&name).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn training_of_nnunet_is_resumed() {
    let folder = Folder::new();
    let in_folder =
        |arguments: &[&str]| Run::of(voxseg().args(arguments).current_dir(folder.root()));
    let geometry = || Geometry::from_spacing([10, 14, 18], [1.0; 3]);
    for name in ["imagesTr", "labelsTr"] {
        std::fs::create_dir_all(folder.path("data").join(name)).unwrap();
    }
    for case in 0..2 {
        let (from, to) = ([2, 2 + case, 2], [7, 9 + case, 9]);
        let [whole, core] = [Block(1, from, to), Block(2, [3, 4, 3], [5, 7, 6])];
        let image = format!("data/imagesTr/c{case}_0000.nii.gz");
        folder.labels_on(&image, geometry(), &[Block(9, from, to)]);
        let labels = format!("data/labelsTr/c{case}.nii.gz");
        folder.labels_on(&labels, geometry(), &[whole, core]);
    }
    let labels = serde_json::json!({"background": 0, "whole": [1, 2], "core": 2});
    let more = serde_json::json!({"numTraining": 2, "regions_class_order": [1, 2]});
    folder.description("data/dataset.json", labels, more);
    let dir = model("residual_3d");
    let import = ["import", "nnunet", dir.to_str().unwrap(), "-o", "run"];
    let told = in_folder(&import).succeeded();
    assert!(told.stdout.contains("750 of 250000 steps"), "{told:#?}");

    let config = folder.path("run/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("fold = \"all\""), "{text}");
    let shorter = text.replace("steps = 250000", "steps = 752");
    std::fs::write(&config, shorter).unwrap();
    let resume = ["train", "data", "-o", "run", "--resume"];
    in_folder(&resume).succeeded();
    let log = std::fs::read_to_string(folder.path("run/log.jsonl")).unwrap();
    let steps: Vec<&str> = log.lines().collect();
    assert_eq!(steps.len(), 2, "{log}");
    assert!(
        steps[0].contains("751") && steps[1].contains("752"),
        "{log}"
    );
    // The velocities have grown since, or this would be another optimiser's first step.
    let mut ours = WeightsFile::open(&folder.path("run/checkpoint_final.safetensors")).unwrap();
    let mut before = WeightsFile::open(&dir.join("fold_all/checkpoint_final.pth")).unwrap();
    let name = "encoder.stem.convs.0.conv.weight";
    let kept = before.read(name).unwrap();
    let velocity = ours.read(&format!("momentum/{name}")).unwrap();
    let is_of_both = |(v, w): (&f32, &f32)| (v - 0.99 * 0.99 * w / 4.0).abs() < 0.2;
    assert!(velocity.iter().zip(&kept).all(is_of_both), "{velocity:?}");
    let again = in_folder(&resume).succeeded();
    assert!(again.stdout.contains("complete already"), "{again:#?}");
}

#[test]
fn what_cannot_be_imported_or_exported_says_why() {
    let folder = Folder::new();
    let in_folder =
        |arguments: &[&str]| Run::of(voxseg().args(arguments).current_dir(folder.root()));
    in_folder(&["import", "nnunet", "nowhere", "-o", "run"]).refused(&["nowhere/plans.json"]);
    in_folder(&["export", "pred", "-o", "a.safetensors"]).refused(&["pred/plan.json", "run"]);
    in_folder(&["export", "pred", "-o", "a.pth"]).refused(&["a.pth", ".safetensors"]);
    assert!(!folder.path("run").exists());
}
