//! The seed decides every bit.

use crate::phantom::{Phantom, quick};
use crate::{assert_same, folder_with, run};

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let folder = folder_with(&Phantom::balls(5));
    let root = folder.path();
    let config = quick(8);
    run(root, "one", &config).unwrap();
    run(root, "two", &config).unwrap();
    assert_same(&root.join("one"), &root.join("two"));
    run(root, "other", &format!("seed = 1\n{config}")).unwrap();
    for name in ["checkpoint_final.safetensors", "log.jsonl"] {
        let read = |run: &str| std::fs::read(root.join(run).join(name)).unwrap();
        assert_ne!(read("one"), read("other"), "{name}");
    }
}

#[test]
fn how_often_a_run_looks_at_its_weights_does_not_change_them() {
    let folder = folder_with(&Phantom::balls(5));
    let root = folder.path();
    let seldom = quick(7)
        .replace("checkpoint_every = 2", "checkpoint_every = 5")
        .replace("validate_every = 4", "validate_every = 0");
    let often = run(root, "often", &quick(7)).unwrap();
    let seldom = run(root, "seldom", &seldom).unwrap();
    let losses = |log: &[voxseg::train::LogLine]| -> Vec<_> {
        log.iter().filter_map(|line| line.record().loss).collect()
    };
    assert_eq!(losses(&often.log).len(), 7);
    assert_eq!(losses(&often.log), losses(&seldom.log));
}
