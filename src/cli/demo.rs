//! `voxseg demo`: makes a labelled data set, trains, predicts, evaluates and draws a picture.

use std::path::{Path, PathBuf};

use clap::Args;

use super::watch::{Watch, Words};
use super::{CliError, Common, Output};
use crate::dataset::synthetic::{SyntheticConfig, write_synthetic_dataset};
use crate::dataset::{Dataset, is_picture};
use crate::gpu::Gpu;
use crate::infer::{InferenceOptions, Model, Weights};
use crate::metrics::{Convention, Grid, Settings};
use crate::report::evaluated::{EvaluatedCases, PredictedCase, write_evaluation};
use crate::run::{RunFolder, classes_of};
use crate::train::{Fold, TrainConfig, TrainOptions, train};
use crate::volume::{read_image, read_labels, write_labels};

/// Arguments of `voxseg demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg demo
  voxseg demo -o demo --steps 200 --seed 3

Called again with the same flags it goes on where it was stopped.")]
pub struct DemoArgs {
    /// Folder for the data set, the run, the predictions and the picture.
    #[arg(short, long, value_name = "OUT", default_value = "voxseg-demo")]
    pub output: PathBuf,
    /// Optimiser steps.
    #[arg(long, value_name = "N", default_value_t = STEPS)]
    pub steps: usize,
    /// Seed of the data, the weights and every random choice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// About six minutes on 2 free CPU cores; what they reach stands in docs/results.md.
const STEPS: usize = 640;

/// One patch a step and twice the steps: in the same time the network learns more than from two, and the vessel needs
/// the steps.
const BATCH: usize = 1;

/// The size of the typical scan: what the planner would pad a scan to costs half as much again and shows no more.
const PATCH: [usize; 3] = [32, 64, 64];

/// Test cases in the picture: all of them.
const PICTURED: usize = usize::MAX;

/// Runs the verb.
///
/// # Errors
/// Those of writing, training and predicting.
pub fn run(args: &DemoArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    let config = SyntheticConfig {
        seed: args.seed,
        ..SyntheticConfig::default()
    };
    if args.output.is_file() {
        let problem = "is a file; the demo needs a folder of its own, give another name";
        return Err(CliError::input(&args.output, problem));
    }
    refuse_other_run(args)?;
    output.news("making a labelled data set");
    let data = write_synthetic_dataset(&args.output, &config)?;
    let gpu = pollster::block_on(Gpu::open(&common.gpu_options()))?;
    output.news(&format!("adapter: {}", gpu.describe()));
    let folder = RunFolder::new(args.output.join("run"));
    let config = configuration(args);
    let watch = Watch::new(output, Words::VOLUMES);
    let hear = |event| watch.hear(event);
    let options = TrainOptions {
        resume: true,
        ..TrainOptions::default()
    };
    let training = train(&data.folder, &folder, &config, options, gpu.clone(), &hear);
    pollster::block_on(training)?;
    watch.finish();
    let model = Model::load(folder.root(), Weights::Final, gpu)?;
    let cases = predict_tests(&model, &data.folder, &args.output, output)?;
    let picture = args.output.join("demo.png");
    cases.write_picture(&picture)?;
    let evaluation = cases.evaluation()?;
    let path = args.output.join("evaluation.json");
    write_evaluation(&path, &evaluation).map_err(|e| CliError::written(&path, e))?;
    let dice = evaluation.mean(Convention::FailureCounts).dice;
    let text = format!(
        "{}\nmean foreground Dice {dice:.4} on {} cases that it did not train on, picture in {}",
        evaluation.to_text().trim_end(),
        evaluation.cases().len(),
        picture.display()
    );
    output.result(&text, &evaluation.to_json())
}

/// Refuses a folder whose run has another seed or length: it would go on as it began, and be judged on other data.
fn refuse_other_run(args: &DemoArgs) -> Result<(), CliError> {
    let path = RunFolder::new(args.output.join("run")).config();
    if !path.exists() {
        return Ok(());
    }
    let found = TrainConfig::read(&path)?;
    let steps = found.schedule.steps.unwrap_or(STEPS);
    if (found.seed, steps) == (args.seed, args.steps) {
        return Ok(());
    }
    let problem = format!(
        "holds a demo of --seed {} --steps {steps}, not of --seed {} --steps {}; give the flags it was begun with to go on, or another folder (-o)",
        found.seed, args.seed, args.steps
    );
    Err(CliError::input(&args.output, problem))
}

/// All training cases train: the test cases are held out already.
fn configuration(args: &DemoArgs) -> TrainConfig {
    let mut config = TrainConfig {
        seed: args.seed,
        fold: Fold::All,
        ..TrainConfig::default()
    };
    config.schedule.steps = Some(args.steps);
    config.batch.patch = Some(PATCH);
    config.batch.size = Some(BATCH);
    config
}

fn predict_tests(
    model: &Model,
    data: &Path,
    folder: &Path,
    output: &Output,
) -> Result<EvaluatedCases, CliError> {
    let labels = &model.plan().labels;
    let settings = Settings::new(classes_of(labels))?.with_ignore(labels.ignore);
    let mut cases = EvaluatedCases::new(settings, PICTURED);
    let dataset = Dataset::open(data)?;
    let bar = output.progress(dataset.test.len() as u64, 0, "cases");
    for case in &dataset.test {
        let options = InferenceOptions::default();
        let found = pollster::block_on(model.segment(case, &options, &mut |_, _| ()))?;
        let name = format!("{}{}", case.id, model.plan().file_ending);
        write_labels(folder.join("predictions").join(&name), &found)?;
        let truth = read_labels(data.join("labelsTs").join(&name))?;
        cases.add(PredictedCase {
            name: case.id.clone(),
            image: read_image(&case.images[0])?.into_parts().1,
            grid: Grid::new(truth.shape(), truth.geometry().spacing())?,
            truth: truth.into_parts().1,
            prediction: found.into_parts().1,
            rows_upwards: !is_picture(&model.plan().file_ending),
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(cases)
}
