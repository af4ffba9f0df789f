//! dataset.json.

use std::path::Path;

use voxseg::dataset::{DatasetError, Description};

use crate::support::{PLAIN, assert_blames};

fn parse(text: &str) -> Result<Description, DatasetError> {
    Description::parse(text, Path::new("D/dataset.json"))
}

fn with_labels(labels: &str, more: &str) -> Result<Description, DatasetError> {
    parse(&format!(
        r#"{{"channel_names": {{"0": "CT"}}, "labels": {labels}, "file_ending": ".nii.gz"{more}}}"#
    ))
}

#[test]
fn plain_labels_have_a_channel_each_and_so_has_the_background() {
    let d = with_labels(r#"{"b": 2, "air": 0, "a": 1}"#, "").unwrap();
    assert_eq!(d.labels.channel_names(), ["air", "a", "b"]);
    assert_eq!(d.labels.classes(), 3);
    assert!(!d.labels.is_regions());
    assert_eq!(d.labels.values(), [0, 1, 2]);
    assert_eq!(d.channel_names, ["CT"]);
    assert_eq!(d.num_training, None);
    assert_eq!(parse(PLAIN).unwrap().num_training, Some(2));
}

#[test]
fn channels_are_in_order_of_their_numbers() {
    let text = PLAIN.replace(r#"{"0": "MRI"}"#, r#"{"1": "T2", "0": "T1"}"#);
    assert_eq!(parse(&text).unwrap().channel_names, ["T1", "T2"]);
}

#[test]
fn regions_have_a_channel_each_and_a_sigmoid() {
    let labels = r#"{"background": 0, "whole": [1, 2, 3], "core": [3, 2], "enhancing": 3}"#;
    let d = with_labels(labels, r#", "regions_class_order": [1, 2, 3]"#).unwrap();
    assert_eq!(d.labels.channel_names(), ["whole", "core", "enhancing"]);
    assert_eq!(d.labels.classes(), 3);
    assert!(d.labels.is_regions());
    assert_eq!(d.labels.foreground[1].values, [2, 3]);
    let spread = d.labels.labels_to_regions(&[0.0, 1.0, 2.0, 3.0], 2);
    let first = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
    let second = [1.0, 1.0, 1.0, 1.0, 0.0, 1.0];
    assert_eq!(spread, [first, second].concat());
}

#[test]
fn the_ignore_label_is_no_class() {
    let d = with_labels(r#"{"background": 0, "a": 1, "ignore": 2}"#, "").unwrap();
    assert_eq!(d.labels.ignore, Some(2));
    assert_eq!(d.labels.classes(), 2);
    assert_eq!(d.labels.values(), [0, 1, 2]);
}

#[test]
fn version_1_is_understood() {
    let text = r#"{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"},
        "numTraining": 3, "training": [], "tensorImageSize": "3D"}"#;
    let d = parse(text).unwrap();
    assert_eq!(d.channel_names, ["CT"]);
    assert_eq!(d.labels.channel_names(), ["background", "liver"]);
    assert_eq!(d.file_ending, ".nii.gz");
}

#[test]
fn each_bad_key_is_named() {
    let organ = |value: &str| PLAIN.replace("\"organ\": 1", &format!("\"organ\": {value}"));
    let with_order = |text: String| text.replacen('{', "{\"regions_class_order\": [1],", 1);
    let cases = [
        (PLAIN.replace("channel_names", "channels"), "channel_names"),
        (
            PLAIN.replace(r#""0": "MRI""#, r#""1": "MRI""#),
            "channel_names",
        ),
        (PLAIN.replace(r#""MRI""#, "7"), "channel_names.0"),
        (PLAIN.replace("file_ending", "ending"), "file_ending"),
        (PLAIN.replace(".nii", ".mha"), ".nii.gz"),
        (PLAIN.replace("2,", "\"two\","), "numTraining"),
        (PLAIN.replace("labels", "classes"), "labels"),
        (
            PLAIN.replace(", \"organ\": 1", ""),
            "besides the background",
        ),
        (PLAIN.replace("\"background\": 0, ", ""), "label 0"),
        (organ("2"), "consecutive"),
        (organ("-1"), "labels.organ"),
        (organ("1.5"), "labels.organ"),
        (organ("70000"), "labels.organ"),
        (organ("[]"), "labels.organ"),
        (organ("0"), "one label 0"),
        (organ("1, \"other\": 1"), "twice"),
        (organ("2, \"ignore\": 1"), "highest"),
        (organ("1, \"ignore\": [2, 3]"), "labels.ignore"),
        (organ("[1, 2]"), "regions_class_order"),
        (with_order(organ("[0, 1]")), "above 0"),
        (with_order(organ("[1, 2], \"other\": 2")), "one per region"),
    ];
    for (text, word) in cases {
        let error = parse(&text).unwrap_err();
        assert_blames(&error, &["D/dataset.json", word]);
    }
}

#[test]
fn what_is_no_json_is_named() {
    for text in ["", "{", "[1, 2]", "\u{0}"] {
        assert_blames(&parse(text).unwrap_err(), &["D/dataset.json"]);
    }
}
