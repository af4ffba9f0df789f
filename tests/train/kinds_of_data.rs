//! Runs on the kinds of data there are, each from training to a scored validation.

use serde_json::json;
use voxseg::train::{LogLine, TrainReport};

use crate::phantom::{Phantom, quick};
use crate::{folder_with, run};

/// Trains on `phantom` and asserts that every loss is a number and that the held-out case has been scored.
fn trains(phantom: &Phantom, config: &str) -> TrainReport {
    let folder = folder_with(phantom);
    let report = run(folder.path(), "run", config).unwrap_or_else(|e| panic!("{e}"));
    for line in &report.log {
        if let LogLine::Step {
            loss,
            gradient_norm,
            ..
        } = line
        {
            assert!(loss.is_some() && gradient_norm.is_some(), "{line:?}");
        }
    }
    let run = folder.path().join("run");
    assert!(run.join("validation.png").is_file());
    assert!(run.join("progress.svg").is_file());
    let predicted = std::fs::read_dir(run.join("validation")).unwrap();
    for file in predicted {
        let path = file.unwrap().path();
        assert!(path.to_string_lossy().ends_with(phantom.ending), "{path:?}");
    }
    report
}

/// Number of classes or regions that were scored.
fn classes(report: &TrainReport) -> usize {
    let evaluation = report.validation.as_ref().expect("a held-out case");
    let document = evaluation.to_json();
    document["classes"].as_object().expect("classes").len()
}

#[test]
fn regions_with_voxels_that_nobody_annotated() {
    let phantom = Phantom {
        labels: json!({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}),
        region_order: Some(vec![1, 2]),
        label: |ring, [_, _, w]| if w < 8 { 3 } else { ring },
        ..Phantom::balls(3)
    };
    assert_eq!(classes(&trains(&phantom, &quick(6))), 2);
}

#[test]
fn labels_of_which_one_slice_is_annotated() {
    let phantom = Phantom {
        labels: json!({"background": 0, "ball": 1, "ignore": 2}),
        label: |ring, [d, _, _]| if d == 8 { ring.min(1) } else { 2 },
        ..Phantom::balls(3)
    };
    trains(&phantom, &quick(6));
}

#[test]
fn several_channels_and_classes() {
    let phantom = Phantom {
        channels: 3,
        labels: json!({"background": 0, "shell": 1, "core": 2}),
        label: |ring, _| ring,
        ..Phantom::balls(3)
    };
    assert_eq!(classes(&trains(&phantom, &quick(6))), 2);
}

#[test]
fn pictures() {
    let phantom = Phantom {
        shape: [1, 32, 40],
        spacing: [1.0; 3],
        ending: ".png",
        ..Phantom::balls(3)
    };
    trains(&phantom, &quick(6).replace("[8, 16, 16]", "[1, 16, 16]"));
}

#[test]
fn volumes_slice_by_slice() {
    let config = quick(6).replace("[8, 16, 16]", "[1, 16, 16]");
    trains(
        &Phantom::balls(3),
        &format!("{config}model = \"nnunet2d\"\n"),
    );
}

#[test]
fn thick_slices() {
    let phantom = Phantom {
        shape: [6, 32, 32],
        spacing: [5.0, 0.8, 0.8],
        ..Phantom::balls(3)
    };
    trains(&phantom, &quick(6).replace("[8, 16, 16]", "[4, 32, 32]"));
}
