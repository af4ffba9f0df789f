//! Runs that begin with the plan and the weights of another.

use std::path::Path;

use serde_json::json;
use voxseg::run::{RunFolder, checkpoint, plan_tensors};
use voxseg::train::TrainOptions;

use crate::phantom::{Phantom, quick};
use crate::{folder_with, run, train_with};

/// No validation, and steps that are too short for f32 to see.
const STILL: &str = "fold = \"all\"\nlearning_rate = { kind = \"constant\", initial = 1e-30 }\n[schedule]\nsteps = 2\n";

fn from(path: &Path) -> TrainOptions<'_> {
    TrainOptions {
        from: Some(path),
        ..TrainOptions::default()
    }
}

#[test]
fn a_run_goes_on_from_the_weights_of_another() {
    let folder = folder_with(&Phantom::balls(3));
    run(
        folder.path(),
        "first",
        &format!("fold = \"all\"\n{}", quick(6)),
    )
    .unwrap();
    let first = RunFolder::new(folder.path().join("first"));
    let config = format!("{STILL}[batch]\nsize = 1\npatch = [8, 16, 24]\n");
    train_with(folder.path(), "second", &config, from(first.root())).unwrap();
    let second = RunFolder::new(folder.path().join("second"));

    let trained = voxseg::dataset::Plan::read(&first.plan()).unwrap();
    let plan = voxseg::dataset::Plan::read(&second.plan()).unwrap();
    assert_eq!((plan.batch, plan.patch), (1, [8, 16, 24]));
    assert_eq!(plan.topology, trained.topology);
    let [before, after] = [&first, &second].map(|run| {
        let found = checkpoint::load(&run.last()).unwrap();
        found.only(&plan_tensors(&plan).unwrap()).unwrap()
    });
    for (name, tensor) in &before {
        let pairs = tensor.data.iter().zip(&after[name].data);
        let worst = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 1e-12, "{name}: {worst}");
    }
    assert_eq!(checkpoint::load(&second.last()).unwrap().info.step, 2);

    // Its own folder is enough to resume it.
    std::fs::remove_file(second.latest()).unwrap();
    std::fs::remove_dir_all(first.root()).unwrap();
    let resume = TrainOptions {
        resume: true,
        ..TrainOptions::default()
    };
    train_with(folder.path(), "second", "", resume).unwrap();
    let again = checkpoint::load(&second.last()).unwrap();
    assert_eq!(again.only(&plan_tensors(&plan).unwrap()).unwrap(), after);
}

#[test]
fn what_does_not_go_with_the_other_run_is_refused() {
    let folder = folder_with(&Phantom::balls(3));
    let first = folder.path().join("first");
    run(
        folder.path(),
        "first",
        &format!("fold = \"all\"\n{}", quick(2)),
    )
    .unwrap();
    for (config, words) in [
        ("[network]\nbase_features = 8\n", "network"),
        ("[batch]\nspacing = [1.0, 1.0, 1.0]\n", "batch.spacing"),
        ("[batch]\npatch = [7, 16, 16]\n", "batch.patch"),
    ] {
        let config = format!("{STILL}{config}");
        let error = train_with(folder.path(), "second", &config, from(&first)).unwrap_err();
        assert!(
            error.is_users_fault() && error.to_string().contains(words),
            "{error}"
        );
    }
    let nowhere = folder.path().join("nowhere");
    let error = train_with(folder.path(), "second", STILL, from(&nowhere)).unwrap_err();
    assert!(error.to_string().contains("plan.json"), "{error}");

    let other = Phantom {
        labels: json!({"background": 0, "sphere": 1}),
        ..Phantom::balls(3)
    };
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    other.write(&folder.path().join("data"));
    let error = train_with(folder.path(), "second", STILL, from(&first)).unwrap_err();
    assert!(error.to_string().contains("sphere"), "{error}");
    assert!(!folder.path().join("second").exists());
}
