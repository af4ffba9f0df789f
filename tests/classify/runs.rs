//! The seed decides every bit, whether a run goes through, is ended, or begins with weights of others.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use voxseg::bytes::Bytes;
use voxseg::classify::{ClassifyConfig, ClassifyError, ClassifyOptions, train};
use voxseg::graph::GraphError;
use voxseg::models::ModelError;
use voxseg::run::{RunFolder, checkpoint};
use voxseg::train::{Event, TrainError};

use crate::shapes::write_shapes;
use crate::{assert_same, gpu, quick, run};

const NEW: ClassifyOptions<'_> = ClassifyOptions {
    resume: false,
    tune: false,
    profile: false,
    from: None,
    stop: None,
};

const RESUME: ClassifyOptions<'_> = ClassifyOptions {
    resume: true,
    ..NEW
};

fn config() -> ClassifyConfig {
    ClassifyConfig {
        batch: Some(4),
        checkpoint_every: Some(3),
        validate_every: Some(4),
        ..quick(8)
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_an_ended_run_goes_on_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_shapes(&root.join("data"), 5, 1);
    run(root, "one", &config(), NEW).unwrap();
    run(root, "two", &config(), NEW).unwrap();
    assert_same(&root.join("one"), &root.join("two"));
    let other = ClassifyConfig {
        seed: 1,
        ..config()
    };
    run(root, "other", &other, NEW).unwrap();
    let log = |run: &str| std::fs::read(root.join(run).join("log.jsonl")).unwrap();
    assert_ne!(log("one"), log("other"));

    // Before the first step, and between checkpoints.
    for last in [0, 4] {
        let name = format!("stopped {last}");
        let stop = AtomicBool::new(last == 0);
        let options = ClassifyOptions {
            stop: Some(&stop),
            ..NEW
        };
        let hear = |event: Event| {
            if let Event::Step(line) = event
                && line.step() == last
            {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let (data, stopped) = (root.join("data"), RunFolder::new(root.join(&name)));
        let config = config();
        let first = train(&data, &stopped, &config, options, gpu(), &hear);
        let error = pollster::block_on(first).unwrap_err();
        let is_stopped = matches!(error, ClassifyError::Train(TrainError::Stopped { .. }));
        assert!(is_stopped, "{error}");
        run(root, &name, &ClassifyConfig::default(), RESUME).unwrap();
        assert_same(&root.join("one"), stopped.root());
    }

    let again = run(root, "two", &ClassifyConfig::default(), RESUME).unwrap();
    assert!(again.was_complete);
    let exists = run(root, "two", &config(), NEW).unwrap_err();
    assert!(exists.to_string().contains("--resume"), "{exists}");
    write_shapes(&root.join("data"), 6, 1);
    let others = run(root, "two", &ClassifyConfig::default(), RESUME).unwrap_err();
    assert!(
        matches!(others, ClassifyError::OtherData { .. }),
        "{others}"
    );
}

#[test]
fn a_budget_of_memory_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_shapes(&root.join("data"), 5, 1);
    run(root, "free", &config(), NEW).unwrap();
    let within = |bytes: u64| ClassifyConfig {
        memory_budget: Some(Bytes(bytes)),
        ..config()
    };
    let error = run(root, "tight", &within(1), NEW).unwrap_err();
    assert!(
        error.is_users_fault() && !root.join("tight").exists(),
        "{error}"
    );
    let ClassifyError::Model(ModelError::Graph(GraphError::Budget { least, .. })) = error else {
        panic!("{error}");
    };
    let tight = run(root, "tight", &within(least), NEW).unwrap().memory;
    assert!(
        tight.total_bytes - tight.validation_bytes <= least,
        "{tight}"
    );
    let last = |run: &str| std::fs::read(RunFolder::new(root.join(run)).last()).unwrap();
    assert!(last("free") == last("tight"));
    // A run may be resumed under another one.
    let again = ClassifyConfig {
        memory_budget: Some(Bytes(1 << 40)),
        ..ClassifyConfig::default()
    };
    assert!(run(root, "tight", &again, RESUME).unwrap().was_complete);
}

/// The tensors of the checkpoint that a run began with.
fn start_of(run: &Path) -> std::collections::BTreeMap<String, voxseg::tensor::HostTensor> {
    checkpoint::load(&RunFolder::new(run).start())
        .unwrap()
        .tensors
}

#[test]
fn weights_of_others_are_taken_but_for_a_head_of_other_classes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_shapes(&root.join("data"), 3, 1);
    let short = ClassifyConfig {
        steps: Some(1),
        ..config()
    };
    run(root, "one", &short, NEW).unwrap();
    let source = root.join("one");
    let from = ClassifyOptions {
        from: Some(&source),
        ..NEW
    };
    run(root, "same", &short, from).unwrap();
    let trained = checkpoint::load(&RunFolder::new(&source).last())
        .unwrap()
        .tensors;
    let taken = start_of(&root.join("same"));
    assert!(
        taken.contains_key("classifier.weight"),
        "{:?}",
        taken.keys()
    );
    assert!(taken.iter().all(|(name, tensor)| trained[name] == *tensor));

    // Two classes instead of three.
    std::fs::remove_dir_all(root.join("data/bars")).unwrap();
    let heard = std::sync::Mutex::new(String::new());
    let hear = |event| {
        if let Event::News(text) = event {
            *heard.lock().unwrap() = text;
        }
    };
    let (data, two) = (root.join("data"), RunFolder::new(root.join("two")));
    pollster::block_on(train(&data, &two, &short, from, gpu(), &hear)).unwrap();
    let heard = heard.into_inner().unwrap();
    assert!(heard.contains("left at their start"), "{heard}");
    assert!(heard.contains("classifier.weight"), "{heard}");
    let taken_of_two = start_of(two.root());
    assert_eq!(taken_of_two.len() + 2, taken.len());

    // Another network has next to nothing of the same name.
    let other = ClassifyConfig {
        model: "mobilenet_v2".to_owned(),
        ..short
    };
    let error = run(root, "misfit", &other, from).unwrap_err();
    assert!(!root.join("misfit").exists());
    let file = RunFolder::new(&source).last();
    let from_file = ClassifyOptions {
        from: Some(&file),
        ..NEW
    };
    // A checkpoint is no state dict: it has the state of the optimiser as well.
    let of_file = run(root, "misfit", &other, from_file).unwrap_err();
    assert!(of_file.to_string().contains("unexpected"), "{of_file}");
    let message = error.to_string();
    assert!(
        message.contains("missing") && error.is_users_fault(),
        "{message}"
    );
    assert!(!root.join("misfit").exists());
}
