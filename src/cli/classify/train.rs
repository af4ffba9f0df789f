//! `voxseg classify train`: a classifier from folders of images.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, Common, Output};
use crate::classify::{
    CLASSIFY_EXAMPLE, ClassifyConfig, ClassifyOptions, ClassifyReport, Scores, train,
};
use crate::cli::numbers::PatchExtent;
use crate::cli::runs::Trained;
use crate::cli::training::{Given, TrainingFlags};
use crate::cli::watch::Words;
use crate::run::RunFolder;
use crate::table::{Align, Table};
use crate::train::LogLine;

/// Examples of the command line.
const EXAMPLES: &str = "\
Examples:
  voxseg classify train skin -o runs/skin
  voxseg classify train skin -o runs/skin --resume
  voxseg classify train skin.csv -o runs/skin --validation later.csv --size 160,160 --steps 5000
  voxseg classify train skin -o runs/tuned --from mobilenet_v3_small.pth --learning-rate 3e-4
  voxseg classify train skin -o runs/skin --config skin.toml

DATA is a folder with a folder of images (PNG, TIFF or NIfTI slices; not JPEG) for each class, or such folders in DATA/train and \
DATA/val, or a CSV file with the columns image,label, its paths relative to the file. Without --validation or DATA/val \
a fifth of each class is held out.

A run sees each image 30 times, in 600 steps at least, unless --steps says otherwise; a step takes 64 images, on an \
adapter that computes on the CPU 16.

A run folder holds config.toml, classifier.json (network, classes, size, mean and deviation), split.json, log.jsonl, the \
checkpoints, progress.svg and validation.json (accuracy, each class, confusion matrix, each image).

Ctrl-C ends after the step with a checkpoint; --resume goes on as if the run had never been ended.";

/// Arguments of `voxseg classify train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\nKeys of --config (TOML):\n\n{CLASSIFY_EXAMPLE}"))]
pub struct TrainArgs {
    /// Folder of class folders, or CSV file.
    pub data: PathBuf,
    #[command(flatten)]
    pub training: TrainingFlags,
    /// The network, a classifier of `voxseg models` [default: mobilenet_v3_small].
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub model: Option<String>,
    /// Pixels that images are resized to [default: those of the largest image, at most the network's published extent; that
    /// itself for networks whose weights belong to it (ViT, MLP-Mixer, Wang's)].
    #[arg(
        long,
        value_name = "H,W",
        allow_hyphen_values = true,
        conflicts_with = "resume"
    )]
    pub size: Option<PatchExtent>,
    /// Images to hold out: a folder of class folders or a CSV file.
    #[arg(long, value_name = "DATA")]
    pub validation: Option<PathBuf>,
    /// Begin with weights of others (.pth, .safetensors) or of another run: what fits by name and shape is taken, a head of
    /// other classes starts anew.
    #[arg(long, value_name = "FILE|RUN", conflicts_with = "resume")]
    pub from: Option<PathBuf>,
    /// Largest learning rate, of AdamW [default: 0.001].
    #[arg(
        long,
        value_name = "RATE",
        allow_negative_numbers = true,
        conflicts_with = "resume"
    )]
    pub learning_rate: Option<f64>,
    /// Share of the truth that is spread evenly over all classes; 0.1 is usual with many classes [default: 0].
    #[arg(
        long,
        value_name = "SHARE",
        allow_negative_numbers = true,
        conflicts_with = "resume"
    )]
    pub label_smoothing: Option<f32>,
    /// Do not mirror images left to right: where the side matters.
    #[arg(long, conflicts_with = "resume")]
    pub no_mirror: bool,
}

impl TrainArgs {
    fn configuration(&self) -> Result<ClassifyConfig, CliError> {
        let flags = &self.training;
        let mut config = match &flags.config {
            Some(path) => ClassifyConfig::read(path)?,
            None => ClassifyConfig::default(),
        };
        config.size = match self.size {
            None => config.size,
            Some(PatchExtent::Plane(size)) => Some(size),
            Some(PatchExtent::Volume(_)) => {
                let message = "--size takes two numbers, H,W: classifiers are for pictures";
                return Err(CliError::Usage(message.to_owned()));
            }
        };
        config.model = self.model.clone().unwrap_or(config.model);
        config.seed = flags.seed.unwrap_or(config.seed);
        config.memory_budget = flags.memory_budget.or(config.memory_budget);
        config.precision = flags.precision.unwrap_or(config.precision);
        config.steps = flags.steps.or(config.steps);
        config.batch = flags.batch.or(config.batch);
        config.mirror &= !self.no_mirror;
        config.label_smoothing = self.label_smoothing.unwrap_or(config.label_smoothing);
        config.validation = self.validation.clone().or(config.validation);
        if let Some(rate) = self.learning_rate {
            config.peak_learning_rate = Some(rate);
            config.learning_rate = None;
        }
        config.check()?;
        Ok(config)
    }
}

/// Refuses to go on from a run that `voxseg train` made.
fn check_resumed(flags: &TrainingFlags) -> Result<(), CliError> {
    let run = &flags.output;
    if flags.resume && matches!(Trained::at(run, "a run"), Ok(Trained::Segmenter(_))) {
        let problem = "is the run of a network that segments; go on with `voxseg train DATASET -o RUN --resume`";
        return Err(CliError::input(run, problem));
    }
    Ok(())
}

/// Runs the verb.
///
/// # Errors
/// Those of [`train`].
pub fn run(args: &TrainArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    let flags = &args.training;
    flags.check_output()?;
    check_resumed(flags)?;
    let config = args.configuration()?;
    let train = |given: Given<'_>| {
        let options = ClassifyOptions {
            resume: flags.resume,
            tune: flags.tune,
            profile: flags.profile,
            from: args.from.as_deref(),
            stop: Some(given.stop),
        };
        let Given {
            folder,
            gpu,
            observe,
            ..
        } = given;
        let training = train(&args.data, folder, &config, options, gpu, observe);
        pollster::block_on(training)
    };
    let (folder, report, profile) = flags.run((common, output, Words::IMAGES), train)?;
    let (text, mut document) = describe(&folder, &report);
    if let Some(profile) = profile {
        document["profile"] = json!(profile);
    }
    output.result(&text, &document)
}

fn describe(folder: &RunFolder, report: &ClassifyReport) -> (String, Value) {
    let steps = report.log.iter().map(LogLine::step).max().unwrap_or(0);
    let mut document = json!({
        "run": folder.root().display().to_string(),
        "steps": steps,
        "checkpoint": folder.last().display().to_string(),
        "memory": report.memory,
        "classes": report.classes,
        "complete": report.was_complete,
    });
    let mut text = format!("{steps} steps, weights in {}", folder.last().display());
    if report.was_complete {
        text = format!(
            "{} was complete already: {text}. For more steps start a new run with --steps, or go on from it with --from",
            folder.root().display()
        );
    }
    if let Some(scores) = &report.validation {
        document["validation"] = scores.to_json(&report.classes);
        text = format!(
            "{}\n{text}\n{}, all of it in {}",
            table(scores, &report.classes).trim_end(),
            summary(scores),
            folder.validation().display()
        );
    }
    (text, document)
}

fn summary(scores: &Scores) -> String {
    let top5 = scores.top5();
    let top5 = top5.map_or(String::new(), |share| {
        format!(", among the first five {share:.4}")
    });
    format!(
        "validation accuracy {:.4}{top5} on {} images",
        scores.accuracy(),
        scores.images()
    )
}

/// The classes with their images and the share of them that is found.
fn table(scores: &Scores, classes: &[String]) -> String {
    let mut table = Table::new(&[
        ("class", Align::Left),
        ("images", Align::Right),
        ("accuracy", Align::Right),
    ]);
    for (class, name) in classes.iter().enumerate() {
        let share = scores.of_class(class);
        table.row([
            name.clone(),
            scores.images_of(class).to_string(),
            share.map_or("-".to_owned(), |share| format!("{share:.4}")),
        ]);
    }
    table.to_string()
}
