//! `voxseg evaluate` on bad input: the exit code, the file and the remedy, and nothing left behind.

use serde_json::json;
use voxseg::volume::{Geometry, Image, write_image};

use crate::harness::{Block, Folder, Run, SHAPE, SPACING, voxseg};

const BLOCK: Block = Block(1, [1, 1, 1], [3, 3, 3]);

fn one_case() -> Folder {
    let folder = Folder::new();
    folder.labels("truth/a.nii.gz", &[BLOCK]);
    folder.labels("pred/a.nii.gz", &[BLOCK]);
    folder
}

fn name(folder: &Folder) {
    let labels = json!({"background": 0, "atrium": 1});
    folder.description("dataset.json", labels, json!({}));
}

/// Asserts that the evaluation is refused with all `words` and that neither of its files appears.
fn refused(folder: &Folder, words: &[&str]) {
    let before = folder.names();
    let files = ["--csv", "cases.csv", "--output", "summary.json"];
    folder.evaluate(&files).refused(words);
    assert_eq!(folder.names(), before);
}

#[test]
fn files_cut_off() {
    for (side, other) in [("pred", "truth"), ("truth", "pred")] {
        let folder = one_case();
        folder.cut(&format!("{side}/a.nii.gz"), 0.6);
        refused(&folder, &[&format!("{side}/a.nii.gz"), "again"]);
        let folder = one_case();
        std::fs::remove_file(folder.path(&format!("{side}/a.nii.gz"))).unwrap();
        folder.labels(&format!("{side}/a.nii"), &[BLOCK]);
        folder.cut(&format!("{side}/a.nii"), 0.9);
        refused(&folder, &[&format!("{side}/a.nii"), "again"]);
        assert!(folder.path(other).join("a.nii.gz").is_file());
    }
}

#[test]
fn labels_that_are_no_whole_numbers() {
    for side in ["pred", "truth"] {
        let folder = one_case();
        let geometry = Geometry::from_spacing(SHAPE, SPACING);
        let probabilities = vec![0.25; geometry.voxels()];
        let image = Image::new(geometry, 1, probabilities).unwrap();
        let file = format!("{side}/a.nii.gz");
        write_image(folder.path(&file), &image).unwrap();
        refused(
            &folder,
            &[&file, "whole numbers", "0.25", "probability map"],
        );
    }
}

#[test]
fn shapes_and_spacings_that_differ() {
    let others = [
        Geometry::from_spacing([4, 6, 7], SPACING),
        Geometry::from_spacing(SHAPE, [2.5, 1.0, 1.0]),
    ];
    for geometry in others {
        let folder = one_case();
        folder.labels_on("pred/a.nii.gz", geometry, &[BLOCK]);
        refused(&folder, &["pred/a.nii.gz", "truth/a.nii.gz", "resample"]);
    }
}

#[test]
fn labels_that_dataset_json_does_not_name() {
    for side in ["pred", "truth"] {
        let folder = one_case();
        name(&folder);
        let file = format!("{side}/a.nii.gz");
        folder.labels(&file, &[BLOCK, Block(5, [0, 0, 0], [1, 1, 2])]);
        refused(&folder, &[&file, "label(s) 5", "2 voxels", "dataset.json"]);
    }
}

#[test]
fn folders_without_label_files() {
    for side in ["pred", "truth"] {
        let folder = one_case();
        std::fs::remove_file(folder.path(&format!("{side}/a.nii.gz"))).unwrap();
        folder.bytes(&format!("{side}/notes.txt"), b"nothing");
        refused(&folder, &[side, "no label files", ".nii.gz"]);
    }
}

#[test]
fn paths_that_are_not_there() {
    let folder = one_case();
    let run = |pred: &str, truth: &str| {
        let mut command = voxseg();
        command.args(["evaluate", pred, truth]);
        Run::of(command.current_dir(folder.root()))
    };
    run("nowhere", "truth").refused(&["nowhere", "No such file"]);
    run("pred", "nowhere").refused(&["nowhere", "No such file"]);
    run("pred/a.nii.gz", "truth").refused(&["pred/a.nii.gz", "two folders or two files"]);
    folder.bytes("a.txt", b"text");
    run("a.txt", "truth/a.nii.gz").refused(&["a.txt", ".nii.gz"]);
}

#[test]
fn no_prediction_of_any_case() {
    let folder = one_case();
    std::fs::rename(
        folder.path("pred/a.nii.gz"),
        folder.path("pred/a_seg.nii.gz"),
    )
    .unwrap();
    refused(&folder, &["a_seg.nii.gz", "name of its truth"]);
}

#[test]
fn one_case_in_two_files() {
    let folder = one_case();
    folder.labels("truth/a.nii", &[BLOCK]);
    refused(&folder, &["a.nii", "same case", "remove one"]);
    // With the data set's ending there is no doubt.
    name(&folder);
    folder.evaluate(&[]).succeeded();
}

#[test]
fn a_truth_without_any_label() {
    let folder = one_case();
    folder.labels("truth/a.nii.gz", &[]);
    refused(&folder, &["truth", "no label above 0", "--dataset"]);
}

#[test]
fn a_damaged_dataset_json() {
    let folder = one_case();
    folder.bytes("dataset.json", b"{\"labels\": ");
    refused(&folder, &["dataset.json", "line 1"]);
    folder.description("dataset.json", json!({"background": 0}), json!({}));
    refused(&folder, &["dataset.json", "labels", "at least one label"]);
    let run = folder.evaluate(&["--dataset", "nowhere"]);
    run.refused(&["nowhere"]);
}

#[test]
fn flags_that_make_no_sense() {
    let folder = one_case();
    folder
        .evaluate(&["--tolerance", "-1"])
        .refused(&["-1 mm", "at least 0"]);
    folder
        .evaluate(&["--tolerance", "NaN"])
        .refused(&["NaN", "at least 0"]);
    folder
        .evaluate(&["--tolerance", "wide"])
        .refused(&["wide", "--tolerance"]);
    folder
        .evaluate(&["--output", "pred"])
        .refused(&["pred", "name of a file"]);
}

#[test]
fn with_json_the_error_is_a_document() {
    let folder = one_case();
    folder.cut("pred/a.nii.gz", 0.5);
    let run = folder.evaluate(&["--json"]);
    assert_eq!(run.code, Some(2));
    let document = run.json();
    assert_eq!(document["exit_code"], 2);
    let error = document["error"].as_str().expect("a text");
    assert!(error.contains("pred/a.nii.gz"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_keeps_the_table() {
    let folder = one_case();
    folder.bytes("wall", b"a file where a folder should be");
    let run = folder.evaluate(&["--csv", "wall/cases.csv"]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr.contains("wall/cases.csv"), "{run:#?}");
    assert!(run.stdout.contains("Dice"), "{run:#?}");
}

#[test]
fn every_faulty_case_is_named() {
    let folder = one_case();
    for name in ["b", "c", "d"] {
        folder.labels(&format!("truth/{name}.nii.gz"), &[BLOCK]);
        folder.labels(&format!("pred/{name}.nii.gz"), &[BLOCK]);
    }
    folder.cut("pred/a.nii.gz", 0.6);
    folder.labels_on(
        "pred/d.nii.gz",
        Geometry::from_spacing([4, 6, 7], SPACING),
        &[],
    );
    let run = folder.evaluate(&[]).refused(&["pred/a.nii.gz"]);
    let second = run.stderr.lines().find(|line| line.starts_with("and "));
    assert!(
        second.is_some_and(|line| line.contains("pred/d.nii.gz")),
        "{run:#?}"
    );
    let document = folder.evaluate(&["--json"]).json();
    assert_eq!(document["exit_code"], 2);
}
