//! Runs that begin with the plan and the weights of another.

use std::path::Path;

use serde_json::json;
use voxseg::dataset::Plan;
use voxseg::run::{RunFolder, checkpoint, plan_tensors};
use voxseg::train::TrainOptions;
use voxseg::weights::save_safetensors;

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

/// The parameters of the network in `run`, written for PyTorch.
fn export(run: &RunFolder, path: &Path) {
    export_only(run, path, |_| true);
}

/// Those of them that `is_kept` names.
fn export_only(run: &RunFolder, path: &Path, is_kept: impl Fn(&str) -> bool) {
    let plan = Plan::read(&run.plan()).unwrap();
    let wanted = plan_tensors(&plan).unwrap();
    let mut tensors = checkpoint::load(&run.last())
        .unwrap()
        .only(&wanted)
        .unwrap();
    tensors.retain(|name, _| is_kept(name));
    save_safetensors(path, &tensors, &wanted, false).unwrap();
}

/// The largest difference between the tensors of two runs that `is_meant` names.
fn difference(runs: [&RunFolder; 2], is_meant: impl Fn(&str) -> bool) -> f32 {
    let [a, b] = runs.map(|run| {
        let wanted = plan_tensors(&Plan::read(&run.plan()).unwrap()).unwrap();
        checkpoint::load(&run.last())
            .unwrap()
            .only(&wanted)
            .unwrap()
    });
    let meant = a.iter().filter(|(name, _)| is_meant(name));
    meant.fold(0.0, |worst, (name, tensor)| {
        let pairs = tensor.data.iter().zip(&b[name].data);
        pairs.fold(worst, |m, (x, y)| m.max((x - y).abs()))
    })
}

#[test]
fn a_run_begins_with_weights_of_others_but_for_heads_of_other_classes() {
    let folder = folder_with(&Phantom::balls(3));
    let learning = format!("fold = \"all\"\n{}", quick(6));
    run(folder.path(), "first", &learning).unwrap();
    let first = RunFolder::new(folder.path().join("first"));
    let file = folder.path().join("weights.safetensors");
    export(&first, &file);
    let options = TrainOptions {
        weights: Some(&file),
        ..TrainOptions::default()
    };
    let shape = quick(2);
    let still = format!("{STILL}{}", &shape[shape.find("[batch]").unwrap()..]);
    train_with(folder.path(), "second", &still, options).unwrap();
    let second = RunFolder::new(folder.path().join("second"));
    assert!(difference([&first, &second], |_| true) < 1e-12);

    let more = folder_with(&Phantom {
        labels: json!({"background": 0, "ball": 1, "core": 2}),
        label: |ring, _| ring,
        ..Phantom::balls(3)
    });
    train_with(more.path(), "third", &still, options).unwrap();
    let third = RunFolder::new(more.path().join("third"));
    let is_head = |name: &str| name.contains("seg_layers");
    assert!(difference([&first, &third], |name| !is_head(name)) < 1e-12);
    assert!(difference([&first, &third], is_head) > 1e-3);

    let wider = still.replace("base_features = 4", "base_features = 6");
    let error = train_with(folder.path(), "fourth", &wider, options).unwrap_err();
    assert!(error.is_users_fault(), "{error}");
    let text = error.to_string();
    for words in ["weights.safetensors", "misshapen", "decoder.stages.1"] {
        assert!(text.contains(words), "no `{words}` in {text}");
    }
}

#[test]
fn heads_for_training_alone_may_be_missing() {
    let folder = folder_with(&Phantom::balls(3));
    let learning = format!("fold = \"all\"\n{}", quick(6));
    run(folder.path(), "first", &learning).unwrap();
    let first = RunFolder::new(folder.path().join("first"));
    // The coarsest head counts nothing and stays as its seed made it.
    let still = format!(
        "seed = 5\n{STILL}{}",
        &learning[learning.find("[batch]").unwrap()..]
    );
    let file = folder.path().join("weights.safetensors");
    let begin = |name: &str, is_kept: &dyn Fn(&str) -> bool| {
        export_only(&first, &file, is_kept);
        let options = TrainOptions {
            weights: Some(&file),
            ..TrainOptions::default()
        };
        train_with(folder.path(), name, &still, options)
    };
    let is_coarse = |name: &str| name.contains("seg_layers.0.");
    begin("second", &|name| !is_coarse(name)).unwrap();
    let second = RunFolder::new(folder.path().join("second"));
    assert!(difference([&first, &second], |name| !is_coarse(name)) < 1e-12);
    assert!(difference([&first, &second], is_coarse) > 1e-3);

    for lacking in ["seg_layers.0.weight", "seg_layers.1."] {
        let error = begin("third", &|name| !name.contains(lacking)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("missing") && text.contains(lacking), "{text}");
    }
}
