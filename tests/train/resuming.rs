//! Runs that were ended and go on.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::run::RunFolder;
use voxseg::run::checkpoint::{self, CheckpointError};
use voxseg::train::{Event, TrainConfig, TrainError, TrainOptions, train};

use crate::phantom::{Phantom, quick};
use crate::{assert_same, folder_with, gpu, run, train_with};

const RESUME: TrainOptions<'_> = TrainOptions {
    resume: true,
    from: None,
    weights: None,
    profile: false,
    tune: false,
    stop: None,
};

/// Starts `voxseg train` in the folder: from the beginning where there is nothing yet, else from where it was.
fn start(folder: &Path, run: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxseg"));
    command
        .args(["train", "data", "-o", run])
        .current_dir(folder);
    match folder.join(run).join("config.toml").exists() {
        true => command.arg("--resume"),
        false => command.args(["--config", "config.toml"]),
    };
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null());
    silent
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts")
}

fn logged_lines(run: &Path) -> usize {
    std::fs::read_to_string(run.join("log.jsonl")).map_or(0, |log| log.lines().count())
}

/// Waits until the log of the run has `lines` lines, or the run has ended.
fn wait_for_lines(child: &mut Child, run: &Path, lines: usize) {
    let patience = Instant::now() + Duration::from_secs(120);
    while logged_lines(run) < lines && child.try_wait().expect("a child").is_none() {
        assert!(
            Instant::now() < patience,
            "no line {lines} after two minutes"
        );
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_run_killed_at_random_moments_ends_as_if_it_never_had_been() {
    const STEPS: usize = 24;
    let folder = folder_with(&Phantom::balls(5));
    let root = folder.path();
    // With dropout, so that its masks must be drawn again as well.
    let config = format!("{}dropout = 0.1\n", quick(STEPS));
    std::fs::write(root.join("config.toml"), config).unwrap();
    assert!(start(root, "whole").wait().unwrap().success());

    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let killed = root.join("killed");
    let mut caught = 0;
    // The first two hit the start and the preparation, the others steps, validations and checkpoints.
    for attempt in 0..7 {
        let mut child = start(root, "killed");
        if attempt >= 2 {
            wait_for_lines(&mut child, &killed, 4 * (attempt - 1));
        }
        sleep(Duration::from_millis(rng.random_range(0..120)));
        caught += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        caught >= 4,
        "only {caught} of 7 runs were still going when they were killed"
    );
    assert!(start(root, "killed").wait().unwrap().success());
    assert_same(&root.join("whole"), &killed);
    let left = std::fs::read_dir(&killed).unwrap();
    let left = left.filter(|e| voxseg::fsio::is_temporary(&e.as_ref().unwrap().file_name()));
    assert_eq!(left.count(), 0, "temporary files were left behind");
}

#[test]
fn a_killed_run_in_f16_goes_on_with_the_scale_of_its_loss() {
    const STEPS: usize = 12;
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    let config = format!("precision = \"f16\"\n{}", quick(STEPS));
    std::fs::write(root.join("config.toml"), config).unwrap();
    assert!(start(root, "whole").wait().unwrap().success());
    let killed = root.join("killed");
    let mut child = start(root, "killed");
    wait_for_lines(&mut child, &killed, 5);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(logged_lines(&killed) < STEPS, "it was not killed in time");
    assert!(start(root, "killed").wait().unwrap().success());
    assert_same(&root.join("whole"), &killed);
    let stored = checkpoint::load(&RunFolder::new(&killed).last()).unwrap();
    assert!(stored.tensors["loss_scale.scale"].data[0] > 0.0);
    assert!(stored.tensors["loss_scale.steps"].data[0] <= STEPS as f32);
}

#[test]
fn a_run_asked_to_stop_anywhere_ends_as_if_it_never_had_been() {
    const STEPS: usize = 12;
    let folder = folder_with(&Phantom::balls(5));
    let root = folder.path();
    run(root, "whole", &quick(STEPS)).unwrap();
    // Before the first step, between checkpoints, at one, at a validation, and in the last step.
    for last in [0, 3, 6, 8, 11] {
        let stopped = RunFolder::new(root.join(format!("stopped {last}")));
        let stop = AtomicBool::new(last == 0);
        let options = TrainOptions {
            stop: Some(&stop),
            ..TrainOptions::default()
        };
        let config: TrainConfig = toml::from_str(&quick(STEPS)).unwrap();
        let hear = |event: Event| {
            if let Event::Step(line) = event
                && line.step() as usize == last
            {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let data = root.join("data");
        let first = train(&data, &stopped, &config, options, gpu(), &hear);
        match pollster::block_on(first) {
            // The step after may have been handed in already.
            Err(TrainError::Stopped { step }) => {
                assert!((last..=last + 2).contains(&step), "{step}")
            }
            other => panic!("{last}: {other:?}"),
        }
        train_with(root, &format!("stopped {last}"), "", RESUME).unwrap();
        assert_same(&root.join("whole"), stopped.root());
    }
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "one", &quick(4)).unwrap();
    run(root, "two", &quick(4)).unwrap();
    train_with(root, "two", "", RESUME).unwrap();
    assert_same(&root.join("one"), &root.join("two"));
}

#[test]
fn another_configuration_is_refused() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "run", &quick(4)).unwrap();
    let path = root.join("run/config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("seed = 0", "seed = 5")).unwrap();
    let error = train_with(root, "run", "", RESUME).unwrap_err();
    let other = matches!(
        error,
        TrainError::Checkpoint(CheckpointError::OtherConfiguration { .. })
    );
    assert!(other && error.is_users_fault(), "{error}");
    assert!(error.to_string().contains("checkpoint_latest"), "{error}");
}

#[test]
fn other_cases_are_refused() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "run", &format!("fold = \"all\"\n{}", quick(4))).unwrap();
    Phantom::balls(4).write(&root.join("data"));
    let error = train_with(root, "run", "", RESUME).unwrap_err();
    assert!(error.is_users_fault(), "{error}");
    assert!(error.to_string().contains("other cases"), "{error}");
}

#[test]
fn cases_of_other_content_are_refused_and_touched_ones_are_not() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "run", &format!("fold = \"all\"\n{}", quick(4))).unwrap();
    let label = root.join("data/labelsTr/ball1.nii");
    let whole = std::fs::read(&label).unwrap();
    std::fs::write(&label, &whole).unwrap();
    train_with(root, "run", "", RESUME).unwrap();

    let mut changed = whole.clone();
    let last = changed.last_mut().unwrap();
    *last = 1 - *last;
    std::fs::write(&label, changed).unwrap();
    let error = train_with(root, "run", "", RESUME).unwrap_err();
    assert!(error.is_users_fault(), "{error}");
    assert!(error.to_string().contains("other cases"), "{error}");
    std::fs::write(&label, whole).unwrap();
    train_with(root, "run", "", RESUME).unwrap();
}

#[test]
fn a_run_that_was_killed_before_it_had_a_plan_keeps_its_configuration() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "whole", &quick(4)).unwrap();
    for had_a_plan in [false, true] {
        let name = format!("killed {had_a_plan}");
        let killed = root.join(&name);
        std::fs::create_dir(&killed).unwrap();
        std::fs::write(killed.join("config.toml"), quick(4)).unwrap();
        if had_a_plan {
            std::fs::copy(root.join("whole/plan.json"), killed.join("plan.json")).unwrap();
        }
        train_with(root, &name, "", RESUME).unwrap();
        assert_same(&root.join("whole"), &killed);
    }
}

#[test]
fn damaged_and_foreign_checkpoints_are_refused() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "run", &quick(4)).unwrap();
    let path = root.join("run/checkpoint_latest.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let mut lying = whole.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let foreign = [&14_u64.to_le_bytes()[..], b"{\"a\":\"no such\"}"].concat();
    let damaged: [&[u8]; 7] = [
        b"",
        &whole[..5],
        &whole[..200],
        &whole[..whole.len() - 4],
        &lying,
        &foreign,
        b"\x02\0\0\0\0\0\0\0{}",
    ];
    for content in damaged {
        std::fs::write(&path, content).unwrap();
        let error = train_with(root, "run", "", RESUME).unwrap_err();
        let corrupt = matches!(
            error,
            TrainError::Checkpoint(CheckpointError::Corrupt { .. })
        );
        assert!(corrupt && error.is_users_fault(), "{error}");
        assert!(error.to_string().contains("checkpoint_latest"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    std::fs::write(&path, whole).unwrap();
    train_with(root, "run", "", RESUME).unwrap();
}
