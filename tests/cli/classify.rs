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

    // What one verb trained is none for the other, and both say which is.
    let segment = |arguments: &[&str]| {
        let mut command = voxseg();
        command.arg("train").args(arguments);
        Run::of(command.current_dir(folder.root()))
    };
    let from = ["data", "-o", "next", "--from", "run"];
    segment(&from).refused(&["run", "of a classifier", "classify train DATA"]);
    assert!(!folder.path("next").exists());
    let resumed = segment(&["data", "-o", "run", "--resume"]);
    resumed.refused(&[
        "run",
        "of a classifier",
        "classify train DATA -o RUN --resume",
    ]);
    std::fs::create_dir(folder.path("atrium")).unwrap();
    folder.bytes("atrium/plan.json", b"{}");
    folder.bytes("atrium/config.toml", b"seed = 0");
    let resumed = classify(&folder, &["train", "data", "-o", "atrium", "--resume"]);
    resumed.refused(&["atrium", "that segments", "voxseg train DATASET"]);
}

#[test]
fn flags_of_train_serve_classifiers_as_well() {
    let folder = Folder::new();
    write_shapes(&folder.path("data"), 3, 1);
    // In f16 the first steps find the scale of the loss.
    let train = |name: &str, steps: &str, flags: &[&str]| {
        let mut command = voxseg();
        command.env("VOXSEG_CACHE", folder.path("cache"));
        command.args([
            "classify", "train", "data", "-o", name, "--steps", steps, "--batch", "3",
        ]);
        command.args(["--model", "mobilenet_v1_025"]).args(flags);
        Run::of(command.current_dir(folder.root())).succeeded()
    };
    let config =
        |name: &str| std::fs::read_to_string(folder.path(name).join("config.toml")).unwrap();
    let flags = ["--precision", "f16", "--memory-budget", "1GiB", "--json"];
    let half = train("half", "20", &flags).json();
    assert!(config("half").contains("precision = \"f16\""));
    assert!(config("half").contains("memory_budget"));
    let full = train("full", "1", &["--tune", "--profile", "--json"]);
    assert!(config("full").contains("precision = \"f32\""));
    let bytes = |document: &Value| document["memory"]["activation_bytes"].as_u64().unwrap();
    let document = full.json();
    assert!(bytes(&half) < bytes(&document), "{half}, {document}");
    assert!(document["profile"].is_object(), "{document}");
    assert!(full.stderr.contains("conv."), "{full:#?}");
    assert!(folder.path("full/kernels.json").is_file());

    let image = "data/bars/bars00.png";
    let of = |precision: &str| {
        let arguments = ["predict", "full", image, "--json", "--precision", precision];
        let document = classify(&folder, &arguments).succeeded().json();
        document["images"][0]["probabilities"]["bars"]
            .as_f64()
            .unwrap()
    };
    let (whole, rounded) = (of("f32"), of("f16"));
    assert!(
        whole != rounded && (whole - rounded).abs() < 1e-2,
        "{whole}, {rounded}"
    );

    // A file has what the flags have, and flags win over it.
    let text = "steps = 2\nbatch = 2\nmirror = false\npeak_learning_rate = 0.02\nseed = 7\n";
    folder.bytes("own.toml", text.as_bytes());
    train("own", "1", &["--config", "own.toml"]);
    let own: toml::Table = toml::from_str(&config("own")).unwrap();
    for (key, expected) in [("steps", 1), ("batch", 3), ("seed", 7)] {
        assert_eq!(own[key].as_integer(), Some(expected), "{key}: {own}");
    }
    assert_eq!(own["mirror"].as_bool(), Some(false), "{own}");
    assert_eq!(own["learning_rate"]["initial"].as_float(), Some(0.02));
    train("own2", "1", &["-c", "own.toml", "--learning-rate", "0.03"]);
    let own: toml::Table = toml::from_str(&config("own2")).unwrap();
    assert_eq!(own["learning_rate"]["initial"].as_float(), Some(0.03));
    // That of a run makes the same run again.
    train("own3", "1", &["--config", "own2/config.toml"]);
    assert_eq!(config("own2"), config("own3"));

    // A resumed run has its own.
    for flags in [
        &["--config", "own.toml"][..],
        &["--steps", "1"],
        &["--seed", "1"],
        &["--batch", "2"],
        &["--precision", "f32"],
        &["--model", "mobilenet_v2"],
        &["--size", "24,24"],
        &["--from", "half"],
        &["--learning-rate", "1"],
        &["--label-smoothing", "0"],
        &["--no-mirror"],
    ] {
        let arguments = [&["train", "data", "-o", "half", "--resume"], flags].concat();
        classify(&folder, &arguments).refused(&["--resume", flags[0]]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_no_text_are_told_as_far_as_they_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = Folder::new();
    write_shapes(&folder.path("data"), 2, 1);
    let run = OsStr::from_bytes(b"r\xffn");
    let image = folder.root().join(OsStr::from_bytes(b"\xff.png"));
    write_shape(&image, 0, 1, 7);
    let mut command = voxseg();
    command.args(["classify", "train", "data", "--json", "--steps", "1", "-o"]);
    command
        .arg(run)
        .args(["--model", "mobilenet_v1_025", "--batch", "2"]);
    let trained = Run::of(command.current_dir(folder.root()))
        .succeeded()
        .json();
    assert_eq!(trained["run"], "r\u{fffd}n");
    let mut command = voxseg();
    command
        .args(["classify", "predict", "--json"])
        .args([run, image.as_os_str()]);
    let told = Run::of(command.current_dir(folder.root()))
        .succeeded()
        .json();
    let path = told["images"][0]["image"].as_str().unwrap();
    assert!(path.ends_with("\u{fffd}.png"), "{path}");
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
    let steps = [
        "train",
        "data",
        "-o",
        "run",
        "--steps",
        "18446744073709551615",
    ];
    classify(&folder, &steps).refused(&["steps", "1000000000"]);
    refused(&["--label-smoothing", "1"], &["label_smoothing", "below 1"]);
    refused(&["--config", "none.toml"], &["none.toml", "No such file"]);
    folder.bytes("bad.toml", b"epochs = 3");
    refused(&["--config", "bad.toml"], &["bad.toml", "line 1"]);
    folder.bytes("bad.toml", b"peak_learning_rate = 0");
    refused(
        &["--config", "bad.toml"],
        &["peak_learning_rate", "above 0"],
    );
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
