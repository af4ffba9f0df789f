//! Models of others in, weights for others out.

use std::path::PathBuf;

use voxseg::volume::Geometry;
use voxseg::weights::WeightsFile;

use crate::harness::{Folder, Run, voxseg};

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
        &[crate::harness::Block(9, [2, 2, 2], [7, 9, 9])],
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
fn what_cannot_be_imported_or_exported_says_why() {
    let folder = Folder::new();
    let in_folder =
        |arguments: &[&str]| Run::of(voxseg().args(arguments).current_dir(folder.root()));
    in_folder(&["import", "nnunet", "nowhere", "-o", "run"]).refused(&["nowhere/plans.json"]);
    in_folder(&["export", "pred", "-o", "a.safetensors"]).refused(&["pred/plan.json", "run"]);
    in_folder(&["export", "pred", "-o", "a.pth"]).refused(&["a.pth", ".safetensors"]);
    assert!(!folder.path("run").exists());
}
