//! `voxseg evaluate` on good input: the figures, and where they go.

use serde_json::{Value, json};
use voxseg::volume::Geometry;

use crate::harness::{Block, Folder, Run, SHAPE, voxseg};

/// Class 1 in the truth, and the same displaced by one voxel of 1 mm along W.
const TRUTH: Block = Block(1, [1, 1, 1], [3, 3, 3]);
const SHIFTED: Block = Block(1, [1, 1, 2], [3, 3, 4]);
const SECOND: Block = Block(2, [0, 4, 4], [2, 6, 6]);

/// Distance in mm between opposite corners of the volume.
fn diagonal() -> f64 {
    let along = |n: usize, spacing: f64| ((n - 1) as f64 * spacing).powi(2);
    (along(SHAPE[0], 2.0) + along(SHAPE[1], 1.0) + along(SHAPE[2], 1.0)).sqrt()
}

fn near(value: &Value, expected: f64) {
    let found = value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"));
    assert!(
        (found - expected).abs() < 1e-12,
        "{found} is not {expected}"
    );
}

/// Three cases of two classes: one displaced and without its second class, one perfect, one missing.
fn three_cases() -> Folder {
    let folder = Folder::new();
    folder.labels("truth/a.nii.gz", &[TRUTH, SECOND]);
    folder.labels("truth/b.nii.gz", &[TRUTH, SECOND]);
    folder.labels("truth/c.nii.gz", &[TRUTH, SECOND]);
    folder.labels("pred/a.nii.gz", &[SHIFTED]);
    folder.labels("pred/b.nii.gz", &[TRUTH, SECOND]);
    let labels = json!({"background": 0, "atrium": 1, "ventricle": 2});
    folder.description("dataset.json", labels, json!({}));
    folder
}

#[test]
fn figures_are_those_computed_by_hand() {
    let run = three_cases().evaluate(&["--json"]).succeeded();
    let document = run.json();
    let a = &document["cases"]["a"]["classes"];
    // 8 voxels each, 4 in common; half of the surface is displaced by 1 mm.
    near(&a["atrium"]["dice"], 0.5);
    near(&a["atrium"]["iou"], 4.0 / 12.0);
    near(&a["atrium"]["hd95"], 1.0);
    near(&a["atrium"]["nsd"], 1.0);
    assert_eq!(a["atrium"]["tp"], 4);
    assert_eq!(a["ventricle"]["outcome"], "prediction_empty");
    near(&a["ventricle"]["hd95"], diagonal());
    // Class by class over the cases a, b, c.
    near(
        &document["classes"]["atrium"]["mean"]["dice"],
        (0.5 + 1.0 + 0.0) / 3.0,
    );
    near(&document["classes"]["ventricle"]["mean"]["dice"], 1.0 / 3.0);
    near(&document["mean"]["dice"], (0.5 + 1.0 / 3.0) / 2.0);
    let hd95 = ((1.0 + diagonal()) / 3.0 + 2.0 * diagonal() / 3.0) / 2.0;
    near(&document["mean"]["hd95"], hd95);
    // The other convention leaves the missing case out.
    near(&document["mean_nnunet"]["dice"], (0.75 + 0.5) / 2.0);
}

#[test]
fn the_tolerance_of_the_nsd_counts() {
    let document = three_cases()
        .evaluate(&["--json", "--tolerance", "0.5"])
        .json();
    near(&document["nsd_tolerance_mm"], 0.5);
    near(&document["cases"]["a"]["classes"]["atrium"]["nsd"], 0.5);
}

#[test]
fn a_missing_prediction_is_said_and_counted() {
    let run = three_cases().evaluate(&[]).succeeded();
    assert!(run.stderr.contains("no prediction of case c"), "{run:#?}");
    assert!(
        run.stdout.contains("3 cases, 1 without a prediction"),
        "{run:#?}"
    );
    assert!(run.stdout.contains("ventricle"), "{run:#?}");
    let json = three_cases().evaluate(&["--json"]).json();
    assert_eq!(json["cases"]["c"]["missing"], true);
    near(&json["cases"]["c"]["mean"]["dice"], 0.0);
}

#[test]
fn a_prediction_without_truth_is_a_warning() {
    let folder = three_cases();
    folder.labels("pred/z.nii.gz", &[TRUTH]);
    let run = folder.evaluate(&["--json"]).succeeded();
    assert!(run.stderr.contains("z.nii.gz: no truth"), "{run:#?}");
    assert!(run.json()["cases"].get("z").is_none());
}

#[test]
fn files_are_the_same_as_stdout_and_whole() {
    let folder = three_cases();
    let run = folder
        .evaluate(&[
            "--json",
            "--csv",
            "new/cases.csv",
            "--output",
            "summary.json",
        ])
        .succeeded();
    let summary = std::fs::read_to_string(folder.path("summary.json")).unwrap();
    assert_eq!(summary.trim_end(), run.stdout.trim_end());
    let csv = std::fs::read_to_string(folder.path("new/cases.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 3 * 2);
    assert!(csv.contains("a,atrium,measured,0.5,"), "{csv}");
    assert_eq!(
        folder.names(),
        ["dataset.json", "new", "pred", "summary.json", "truth"]
    );
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = three_cases();
    let with = |threads: &str| {
        let mut command = voxseg();
        command.args(["evaluate", "pred", "truth", "--json"]);
        command.env("RAYON_NUM_THREADS", threads);
        Run::of(command.current_dir(folder.root()))
            .succeeded()
            .stdout
    };
    assert_eq!(with("1"), with("3"));
}

#[test]
fn other_endings_serve_as_well() {
    let folder = Folder::new();
    folder.labels("truth/a.nii.gz", &[TRUTH]);
    folder.labels("pred/a.nii", &[SHIFTED]);
    near(
        &folder.evaluate(&["--json"]).succeeded().json()["mean"]["dice"],
        0.5,
    );
}

#[test]
fn without_dataset_json_the_labels_of_the_truth_are_the_classes() {
    let folder = Folder::new();
    folder.labels("truth/a.nii.gz", &[TRUTH]);
    folder.labels("truth/b.nii.gz", &[SECOND]);
    folder.labels("pred/a.nii.gz", &[TRUTH, Block(7, [0, 0, 0], [1, 1, 1])]);
    folder.labels("pred/b.nii.gz", &[SECOND]);
    let run = folder.evaluate(&["--json"]).succeeded();
    let classes = run.json()["classes"].clone();
    let names: Vec<&String> = classes.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["1", "2"]);
    assert!(run.stderr.contains("label(s) 7"), "{run:#?}");
}

#[test]
fn regions_and_the_ignore_label_are_those_of_dataset_json() {
    let folder = Folder::new();
    let ignored = Block(3, [1, 1, 3], [3, 3, 4]);
    folder.labels("truth/a.nii.gz", &[TRUTH, ignored, SECOND]);
    // The displaced part lies where nobody annotated.
    folder.labels("pred/a.nii.gz", &[TRUTH, SHIFTED, SECOND]);
    let labels = json!({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3});
    let order = json!({"regions_class_order": [1, 2]});
    folder.description("elsewhere.json", labels, order);
    let run = folder
        .evaluate(&["--json", "--dataset", "elsewhere.json"])
        .succeeded();
    let classes = &run.json()["cases"]["a"]["classes"];
    near(&classes["whole"]["dice"], 1.0);
    assert_eq!(classes["whole"]["n_ref"], 16);
    near(&classes["core"]["dice"], 1.0);
}

#[test]
fn two_files_are_one_case() {
    let folder = Folder::new();
    folder.labels("pred/anything.nii.gz", &[SHIFTED]);
    folder.labels("truth/a.nii.gz", &[TRUTH]);
    let mut command = voxseg();
    command.args([
        "evaluate",
        "pred/anything.nii.gz",
        "truth/a.nii.gz",
        "--json",
    ]);
    let run = Run::of(command.current_dir(folder.root())).succeeded();
    near(&run.json()["cases"]["a"]["classes"]["1"]["dice"], 0.5);
    assert!(run.stderr.is_empty(), "{run:#?}");
}

#[test]
fn pictures_are_measured_in_pixels() {
    let folder = Folder::new();
    let plane = || Geometry::from_spacing([1, 6, 6], [1.0; 3]);
    folder.labels_on("truth/a.png", plane(), &[Block(1, [0, 1, 1], [1, 3, 3])]);
    folder.labels_on("pred/a.png", plane(), &[Block(1, [0, 1, 2], [1, 3, 4])]);
    let run = folder.evaluate(&["--csv", "cases.csv"]).succeeded();
    for word in ["HD95 pixels", "NSD at 2 pixels", "1 case, "] {
        assert!(run.stdout.contains(word), "no `{word}` in {}", run.stdout);
    }
    let csv = std::fs::read_to_string(folder.path("cases.csv")).unwrap();
    assert!(
        csv.lines()
            .next()
            .is_some_and(|line| line.contains("hd95_pixels"))
    );
    let document = folder.evaluate(&["--json"]).succeeded().json();
    assert_eq!(document["unit"], "pixels");
    near(&document["nsd_tolerance_pixels"], 2.0);
}

#[cfg(unix)]
#[test]
fn output_through_a_link_keeps_the_link() {
    let folder = three_cases();
    std::os::unix::fs::symlink("kept.csv", folder.path("link.csv")).unwrap();
    folder
        .evaluate(&["--csv", "link.csv", "--output", "/dev/null"])
        .succeeded();
    assert!(folder.path("link.csv").is_symlink());
    let text = std::fs::read_to_string(folder.path("kept.csv")).unwrap();
    assert!(text.starts_with("case,class"), "{text}");
}
