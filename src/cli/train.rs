//! `voxseg train`: a network from a folder of labelled images.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;

use super::{CliError, Common, Output};
use crate::bytes::Bytes;
use crate::gpu::Gpu;
use crate::graph::Profile;
use crate::metrics::Convention;
use crate::run::RunFolder;
use crate::tensor::Element;
use crate::train::{
    CONFIG_EXAMPLE, Event, Fold, LogLine, TrainConfig, TrainError, TrainOptions, TrainReport, train,
};

/// Examples of the command line.
const EXAMPLES: &str = "\
Examples:
  voxseg train Dataset101_LeftAtrium -o runs/atrium
  voxseg train Dataset101_LeftAtrium -o runs/atrium --resume
  voxseg train Dataset101_LeftAtrium -o runs/fold1 --fold 1 --steps 5000 --seed 7
  voxseg train Dataset101_LeftAtrium -o runs/big --config big.toml

A run folder holds config.toml (every key), plan.json, log.jsonl, the checkpoints, progress.svg,
validation.png and validation.json.";

/// Arguments of `voxseg train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\nKeys of --config (TOML):\n\n{CONFIG_EXAMPLE}"))]
pub struct TrainArgs {
    /// Folder with dataset.json, imagesTr and labelsTr (nnU-Net's raw layout).
    pub dataset: PathBuf,
    /// Folder of the run; must be new unless --resume is given.
    #[arg(short, long, value_name = "RUN")]
    pub output: PathBuf,
    /// TOML file with any of the keys that `--help` lists (not `-h`); flags win over it.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on from the latest checkpoint of RUN under its own configuration.
    #[arg(long, conflicts_with_all = ["config", "steps", "seed", "fold", "batch", "patch", "precision", "spacing"])]
    pub resume: bool,
    /// Measure which kernels are the fastest for this network on this adapter, and train with those; measured once,
    /// then kept in the cache (VOXSEG_CACHE, else the user's cache folder) and in RUN/kernels.json.
    #[arg(long)]
    pub tune: bool,
    /// Time the dispatches of one early step and print them by operator, the slowest first.
    #[arg(long)]
    pub profile: bool,
    /// Optimiser steps.
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Seed of the weights, the split and every random choice.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Fold held out for validation, 0 to 4, or `all` to train on every case.
    #[arg(long, value_name = "FOLD")]
    pub fold: Option<Fold>,
    /// Patches a step.
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Patch extent in voxels.
    #[arg(long, value_name = "D,H,W", value_delimiter = ',')]
    pub patch: Option<Vec<usize>>,
    /// Device memory that a training step may plan for, such as 512MiB or 2GiB: what does not fit is computed twice
    /// instead of being kept, with the same results [default: no bound].
    #[arg(long, value_name = "BYTES")]
    pub memory_budget: Option<Bytes>,
    /// How activations and their gradients are stored, f32 or f16: f16 takes about half of the memory, on adapters that
    /// have it; parameters, sums and losses stay f32 [default: f32].
    #[arg(long, value_name = "TYPE")]
    pub precision: Option<Element>,
    /// Spacing in mm that images are resampled to.
    #[arg(long, value_name = "D,H,W", value_delimiter = ',')]
    pub spacing: Option<Vec<f64>>,
}

impl TrainArgs {
    fn configuration(&self) -> Result<TrainConfig, CliError> {
        let mut config = match &self.config {
            Some(path) => TrainConfig::read(path)?,
            None => TrainConfig::default(),
        };
        let axes = |flag: &str| CliError::Usage(format!("{flag} takes three numbers, D,H,W"));
        config.schedule.steps = self.steps.or(config.schedule.steps);
        config.seed = self.seed.unwrap_or(config.seed);
        config.fold = self.fold.unwrap_or(config.fold);
        config.memory_budget = self.memory_budget.or(config.memory_budget);
        config.precision = self.precision.unwrap_or(config.precision);
        config.batch.size = self.batch.or(config.batch.size);
        if let Some(patch) = &self.patch {
            config.batch.patch = Some(patch[..].try_into().map_err(|_| axes("--patch"))?);
        }
        if let Some(spacing) = &self.spacing {
            config.batch.spacing = Some(spacing[..].try_into().map_err(|_| axes("--spacing"))?);
        }
        Ok(config)
    }
}

/// Runs the verb.
///
/// # Errors
/// Those of [`train`].
pub fn run(args: &TrainArgs, common: &Common, output: &Output) -> Result<(), CliError> {
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
    let watch = Watch::new(output);
    let report = pollster::block_on(train(
        &args.dataset,
        &folder,
        &config,
        TrainOptions {
            resume: args.resume,
            profile: args.profile,
            tune: args.tune,
        },
        gpu,
        &|event| watch.hear(event),
    ))?;
    let profile = watch.finish();
    let (text, mut document) = describe(&folder, &report);
    if let Some(profile) = profile {
        document["profile"] = serde_json::json!(profile);
    }
    output.result(&text, &document);
    Ok(())
}

fn describe(folder: &RunFolder, report: &TrainReport) -> (String, serde_json::Value) {
    let steps = report.log.iter().map(LogLine::step).max().unwrap_or(0);
    let mut document = serde_json::json!({
        "run": folder.root(),
        "steps": steps,
        "checkpoint": folder.last(),
        "memory": report.memory,
    });
    let mut text = format!("{steps} steps, weights in {}", folder.last().display());
    if let Some(evaluation) = &report.validation {
        document["validation"] = evaluation.to_json();
        let dice = evaluation.mean(Convention::FailureCounts).dice;
        text = format!(
            "{}\n{text}\nmean validation Dice {dice:.4}, picture in {}",
            evaluation.to_text().trim_end(),
            folder.picture().display()
        );
    }
    (text, document)
}

/// Progress bars for the phases of a run.
pub(super) struct Watch<'a> {
    output: &'a Output,
    bar: Mutex<Phase>,
}

struct Phase {
    /// When the verb began; `None` once the first step was reported.
    start: Option<Instant>,
    name: &'static str,
    bar: ProgressBar,
    batch: u64,
    loss: Option<f32>,
    dice: Option<f64>,
    profile: Option<Profile>,
}

impl<'a> Watch<'a> {
    pub fn new(output: &'a Output) -> Self {
        let phase = Phase {
            start: Some(Instant::now()),
            name: "",
            bar: ProgressBar::hidden(),
            batch: 1,
            loss: None,
            dice: None,
            profile: None,
        };
        Self {
            output,
            bar: Mutex::new(phase),
        }
    }

    /// Shows an event.
    pub fn hear(&self, event: Event) {
        let mut phase = self.bar.lock().unwrap_or_else(|e| e.into_inner());
        match event {
            Event::Inspected(done, of) => {
                self.enter(&mut phase, "inspecting", of, "cases");
                phase.bar.set_position(done as u64);
            }
            Event::Planned(memory) => {
                self.output
                    .news(&format!("planned device memory: {memory}"));
            }
            Event::Measured(measured, of) => {
                self.enter(&mut phase, "measuring kernels", of, "problems");
                phase.bar.inc(1);
                phase.bar.suspend(|| self.output.news(&measured.to_text()));
            }
            Event::Prepared(done, of) => {
                self.enter(&mut phase, "preparing", of, "cases");
                phase.bar.set_position(done as u64);
            }
            Event::Started { step, steps, batch } => {
                self.enter(&mut phase, "training", steps * batch, "patches");
                phase.batch = batch as u64;
                phase.bar.set_position((step * batch) as u64);
                // The rate is that of this run, not of the steps done before.
                phase.bar.reset_eta();
            }
            Event::Step(LogLine::Step { step, loss, .. }) => {
                phase.loss = loss;
                let at = step * phase.batch;
                phase.bar.set_position(at);
                phase.tell();
                if let Some(start) = phase.start.take() {
                    let seconds = start.elapsed().as_secs_f64();
                    let line = format!("first step done {seconds:.1} s after the start");
                    phase.bar.suspend(|| self.output.news(&line));
                }
            }
            Event::Validation(LogLine::Validation { step, dice, .. }) => {
                phase.dice = Some(dice);
                phase.tell();
                let loss = phase.loss.map_or("-".to_owned(), |l| format!("{l:.4}"));
                let line = format!("step {step}: loss {loss}, validation Dice {dice:.4}");
                phase.bar.suspend(|| self.output.news(&line));
            }
            Event::Profile(profile) => {
                let table = profile.table().to_string();
                phase.bar.suspend(|| self.output.news(table.trim_end()));
                phase.profile = Some(profile);
            }
            Event::Validated(done, of) => {
                self.enter(&mut phase, "validating", of, "cases");
                phase.bar.set_position(done as u64);
            }
            _ => {}
        }
    }

    /// Clears the bar; gives the times of a step by operator, where they were taken.
    pub fn finish(&self) -> Option<Profile> {
        let mut phase = self.bar.lock().unwrap_or_else(|e| e.into_inner());
        phase.bar.finish_and_clear();
        phase.profile.take()
    }

    fn enter(&self, phase: &mut Phase, name: &'static str, total: usize, unit: &str) {
        if phase.name != name {
            phase.bar.finish_and_clear();
            phase.name = name;
            phase.bar = self.output.progress(total as u64, unit);
        }
    }
}

impl Phase {
    fn tell(&self) {
        let loss = self.loss.map_or(String::new(), |l| format!("loss {l:.4}"));
        let dice = self.dice.map_or(String::new(), |d| format!(" Dice {d:.3}"));
        self.bar.set_message(loss + &dice);
    }
}
