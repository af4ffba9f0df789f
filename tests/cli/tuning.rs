//! Kernels chosen by measuring them.

use std::collections::BTreeMap;

use crate::harness::{Folder, Run, voxseg};
use crate::phantom::Phantom;
use crate::runs::{folder_with, train};

/// `voxseg train data -o NAME --tune` with a cache in the folder.
fn tune(folder: &Folder, name: &str) -> Run {
    let mut command = voxseg();
    command
        .current_dir(folder.root())
        .env("VOXSEG_CACHE", folder.path("cache"))
        .args(["train", "data", "-o", name, "--tune"])
        .args(["--config", "quick.toml"]);
    Run::of(&mut command)
}

fn choices(folder: &Folder, name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder.path(name)).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(document["variants"].clone()).unwrap()
}

#[test]
fn kernels_are_measured_once_and_kept_with_the_run() {
    let folder = folder_with(&Phantom::balls(2));
    let first = tune(&folder, "first").succeeded();
    let measured = |run: &Run| {
        let lines = run.stderr.lines();
        lines.filter(|line| line.starts_with("conv.")).count()
    };
    let kept = choices(&folder, "first/kernels.json");
    assert!(measured(&first) > 0);
    let line = |start: &str| {
        first
            .stderr
            .lines()
            .position(|line| line.starts_with(start))
    };
    assert!(line("planned device memory") < line("conv."), "{first:#?}");
    assert_eq!(measured(&first), kept.len(), "{first:#?}");
    for variant in kept.values() {
        assert!(
            voxseg::ops::conv::VARIANTS.contains(&&variant[..]),
            "{variant}"
        );
    }

    let second = tune(&folder, "second").succeeded();
    assert_eq!(measured(&second), 0, "{second:#?}");
    assert_eq!(choices(&folder, "second/kernels.json"), kept);
}

#[test]
fn a_tuned_run_is_inspected_with_its_kernels() {
    let folder = folder_with(&Phantom::balls(2));
    tune(&folder, "run").succeeded();
    let dispatches = |arguments: &[&str]| {
        let mut command = voxseg();
        command.args(["inspect", "run", "--json"]).args(arguments);
        let run = Run::of(command.current_dir(folder.root())).succeeded();
        run.json()["memory"]["dispatches"].as_u64().unwrap()
    };
    let naive = dispatches(&["--variant", "conv=naive"]);
    assert_ne!(dispatches(&[]), naive);
    let kernels = folder.path("run/kernels.json");
    let text = std::fs::read_to_string(&kernels).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    for variant in document["variants"].as_object_mut().unwrap().values_mut() {
        *variant = "naive".into();
    }
    std::fs::write(&kernels, document.to_string()).unwrap();
    assert_eq!(dispatches(&[]), naive);
}

#[test]
fn what_an_interrupted_run_measured_is_not_taken_by_one_that_is_not_tuned() {
    let folder = folder_with(&Phantom::balls(2));
    tune(&folder, "tuned").succeeded();
    std::fs::create_dir(folder.path("run")).unwrap();
    let of = |run: &str| folder.path(run).join("kernels.json");
    std::fs::copy(of("tuned"), of("run")).unwrap();
    train(&folder, &["--config", "quick.toml"]).succeeded();
    assert!(!of("run").exists());
}

#[test]
fn damaged_choices_of_a_run_are_made_anew() {
    let folder = folder_with(&Phantom::balls(2));
    tune(&folder, "run").succeeded();
    let kernels = folder.path("run/kernels.json");
    let whole = std::fs::read(&kernels).unwrap();
    std::fs::write(&kernels, "{").unwrap();
    train(&folder, &["--resume"]).refused(&["run/kernels.json", "Delete the file", "--tune"]);
    std::fs::remove_file(&kernels).unwrap();
    let mut command = voxseg();
    command
        .current_dir(folder.root())
        .env("VOXSEG_CACHE", folder.path("cache"))
        .args(["train", "data", "-o", "run", "--resume", "--tune"]);
    Run::of(&mut command).succeeded();
    assert_eq!(std::fs::read(&kernels).unwrap(), whole);
}

#[test]
fn a_damaged_cache_is_named() {
    let folder = folder_with(&Phantom::balls(2));
    tune(&folder, "first").succeeded();
    for file in std::fs::read_dir(folder.path("cache")).unwrap() {
        std::fs::write(file.unwrap().path(), "{\"adapter\":").unwrap();
    }
    let run = tune(&folder, "second");
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(
        run.stderr.contains("kernels-") && run.stderr.contains("Delete"),
        "{run:#?}"
    );
}
