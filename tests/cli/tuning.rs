//! Kernels chosen by measuring them.

use std::collections::BTreeMap;

use crate::harness::{Folder, Run, voxseg};
use crate::phantom::Phantom;
use crate::runs::folder_with;

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
