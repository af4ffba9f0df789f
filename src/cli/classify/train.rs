//! `voxseg classify train`: a classifier from folders of images.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, Common, Output};
use crate::classify::{
    ClassifyConfig, ClassifyOptions, ClassifyReport, DEFAULT_MODEL, Scores, train,
};
use crate::cli::interrupt::Interrupt;
use crate::cli::numbers::{PatchExtent, at_least_one};
use crate::cli::watch::{Watch, Words};
use crate::gpu::Gpu;
use crate::run::RunFolder;
use crate::table::{Align, Table};
use crate::train::{Event, LogLine, TrainError};

/// Arguments of `voxseg classify train`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg classify train skin -o runs/skin
  voxseg classify train skin -o runs/skin --resume
  voxseg classify train skin.csv -o runs/skin --validation later.csv --size 160,160 --steps 5000
  voxseg classify train skin -o runs/tuned --from mobilenet_v3_small.pth --learning-rate 3e-4

DATA is a folder with a folder of images (PNG, TIFF, NIfTI slices) for each class, or such folders in DATA/train and
DATA/val, or a CSV file with the columns image,label, its paths relative to the file. Without --validation or DATA/val
a fifth of each class is held out.

A run folder holds config.toml, classifier.json (network, classes, size, mean and deviation), split.json, log.jsonl, the
checkpoints, progress.svg and validation.json (accuracy, each class, confusion matrix, each image).

Ctrl-C ends after the step with a checkpoint; --resume goes on as if the run had never been ended.")]
pub struct TrainArgs {
    /// Folder of class folders, or CSV file.
    pub data: PathBuf,
    /// Folder of the run; must be new unless --resume is given.
    #[arg(short, long, value_name = "RUN")]
    pub output: PathBuf,
    /// Go on from the latest checkpoint of RUN under its own configuration.
    #[arg(long, conflicts_with_all = ["model", "steps", "batch", "size", "seed", "from", "learning_rate", "label_smoothing", "no_mirror"])]
    pub resume: bool,
    /// The network, a classifier of `voxseg models` [default: mobilenet_v3_small].
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Optimiser steps [default: 30 times each image, at least 600 steps].
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// Images a step [default: 64, on an adapter that computes on the CPU 16].
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub batch: Option<usize>,
    /// Pixels that images are resized to [default: the network's published extent, or that of the largest image where it is
    /// smaller].
    #[arg(long, value_name = "H,W", allow_hyphen_values = true)]
    pub size: Option<PatchExtent>,
    /// Seed of the weights, the split and every random choice.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Images to hold out: a folder of class folders or a CSV file.
    #[arg(long, value_name = "DATA")]
    pub validation: Option<PathBuf>,
    /// Begin with weights of others (.pth, .safetensors) or of another run: what fits by name and shape is taken, a head of
    /// other classes starts anew.
    #[arg(long, value_name = "FILE|RUN")]
    pub from: Option<PathBuf>,
    /// Largest learning rate, of AdamW [default: 0.001].
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Share of the truth that is spread evenly over all classes; 0.1 is usual with many classes [default: 0].
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub label_smoothing: Option<f32>,
    /// Do not mirror images left to right: where the side matters.
    #[arg(long)]
    pub no_mirror: bool,
}

impl TrainArgs {
    fn configuration(&self) -> Result<ClassifyConfig, CliError> {
        let usual = ClassifyConfig::default();
        let size = match self.size {
            None => None,
            Some(PatchExtent::Plane(size)) => Some(size),
            Some(PatchExtent::Volume(_)) => {
                let message = "--size takes two numbers, H,W: classifiers are for pictures";
                return Err(CliError::Usage(message.to_owned()));
            }
        };
        let rate = self.learning_rate;
        let config = ClassifyConfig {
            model: self.model.clone().unwrap_or(DEFAULT_MODEL.to_owned()),
            seed: self.seed.unwrap_or(usual.seed),
            size,
            steps: self.steps,
            batch: self.batch,
            mirror: !self.no_mirror,
            label_smoothing: self.label_smoothing.unwrap_or(usual.label_smoothing),
            validation: self.validation.clone(),
            learning_rate: rate.map(|rate| ClassifyConfig::schedule_from(rate, self.steps)),
            ..usual
        };
        config.check()?;
        Ok(config)
    }
}

/// Runs the verb.
///
/// # Errors
/// Those of [`train`].
pub fn run(args: &TrainArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    if args.output.is_file() {
        let problem = "is a file; a run needs a folder of its own, give another name";
        return Err(CliError::input(&args.output, problem));
    }
    let config = args.configuration()?;
    let folder = RunFolder::new(&args.output);
    if args.resume && !folder.config().exists() {
        return Err(CliError::Train(TrainError::NotARun {
            path: args.output.clone(),
            reason: "it has no config.toml; start it without --resume".into(),
        }));
    }
    let gpu = pollster::block_on(Gpu::open(&common.gpu_options()))?;
    output.news(&format!("adapter: {}", gpu.describe()));
    let watch = Watch::new(output, Words::IMAGES);
    let interrupt = Interrupt::default();
    let options = ClassifyOptions {
        resume: args.resume,
        from: args.from.as_deref(),
        stop: Some(interrupt.flag()),
    };
    let hear = |event| {
        match event {
            // Before, nothing is lost that --resume would not make again.
            Event::Started { .. } => interrupt.listen(),
            Event::Validated(0, _) => interrupt.ignore(),
            _ => {}
        }
        watch.hear(event);
    };
    let training = train(&args.data, &folder, &config, options, gpu, &hear);
    let result = pollster::block_on(training);
    watch.finish();
    let (text, document) = describe(&folder, &result?);
    output.result(&text, &document)
}

fn describe(folder: &RunFolder, report: &ClassifyReport) -> (String, Value) {
    let steps = report.log.iter().map(LogLine::step).max();
    let mut document = json!({
        "run": folder.root(),
        "steps": steps,
        "checkpoint": folder.last(),
        "memory": report.memory,
        "classes": report.classes,
        "complete": report.was_complete,
    });
    let mut text = match steps {
        Some(steps) => format!("{steps} steps, weights in {}", folder.last().display()),
        None => format!(
            "{} was complete already: its weights are in {}. For more steps start a new run with --steps, or go on from it with --from",
            folder.root().display(),
            folder.last().display()
        ),
    };
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
        let images: usize = scores.confusion[class].iter().sum();
        let share = scores.of_class(class);
        table.row([
            name.clone(),
            images.to_string(),
            share.map_or("-".to_owned(), |share| format!("{share:.4}")),
        ]);
    }
    table.to_string()
}
