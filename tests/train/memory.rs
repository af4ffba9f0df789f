//! A run within a budget of device memory is the same run.

use voxseg::bytes::Bytes;
use voxseg::graph::GraphError;
use voxseg::models::ModelError;
use voxseg::train::{TrainError, TrainOptions};

use crate::phantom::{Phantom, quick};
use crate::{folder_with, run, train_with};

/// The least budget under which the run may plan its step.
fn least(error: &TrainError) -> u64 {
    let source = match error {
        TrainError::TooLarge { source, .. } => source,
        TrainError::Model(source) => source,
        other => panic!("{other}"),
    };
    match source {
        ModelError::Graph(GraphError::Budget { least, .. }) => *least,
        other => panic!("{other}"),
    }
}

#[test]
fn a_budget_changes_no_byte_and_one_too_small_is_refused_before_the_run() {
    let folder = folder_with(&Phantom::balls(4));
    let root = folder.path();
    run(root, "free", &quick(2)).unwrap();
    let within = |budget: u64| format!("memory_budget = {budget}\n{}", quick(2));

    let error = run(root, "tight", &within(1)).unwrap_err();
    assert!(error.is_users_fault(), "{error}");
    assert!(
        !root
            .join("tight")
            .join("checkpoint_latest.safetensors")
            .exists()
    );
    let report = run(root, "tight", &within(least(&error))).unwrap();
    assert!(report.memory.total_bytes - report.memory.validation_bytes <= least(&error));
    for file in ["checkpoint_final.safetensors", "log.jsonl"] {
        let bytes = |name: &str| std::fs::read(root.join(name).join(file)).unwrap();
        assert!(bytes("free") == bytes("tight"), "{file} differs");
    }

    // The budget is no part of what a run is: one that was begun without goes on with another.
    let resume = TrainOptions {
        resume: true,
        ..TrainOptions::default()
    };
    let text = format!("memory_budget = \"{}\"", Bytes(1 << 40));
    train_with(root, "free", &text, resume).unwrap();
}
