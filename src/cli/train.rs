//! `voxseg train`: a network from a folder of labelled images.

use std::path::{Path, PathBuf};

use clap::Args;

use super::interrupt::Interrupt;
use super::numbers::{PatchExtent, at_least_one};
use super::watch::{Watch, Words};
use super::{CliError, Common, Output};
use crate::bytes::Bytes;
use crate::dataset::Dataset;
use crate::gpu::Gpu;
use crate::metrics::Convention;
use crate::run::RunFolder;
use crate::tensor::Element;
use crate::train::{
    CONFIG_EXAMPLE, Event, Fold, LogLine, TrainConfig, TrainError, TrainOptions, TrainReport, train,
};
use crate::volume::read_geometry;

/// Examples of the command line.
const EXAMPLES: &str = "\
Examples:
  voxseg train Dataset101_LeftAtrium -o runs/atrium
  voxseg train Dataset101_LeftAtrium -o runs/atrium --resume
  voxseg train Dataset101_LeftAtrium -o runs/fold1 --fold 1 --steps 5000 --seed 7
  voxseg train Dataset101_LeftAtrium -o runs/big --config big.toml
  voxseg train Dataset101_LeftAtrium -o runs/vnet --model vnet
  voxseg train Dataset101_LeftAtrium -o runs/tuned --model vnet_elu --weights vnet.pth
  voxseg train Dataset102_Other -o runs/tuned --from runs/atrium --steps 2000

A run folder holds config.toml (every key), plan.json, log.jsonl, the checkpoints, progress.svg,
validation.png and validation.json.

Ctrl-C ends after the step with a checkpoint, and so does SIGTERM; a second one ends at once. --resume goes on from the
latest checkpoint as if the run had never been ended. The folds are those of splits_final.json in RUN, else beside
dataset.json, else made from the seed.";

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
    #[arg(long, conflicts_with_all = ["config", "model", "steps", "seed", "fold", "batch", "patch", "precision", "spacing"])]
    pub resume: bool,
    /// Begin with the plan and the weights of another run, `voxseg train`'s or `voxseg import`'s: the data set must have
    /// its channels and labels; spacing and network are its own, the optimiser starts anew.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["resume", "spacing", "model"])]
    pub from: Option<PathBuf>,
    /// Begin with the weights in a PyTorch checkpoint (.pth, .pt, read without running its pickle) or a .safetensors file of
    /// the network that is trained, under the names of PyTorch's module; heads for another number of classes start anew.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "from"])]
    pub weights: Option<PathBuf>,
    /// Measure which kernels are the fastest for this network on this adapter, and train with those; measured once,
    /// then kept in the cache (VOXSEG_CACHE, else the user's cache folder) and in RUN/kernels.json.
    #[arg(long)]
    pub tune: bool,
    /// Time the dispatches of one early step and print them by operator, the slowest first.
    #[arg(long)]
    pub profile: bool,
    /// The family of the network, as `voxseg models` names it [default: nnU-Net's plain U-Net].
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Optimiser steps.
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// Seed of the weights, the split and every random choice.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Fold held out for validation, 0 to 4, or `all` to train on every case.
    #[arg(long, value_name = "FOLD")]
    pub fold: Option<Fold>,
    /// Patches a step.
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub batch: Option<usize>,
    /// Patch extent in voxels; H,W for 2D data. Rounded up to what the strides of the network divide.
    #[arg(long, value_name = "D,H,W", allow_hyphen_values = true)]
    pub patch: Option<PatchExtent>,
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
        config.network.model = self.model.clone().or(config.network.model);
        config.schedule.steps = self.steps.or(config.schedule.steps);
        config.seed = self.seed.unwrap_or(config.seed);
        config.fold = self.fold.unwrap_or(config.fold);
        config.memory_budget = self.memory_budget.or(config.memory_budget);
        config.precision = self.precision.unwrap_or(config.precision);
        config.batch.size = self.batch.or(config.batch.size);
        if let Some(patch) = self.patch {
            let is_plane = matches!(patch, PatchExtent::Plane(_)) && is_2d(&self.dataset)?;
            config.batch.patch = Some(patch.extent(is_plane).map_err(CliError::Usage)?);
        }
        if let Some(spacing) = &self.spacing {
            config.batch.spacing = Some(spacing[..].try_into().map_err(|_| axes("--spacing"))?);
        }
        Ok(config)
    }
}

/// Whether the first image of the data set is a single slice.
pub(super) fn is_2d(dataset: &Path) -> Result<bool, CliError> {
    let dataset = Dataset::open(dataset)?;
    let images = dataset.training.first().map(|case| &case.images[0]);
    images.map_or(Ok(false), |path| Ok(read_geometry(path)?.shape()[0] == 1))
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
    let watch = Watch::new(output, Words::VOLUMES);
    let interrupt = Interrupt::default();
    let result = pollster::block_on(train(
        &args.dataset,
        &folder,
        &config,
        TrainOptions {
            resume: args.resume,
            from: args.from.as_deref(),
            weights: args.weights.as_deref(),
            profile: args.profile,
            tune: args.tune,
            stop: Some(interrupt.flag()),
        },
        gpu,
        &|event| {
            match event {
                // Before, nothing is lost that --resume would not make again.
                Event::Started { .. } => interrupt.listen(),
                Event::Validated(0, _) => interrupt.ignore(),
                _ => {}
            }
            watch.hear(event);
        },
    ));
    let profile = watch.finish();
    let report = result?;
    let (text, mut document) = describe(&folder, &report);
    if let Some(profile) = profile {
        document["profile"] = serde_json::json!(profile);
    }
    output.result(&text, &document)
}

fn describe(folder: &RunFolder, report: &TrainReport) -> (String, serde_json::Value) {
    let steps = report.log.iter().map(LogLine::step).max().unwrap_or(0);
    let mut document = serde_json::json!({
        "run": folder.root(),
        "steps": steps,
        "checkpoint": folder.last(),
        "memory": report.memory,
        "complete": report.was_complete,
    });
    let mut text = format!("{steps} steps, weights in {}", folder.last().display());
    if report.was_complete {
        text = format!(
            "{} was complete already: {text}. For more steps start a new run with --steps: the learning rate falls over all steps of a run, so that more of them are another run",
            folder.root().display()
        );
    }
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
