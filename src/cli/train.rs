//! `voxseg train`: a network from a folder of labelled images.

use std::path::{Path, PathBuf};

use clap::Args;

use super::numbers::PatchExtent;
use super::runs::Trained;
use super::training::{Given, TrainingFlags};
use super::watch::Words;
use super::{CliError, Common, Output};
use crate::dataset::Dataset;
use crate::metrics::Convention;
use crate::run::RunFolder;
use crate::train::{CONFIG_EXAMPLE, Fold, LogLine, TrainConfig, TrainOptions, TrainReport, train};
use crate::volume::read_geometry;
use crate::words::counted;

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

A run folder holds config.toml (every key), plan.json, log.jsonl, the checkpoints, progress.svg, \
validation.png and validation.json.

Ctrl-C ends after the step with a checkpoint, and so does SIGTERM; a second one ends at once. --resume goes on from the \
latest checkpoint as if the run had never been ended. The folds are those of splits_final.json in RUN, else beside \
dataset.json, else made from the seed.";

/// Arguments of `voxseg train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\nKeys of --config (TOML):\n\n{CONFIG_EXAMPLE}"))]
pub struct TrainArgs {
    /// Folder with dataset.json, imagesTr and labelsTr (nnU-Net's raw layout).
    pub dataset: PathBuf,
    #[command(flatten)]
    pub training: TrainingFlags,
    /// Begin with the plan and the weights of another run, `voxseg train`'s or `voxseg import`'s: the data set must have
    /// its channels and labels; spacing and network are its own, the optimiser starts anew.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["resume", "spacing", "model"])]
    pub from: Option<PathBuf>,
    /// Begin with the weights in a PyTorch checkpoint (.pth, .pt, read without running its pickle) or a .safetensors file of
    /// the network that is trained, under the names of PyTorch's module; heads for another number of classes start anew,
    /// and those for training alone that the file has not.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "from"])]
    pub weights: Option<PathBuf>,
    /// The family of the network, as `voxseg models` names it; one whose name ends in 2d sees volumes slice by slice
    /// [default: nnU-Net's plain U-Net].
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub model: Option<String>,
    /// Fold held out for validation, 0 to 4, or `all` to train on every case.
    #[arg(long, value_name = "FOLD", conflicts_with = "resume")]
    pub fold: Option<Fold>,
    /// Patch extent in voxels; H,W for 2D data and networks. Rounded up to what the strides of the network divide.
    #[arg(
        long,
        value_name = "D,H,W",
        allow_hyphen_values = true,
        conflicts_with = "resume"
    )]
    pub patch: Option<PatchExtent>,
    /// Spacing in mm that images are resampled to.
    #[arg(
        long,
        value_name = "D,H,W",
        value_delimiter = ',',
        conflicts_with = "resume"
    )]
    pub spacing: Option<Vec<f64>>,
}

impl TrainArgs {
    fn configuration(&self) -> Result<TrainConfig, CliError> {
        let flags = &self.training;
        let mut config = match &flags.config {
            Some(path) => TrainConfig::read(path)?,
            None => TrainConfig::default(),
        };
        let axes = |flag: &str| CliError::Usage(format!("{flag} takes three numbers, D,H,W"));
        config.network.model = self.model.clone().or(config.network.model);
        config.schedule.steps = flags.steps.or(config.schedule.steps);
        config.seed = flags.seed.unwrap_or(config.seed);
        config.fold = self.fold.unwrap_or(config.fold);
        config.memory_budget = flags.memory_budget.or(config.memory_budget);
        config.precision = flags.precision.unwrap_or(config.precision);
        config.batch.size = flags.batch.or(config.batch.size);
        if let Some(patch) = self.patch {
            let is_plane = matches!(patch, PatchExtent::Plane(_))
                && (config.planar() == Some(true) || is_2d(&self.dataset)?);
            config.batch.patch = Some(patch.extent(is_plane).map_err(CliError::Usage)?);
        }
        if let Some(spacing) = &self.spacing {
            config.batch.spacing = Some(spacing[..].try_into().map_err(|_| axes("--spacing"))?);
        }
        Ok(config)
    }
}

/// Refuses runs of classifiers where one of a network that segments is wanted.
fn check_runs(args: &TrainArgs) -> Result<(), CliError> {
    let is_classifier =
        |run: &Path| matches!(Trained::at(run, "a run"), Ok(Trained::Classifier(_)));
    let resumed = Some(&args.training.output).filter(|_| args.training.resume);
    for (run, problem) in [
        (
            args.from.as_ref(),
            "is the run of a classifier, whose weights are for no network that segments; give a run of `voxseg train` or \
             `voxseg import`, or begin a classifier with it: `voxseg classify train DATA -o NEW --from RUN`",
        ),
        (
            resumed,
            "is the run of a classifier; go on with `voxseg classify train DATA -o RUN --resume`",
        ),
    ] {
        if let Some(run) = run.filter(|run| is_classifier(run)) {
            return Err(CliError::input(run, problem));
        }
    }
    Ok(())
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
    let flags = &args.training;
    flags.check_output()?;
    check_runs(args)?;
    let config = args.configuration()?;
    let train = |given: Given<'_>| {
        let options = TrainOptions {
            resume: flags.resume,
            from: args.from.as_deref(),
            weights: args.weights.as_deref(),
            profile: flags.profile,
            tune: flags.tune,
            stop: Some(given.stop),
        };
        let Given {
            folder,
            gpu,
            observe,
            ..
        } = given;
        let training = train(&args.dataset, folder, &config, options, gpu, observe);
        pollster::block_on(training)
    };
    let (folder, report, profile) = flags.run((common, output, Words::VOLUMES), train)?;
    let (text, mut document) = describe(&folder, &report);
    if let Some(profile) = profile {
        document["profile"] = serde_json::json!(profile);
    }
    output.result(&text, &document)
}

fn describe(folder: &RunFolder, report: &TrainReport) -> (String, serde_json::Value) {
    let steps = report.log.iter().map(LogLine::step).max().unwrap_or(0);
    let mut document = serde_json::json!({
        "run": folder.root().display().to_string(),
        "steps": steps,
        "checkpoint": folder.last().display().to_string(),
        "memory": report.memory,
        "complete": true,
        "was_complete": report.was_complete,
    });
    let done = counted(steps as usize, "step");
    let mut text = format!("{done}, weights in {}", folder.last().display());
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
