//! `voxseg demo`: the whole way in a few steps.

use crate::harness::{Folder, Run, voxseg};
use crate::runs::names_in;

#[test]
fn makes_data_trains_predicts_evaluates_and_draws() {
    let folder = Folder::new();
    let mut command = voxseg();
    command.args(["demo", "-o", "demo", "--steps", "2", "--json"]);
    let run = Run::of(command.current_dir(folder.root())).succeeded();
    let document = run.json();
    let file = std::fs::read_to_string(folder.path("demo/evaluation.json")).unwrap();
    assert_eq!(file.trim_end(), run.stdout.trim_end());
    let cases = document["cases"].as_object().expect("cases by name");
    let predictions = names_in(&folder, "demo/predictions");
    assert!(!cases.is_empty());
    let files: Vec<String> = cases.keys().map(|id| format!("{id}.nii.gz")).collect();
    assert_eq!(predictions, files);
    for class in document["classes"].as_object().expect("classes").values() {
        let dice = class["mean"]["dice"].as_f64().expect("a number");
        assert!((0.0..=1.0).contains(&dice), "{dice}");
    }
    let log = std::fs::read_to_string(folder.path("demo/run/log.jsonl")).unwrap();
    let steps = log.lines().filter(|l| l.contains("\"event\":\"step\""));
    assert_eq!(steps.count(), 2);
    let picture = image::open(folder.path("demo/demo.png")).unwrap();
    // Three panels a row, a row a case.
    assert!(picture.width() > 400 && picture.height() > 100 * cases.len() as u32);
}

#[test]
fn a_folder_with_another_demo_is_refused_and_left_alone() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("demo/run")).unwrap();
    folder.bytes("demo/run/config.toml", b"seed = 3\n[schedule]\nsteps = 2\n");
    for flags in [
        ["--seed", "4", "--steps", "2"],
        ["--seed", "3", "--steps", "5"],
    ] {
        let mut command = voxseg();
        command.args(["demo", "-o", "demo"]).args(flags);
        let run = Run::of(command.current_dir(folder.root()));
        run.refused(&["demo", "--seed 3 --steps 2", &flags.join(" "), "-o"]);
        assert_eq!(names_in(&folder, "demo/run"), ["config.toml"]);
        assert_eq!(names_in(&folder, "demo"), ["run"]);
    }
}
