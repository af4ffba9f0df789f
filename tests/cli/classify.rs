//! `voxseg classify`: a data set, a run, classes of new images, and what is refused.

use serde_json::Value;

use crate::harness::{Folder, Run, voxseg};
use crate::shapes::{CLASSES, write_shape, write_shapes};

fn classify(folder: &Folder, arguments: &[&str]) -> Run {
    let mut command = voxseg();
    command.arg("classify").args(arguments);
    Run::of(command.current_dir(folder.root()))
}

const QUICK: [&str; 10] = [
    "train",
    "data",
    "-o",
    "run",
    "--model",
    "mobilenet_v1_025",
    "--steps",
    "2",
    "--batch",
    "4",
];

#[test]
fn a_run_is_trained_resumed_and_asked() {
    let folder = Folder::new();
    write_shapes(&folder.path("data"), 5, 1);
    let run = classify(&folder, &[&QUICK[..], &["--json"]].concat()).succeeded();
    let report = run.json();
    assert_eq!(report["steps"], 2);
    assert_eq!(report["classes"], serde_json::json!(CLASSES));
    assert_eq!(report["validation"]["images"], 3);
    for word in [
        "planned device memory",
        "24 x 24",
        "3 held out",
        "step 2/2",
        "images",
    ] {
        assert!(run.stderr.contains(word), "no `{word}` in {}", run.stderr);
    }
    let again = classify(&folder, &["train", "data", "-o", "run", "--resume"]).succeeded();
    assert!(again.stdout.contains("complete already"), "{again:#?}");

    let csv = classify(&folder, &["predict", "run", "data/bars"]).succeeded();
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!(lines[0], "image,class,bars,checks,discs");
    assert_eq!(lines.len(), 6);
    for line in &lines[1..] {
        let fields: Vec<&str> = line.split(',').collect();
        assert!(
            fields[0].ends_with(".png") && CLASSES.contains(&fields[1]),
            "{line}"
        );
        let total: f64 = fields[2..].iter().map(|p| p.parse::<f64>().unwrap()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{line}");
    }
    let image = "data/bars/bars00.png";
    classify(&folder, &["predict", "run", image, "-o", "out.csv"]).succeeded();
    let written = std::fs::read_to_string(folder.path("out.csv")).unwrap();
    assert!(
        written.starts_with(lines[0]) && written.contains(image),
        "{written}"
    );

    // One image that cannot be read does not keep the other from its class.
    folder.bytes("broken.png", b"no picture");
    let both = ["predict", "run", image, "broken.png", "--json"];
    let run = classify(&folder, &both);
    assert_eq!(run.code, Some(2), "{run:#?}");
    let document = run.json();
    assert_eq!(document["images"].as_array().map(Vec::len), Some(1));
    assert!(
        document["failed"][0]
            .as_str()
            .is_some_and(|t| t.contains("broken.png"))
    );
    let said: &Value = &document["images"][0]["probabilities"]["bars"];
    assert!(
        said.as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)),
        "{document}"
    );

    write_shape(&folder.path("colour.png"), 0, 3, 1);
    classify(&folder, &["predict", "run", "colour.png"]).refused(&["colour.png", "grey"]);
    classify(&folder, &["predict", "run", "pred"]).refused(&["pred", "no image"]);
    classify(&folder, &["predict", "data", image]).refused(&["data", "classify train"]);
}

#[test]
fn bad_input_is_refused_and_leaves_no_run() {
    let folder = Folder::new();
    write_shapes(&folder.path("data"), 2, 1);
    let refused = |arguments: &[&str], words: &[&str]| {
        classify(&folder, &[&QUICK[..], arguments].concat()).refused(words);
        assert!(!folder.path("run").exists(), "{arguments:?}");
    };
    refused(&["--size", "24,24,24"], &["--size", "H,W"]);
    refused(&["--learning-rate", "-1"], &["learning_rate", "above 0"]);
    refused(&["--label-smoothing", "1"], &["label_smoothing", "below 1"]);
    refused(&["--resume"], &["--resume"]);
    refused(&["--from", "none.pth"], &["none.pth"]);
    refused(&["--validation", "none.csv"], &["none.csv"]);
    folder.bytes("weights.pth", b"no weights");
    refused(&["--from", "weights.pth"], &["weights.pth", "safetensors"]);
    let model = ["train", "data", "-o", "run", "--model", "vnet"];
    classify(&folder, &model).refused(&["vnet", "mobilenet_v3_small"]);
    let model = ["train", "data", "-o", "run", "--model", "none"];
    classify(&folder, &model).refused(&["none"]);
    std::fs::create_dir(folder.path("data/empty")).unwrap();
    refused(&[], &["empty", "no image"]);
}
