//! `voxseg classify`: classes of whole images.

mod predict;
mod train;

use clap::{Args, Subcommand};

use super::{CliError, Common, Output};

/// Arguments of `voxseg classify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  voxseg classify train skin -o runs/skin
  voxseg classify predict runs/skin lesion.png

Each has its own: voxseg classify train --help")]
pub struct ClassifyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train a network to tell the classes of images in folders.
    Train(train::TrainArgs),
    /// Tell the classes of images with a trained network.
    Predict(predict::PredictArgs),
}

/// Runs the verb.
///
/// # Errors
/// Those of training and of inference.
pub fn run(args: &ClassifyArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    match &args.verb {
        Verb::Train(args) => train::run(args, common, output),
        Verb::Predict(args) => predict::run(args, common, output),
    }
}
