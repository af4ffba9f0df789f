//! `voxseg export`: the weights of a run for PyTorch.

use std::path::PathBuf;

use clap::Args;

use super::predict::Checkpoint;
use super::{CliError, Output};
use crate::dataset::Plan;
use crate::infer::Weights;
use crate::run::{RunFolder, checkpoint, plan_tensors};
use crate::weights::{WeightsError, save_safetensors};

/// Arguments of `voxseg export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg export runs/atrium -o atrium.safetensors
  voxseg export runs/atrium -o best.safetensors --checkpoint best

Names and shapes are those of the PlainConvUNet or ResidualEncoderUNet of dynamic_network_architectures with the stages
of RUN/plan.json. In Python:
  safetensors.torch.load_model(network, \"atrium.safetensors\")")]
pub struct ExportArgs {
    /// Folder of a run.
    pub run: PathBuf,
    /// The safetensors file.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Which checkpoint of the run.
    #[arg(long, value_enum, default_value_t = Checkpoint::Final)]
    pub checkpoint: Checkpoint,
}

/// Runs the verb.
///
/// # Errors
/// A folder that is no run; a checkpoint that does not fit its plan; those of writing.
pub fn run(args: &ExportArgs, output: &Output) -> Result<(), CliError> {
    let ending = args.output.extension().and_then(|e| e.to_str());
    if ending != Some("safetensors") {
        let problem = "weights are written as .safetensors; give a name that ends so";
        return Err(CliError::input(&args.output, problem));
    }
    let folder = RunFolder::new(&args.run);
    let file = Weights::from(args.checkpoint).file(&folder);
    for needed in [&folder.plan(), &file] {
        if !needed.exists() {
            let problem = "no such file; give the folder of a run";
            return Err(CliError::input(needed, problem));
        }
    }
    let plan = Plan::read(&folder.plan())?;
    let found = checkpoint::load(&file).map_err(WeightsError::from)?;
    let wanted = plan_tensors(&plan)?;
    let tensors = found.only(&wanted).map_err(WeightsError::from)?;
    save_safetensors(&args.output, &tensors, &wanted, plan.preprocessing.planar)?;
    let parameters: usize = tensors.values().map(|t| t.data.len()).sum();
    let text = format!(
        "{}: {} tensors, {parameters} parameters of {}, step {}",
        args.output.display(),
        tensors.len(),
        file.display(),
        found.info.step
    );
    let document = serde_json::json!({
        "file": args.output,
        "checkpoint": file,
        "step": found.info.step,
        "tensors": tensors.len(),
        "parameters": parameters,
    });
    output.result(&text, &document)
}
