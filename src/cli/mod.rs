//! The command line: one file a verb.
//!
//! Results go to stdout, as text or with `--json` as one document; news, progress and errors go to
//! stderr. The exit code is 0, or 2 where the user can mend what went wrong, or 1 where it is ours.

mod classify;
mod demo;
mod devices;
mod error;
mod evaluate;
mod export;
mod import;
mod inspect;
mod interrupt;
mod models;
mod numbers;
mod output;
mod predict;
mod runs;
mod train;
mod training;
mod watch;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use error::CliError;
pub use evaluate::{EvaluateArgs, evaluate};
pub use output::Output;

use crate::ops::check_variant;

/// Train and run the U-Net family for 2D and 3D medical image segmentation on any GPU.
///
/// Research software, not a medical device.
#[derive(Debug, Parser)]
#[command(
    name = "voxseg",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  voxseg devices
  voxseg evaluate OUT DATASET/labelsTs

Each verb has its own: voxseg evaluate --help")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: Common,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// GPU to use: its number in `voxseg devices`, or a part of its name.
    #[arg(long, global = true, env = "VOXSEG_ADAPTER", value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    /// Print one JSON document on stdout instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Keep the bounds checks that the driver adds to kernels (slower; for fault finding).
    #[arg(long, global = true)]
    pub checked: bool,
    /// Force a kernel variant of an operator family, such as conv=naive (for fault finding).
    #[arg(long, global = true, value_name = "FAMILY=VARIANT", value_parser = parse_variant)]
    pub variant: Vec<(String, String)>,
}

fn parse_variant(text: &str) -> Result<(String, String), String> {
    let (family, variant) = text
        .split_once('=')
        .ok_or_else(|| format!("expected FAMILY=VARIANT, found `{text}`"))?;
    check_variant(family, variant).map_err(|e| e.to_string())?;
    Ok((family.to_owned(), variant.to_owned()))
}

impl Common {
    /// How to open the device.
    pub fn gpu_options(&self) -> crate::gpu::GpuOptions {
        crate::gpu::GpuOptions {
            adapter: self.adapter.clone(),
            checked: self.checked,
            forced_variants: self.variant.iter().cloned().collect(),
            ..crate::gpu::GpuOptions::default()
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train a network on a folder of labelled images.
    Train(train::TrainArgs),
    /// Segment images with a trained network.
    Predict(predict::PredictArgs),
    /// Train and run networks that tell the class of a whole image.
    Classify(classify::ClassifyArgs),
    /// Make a labelled data set, train on it, predict, evaluate and draw a picture.
    Demo(demo::DemoArgs),
    /// List the GPUs and what they can do.
    Devices(devices::DevicesArgs),
    /// Print a network's layers, parameters, multiply-adds and memory without running it.
    Inspect(inspect::InspectArgs),
    /// List the networks with their sources, parameters and multiply-adds.
    Models(models::ModelsArgs),
    /// Measure segmentations against the truth: Dice, IoU, HD95 and NSD.
    Evaluate(EvaluateArgs),
    /// Make a run of a trained model of nnU-Net.
    Import(import::ImportArgs),
    /// Write the weights of a run for PyTorch.
    Export(export::ExportArgs),
}

/// Runs the command line; the exit code is 0, 2 where the user can mend what went wrong, 1 where it is ours.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return no_verb(&error),
    };
    let output = Output::new(cli.common.json);
    let result = match cli.verb {
        Verb::Train(args) => train::run(&args, &cli.common, &output),
        Verb::Predict(args) => predict::run(&args, &cli.common, &output),
        Verb::Classify(args) => classify::run(&args, &cli.common, &output),
        Verb::Demo(args) => demo::run(&args, &cli.common, &output),
        Verb::Devices(args) => devices::run(&args, &cli.common, &output),
        Verb::Inspect(args) => inspect::run(&args, &cli.common, &output),
        Verb::Models(args) => models::run(&args, &output),
        Verb::Evaluate(args) => evaluate::run(&args, &output),
        Verb::Import(args) => import::run(&args, &output),
        Verb::Export(args) => export::run(&args, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints what clap says instead of running a verb: help, or what is wrong with the arguments.
fn no_verb(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() {
        // The flags were not understood, so that it cannot be asked whether this one was given.
        if std::env::args_os().any(|argument| argument == "--json") {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            Output::error_document(text.trim_end(), 2);
        }
        return ExitCode::from(2);
    }
    match printed {
        Err(failure) if failure.kind() != std::io::ErrorKind::BrokenPipe => {
            Output::new(false).error(&CliError::Stdout(failure));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
