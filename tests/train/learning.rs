//! A network learns what it is shown, and says so when it cannot.

use voxseg::dataset::Dataset;
use voxseg::infer::{InferenceOptions, Model, Weights};
use voxseg::run::{RunFolder, checkpoint};
use voxseg::tensor::Element;
use voxseg::train::{Event, LogLine, TrainError, TrainOptions, train};
use voxseg::volume::read_labels;

use crate::phantom::{Phantom, quick};
use crate::{folder_with, gpu, run};

const LEARN_BY_HEART: &str = "fold = \"all\"\n[learning_rate]\nkind = \"constant\"\ninitial = 0.02\n\
    [optimizer]\nkind = \"sgd\"\nmomentum = 0.9\nnesterov = true\nweight_decay = 0.0\nmax_norm = 12.0\n";

#[test]
fn a_small_network_learns_two_volumes_by_heart() {
    learns_by_heart(Element::F32);
}

#[test]
fn it_learns_them_as_well_with_activations_in_f16() {
    learns_by_heart(Element::F16);
}

fn learns_by_heart(precision: Element) {
    let folder = folder_with(&Phantom::balls(2));
    let config = format!("precision = \"{precision}\"\n{LEARN_BY_HEART}{}", quick(60));
    let config = config.replace("every = 2", "every = 30");
    let report = run(folder.path(), "run", &config).unwrap();
    let losses: Vec<f64> = report.log.iter().filter_map(|l| l.record().loss).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[55..]));
    assert!(last < first - 0.5, "the loss went from {first} to {last}");
    assert!(report.validation.is_none());

    let run = folder.path().join("run");
    let model = Model::load_as(&run, Weights::Final, precision, gpu()).unwrap();
    let dataset = Dataset::open(folder.path().join("data")).unwrap();
    for case in &dataset.training {
        let options = InferenceOptions::default();
        let found = pollster::block_on(model.segment(case, &options, &mut |_, _| ())).unwrap();
        let truth = read_labels(case.label.as_ref().unwrap()).unwrap();
        assert_eq!(found.geometry(), truth.geometry());
        let dice = dice(found.labels(), truth.labels());
        println!("{precision}: Dice of {} {dice:.4}", case.id);
        assert!(dice > 0.85, "Dice of {} is {dice}", case.id);
    }
}

fn dice(found: &[u32], truth: &[u32]) -> f64 {
    let both = found
        .iter()
        .zip(truth)
        .filter(|(f, t)| **f == 1 && **t == 1);
    let ones = |labels: &[u32]| labels.iter().filter(|&&l| l == 1).count();
    2.0 * both.count() as f64 / (ones(found) + ones(truth)) as f64
}

#[test]
fn a_run_tells_how_many_cases_it_has_inspected() {
    let folder = folder_with(&Phantom::balls(3));
    let heard = std::sync::Mutex::new(Vec::new());
    let hear = |event| {
        if let Event::Inspected(done, of) = event {
            heard.lock().unwrap().push((done, of));
        }
    };
    let (data, run) = (
        folder.path().join("data"),
        RunFolder::new(folder.path().join("run")),
    );
    let config = toml::from_str(&quick(1)).unwrap();
    let options = TrainOptions::default();
    pollster::block_on(train(&data, &run, &config, options, gpu(), &hear)).unwrap();
    assert_eq!(heard.into_inner().unwrap(), [(1, 3), (2, 3), (3, 3)]);
}

/// A configuration whose first step throws the weights so far that no later one has a finite loss.
fn absurd(steps: usize) -> String {
    format!(
        "fold = \"all\"\nlearning_rate = {{ kind = \"constant\", initial = 1e30 }}\n{}norm = \"batch\"\n",
        quick(steps).replace("checkpoint_every = 2", "checkpoint_every = 1")
    )
}

#[test]
fn a_run_whose_last_steps_are_not_finite_ends_and_keeps_what_it_has() {
    let folder = folder_with(&Phantom::balls(2));
    run(folder.path(), "run", &absurd(4)).unwrap();
    let last = RunFolder::new(folder.path().join("run")).last();
    let last = checkpoint::load(&last).unwrap();
    assert_eq!(last.info.step, 4);
    for (name, tensor) in &last.tensors {
        assert!(tensor.data.iter().all(|v| v.is_finite()), "{name}");
    }
    let log = std::fs::read_to_string(folder.path().join("run/log.jsonl")).unwrap();
    let line: LogLine = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(line.record().loss, None);
}

#[test]
fn an_absurd_learning_rate_ends_the_run_and_says_what_to_do() {
    let folder = folder_with(&Phantom::balls(2));
    let error = run(folder.path(), "run", &absurd(60)).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    assert!(error.is_users_fault());
    let message = error.to_string();
    assert!(message.contains("learning_rate.initial"), "{message}");
    let log = std::fs::read_to_string(folder.path().join("run/log.jsonl")).unwrap();
    let lines: Vec<LogLine> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.last().unwrap().record().loss, None);

    let bad = |line: &&LogLine| match line {
        LogLine::Step {
            loss,
            gradient_norm,
            ..
        } => loss.is_none() || gradient_norm.is_none(),
        LogLine::Validation { .. } | LogLine::Classified { .. } => false,
    };
    let first_bad = lines.iter().find(bad).unwrap().step() as usize;
    let latest = RunFolder::new(folder.path().join("run")).latest();
    let latest = checkpoint::load(&latest).unwrap();
    assert_eq!(latest.info.step, first_bad - 1);
    for (name, tensor) in &latest.tensors {
        assert!(tensor.data.iter().all(|v| v.is_finite()), "{name}");
    }
}
