//! Models of others in, weights for others out.

use std::path::PathBuf;

use voxseg::run::{RunFolder, checkpoint};
use voxseg::volume::Geometry;
use voxseg::weights::WeightsFile;

use crate::harness::{Block, Folder, Run, voxseg};
use crate::phantom::Phantom;
use crate::runs::{QUICK, folder_with, train};
use crate::shapes::write_shapes;

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
    let import = |dir: &str| in_folder(&["import", "nnunet", dir, "-o", "run"]);
    let wanted = "TRAINER__PLANS__CONFIGURATION";
    import("nowhere").refused(&["nowhere", "no such folder", wanted]);
    import("pred").refused(&["pred", "no plans.json", wanted]);
    folder.bytes("file", b"");
    import("file").refused(&["is a file", wanted]);
    let export = |run: &str, file: &str| in_folder(&["export", run, "-o", file]);
    export("pred", "a.safetensors").refused(&["pred", "no plan.json"]);
    export("nowhere", "a.safetensors").refused(&["nowhere", "no such folder"]);
    export("pred", "a.pth").refused(&["a.pth", ".safetensors"]);
    assert!(!folder.path("run").exists());
}

#[test]
fn an_import_is_inspected_by_its_plan_alone_and_its_weights_are_not_written_over_a_file() {
    let folder = Folder::new();
    let in_folder =
        |arguments: &[&str]| Run::of(voxseg().args(arguments).current_dir(folder.root()));
    let dir = model("residual_3d");
    in_folder(&["import", "nnunet", dir.to_str().unwrap(), "-o", "run"]).succeeded();
    std::fs::remove_file(folder.path("run/config.toml")).unwrap();
    let told = in_folder(&["inspect", "run", "--json"]).succeeded();
    assert!(told.stderr.contains("no config.toml"), "{told:#?}");
    let parameters = told.json()["parameters"].clone();
    let export = ["export", "run", "-o", "a.safetensors", "--json"];
    let written = in_folder(&export).succeeded().json();
    assert_eq!(written["parameters"], parameters);
    let again = in_folder(&export);
    assert!(again.stderr.contains("--force"), "{again:#?}");
    in_folder(&[&export[..], &["--force"]].concat()).succeeded();
}

#[test]
fn a_classifier_is_inspected_and_written_and_read_again() {
    let folder = Folder::new();
    write_shapes(&folder.path("data"), 4, 1);
    let in_folder =
        |arguments: &[&str]| Run::of(voxseg().args(arguments).current_dir(folder.root()));
    // Its tensors are vectors, windows, a matrix and running statistics.
    let train = ["classify", "train", "data", "--model", "mobilenet_v1_025"];
    let quick = ["--steps", "1", "--batch", "4"];
    in_folder(&[&train[..], &quick, &["-o", "run"]].concat()).succeeded();

    let text = in_folder(&["inspect", "run"]).succeeded().stdout;
    assert!(text.contains("24"), "{text}");
    let predict = ["predict", "run", "-i", "data", "-o", "out"];
    in_folder(&predict).refused(&["run", "voxseg classify predict"]);

    in_folder(&["export", "run", "-o", "w.safetensors"]).succeeded();
    let mut file = WeightsFile::open(&folder.path("w.safetensors")).unwrap();
    let last = RunFolder::new(folder.path("run")).last();
    let kept = checkpoint::load(&last).unwrap().tensors;
    let names: Vec<String> = file.shapes().map(|(name, _)| name.to_owned()).collect();
    assert!(names.iter().any(|name| name.ends_with(".running_var")));
    for name in &names {
        assert_eq!(file.read(name).unwrap(), kept[name].data, "{name}");
    }
    let is_planar = file.shapes().all(|(_, shape)| shape.len() <= 4);
    assert!(is_planar, "windows have no depth in PyTorch");
    let from = ["-o", "next", "--from", "w.safetensors"];
    let told = in_folder(&[&train[..], &quick, &from].concat()).succeeded();
    let all = format!("all {} tensors from w.safetensors", names.len());
    assert!(told.stderr.contains(&all), "no `{all}` in {told:#?}");
}

#[test]
fn what_a_run_begins_with_is_told_or_refused_with_the_way_out() {
    let folder = folder_with(&Phantom::balls(2));
    let in_folder =
        |arguments: &[&str]| Run::of(voxseg().args(arguments).current_dir(folder.root()));
    let report = train(&folder, &[&QUICK[..], &["--json"]].concat()).succeeded();
    let report = report.json();
    assert_eq!(report["complete"], true);
    assert_eq!(report["was_complete"], false);
    let again = train(&folder, &["--resume", "--json"]).succeeded().json();
    assert_eq!(again["complete"], true);
    assert_eq!(again["was_complete"], true);

    in_folder(&["export", "run", "-o", "w.safetensors"]).succeeded();
    let next = ["train", "data", "-o", "next", "--config", "quick.toml"];
    let with = |weights: &str| in_folder(&[&next[..], &["--weights", weights]].concat());
    with("run").refused(&["run", "--from"]);
    with("pred").refused(&["pred", "is a folder", ".pth"]);
    let told = with("w.safetensors").succeeded();
    let line = " tensors are those of w.safetensors";
    assert!(told.stderr.contains(line), "{told:#?}");

    std::fs::remove_dir_all(folder.path("data")).unwrap();
    let other = Phantom {
        labels: serde_json::json!({"background": 0, "sphere": 1}),
        ..Phantom::balls(2)
    };
    other.write(&folder.path("data"));
    let from = ["train", "data", "-o", "last", "--from", "run"];
    in_folder(&from).refused(&["sphere", "voxseg export run", "--weights W.safetensors"]);
    let images = ["predict", "run", "-i", "nosuch", "-o", "out"];
    in_folder(&images).refused(&["nosuch", "no such file or folder"]);
}
