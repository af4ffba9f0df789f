//! `voxseg export`: the weights of a run for PyTorch.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::predict::Checkpoint;
use super::runs::Trained;
use super::{CliError, Output};
use crate::classify::Description;
use crate::dataset::Plan;
use crate::graph::Graph;
use crate::infer::Weights;
use crate::nn::Mode;
use crate::run::{NetworkTensor, checkpoint, network_tensors, plan_tensors};
use crate::tensor::Shape;
use crate::weights::{WeightsError, save_safetensors};

/// Arguments of `voxseg export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg export runs/atrium -o atrium.safetensors
  voxseg export runs/atrium -o best.safetensors --checkpoint best
  voxseg export runs/skin -o skin.safetensors

Names and shapes are those of the PyTorch module of the network (`voxseg models` names its source): of nnU-Net's networks \
the PlainConvUNet or ResidualEncoderUNet of dynamic_network_architectures with the stages of RUN/plan.json. In Python:
  safetensors.torch.load_model(network, \"atrium.safetensors\")
`voxseg train --weights` and `voxseg classify train --from` read the file as well.")]
pub struct ExportArgs {
    /// Folder of a run, of `voxseg train`, `voxseg classify train` or `voxseg import`.
    pub run: PathBuf,
    /// The safetensors file.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Which checkpoint of the run.
    #[arg(long, value_enum, default_value_t = Checkpoint::Final)]
    pub checkpoint: Checkpoint,
    /// Write over a file that is there.
    #[arg(long)]
    pub force: bool,
}

/// Runs the verb.
///
/// # Errors
/// A folder that is no run; a checkpoint that does not fit its network; those of writing.
pub fn run(args: &ExportArgs, output: &Output) -> Result<(), CliError> {
    let ending = args.output.extension().and_then(|e| e.to_str());
    if ending != Some("safetensors") {
        let problem = "weights are written as .safetensors; give a name that ends so";
        return Err(CliError::input(&args.output, problem));
    }
    if args.output.exists() && !args.force {
        let problem = "is there already; give another name, or --force to write over it";
        return Err(CliError::input(&args.output, problem));
    }
    let (folder, wanted, planar) = match Trained::at(&args.run, "the folder of a run")? {
        Trained::Segmenter(folder) => {
            let plan = Plan::read(&folder.plan())?;
            (folder, plan_tensors(&plan)?, plan.preprocessing.planar)
        }
        Trained::Classifier(folder) => {
            let tensors = classifier_tensors(&Description::read(&folder)?)?;
            (folder, tensors, true)
        }
    };
    let file = Weights::from(args.checkpoint).file(&folder);
    if !file.exists() {
        let problem = "no such file; train the run, or give another --checkpoint";
        return Err(CliError::input(&file, problem));
    }
    let found = checkpoint::load(&file).map_err(WeightsError::from)?;
    let tensors = found.only(&wanted).map_err(WeightsError::from)?;
    save_safetensors(&args.output, &tensors, &wanted, planar)?;
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

/// [`network_tensors`] of the network of a classifier.
fn classifier_tensors(of: &Description) -> Result<BTreeMap<String, NetworkTensor>, CliError> {
    let [height, width] = of.preparation.size;
    let shape = Shape::new(1, of.preparation.channels, 1, height, width);
    let mut graph = Graph::new();
    let image = graph.input("image", shape)?;
    of.network()?.build(&mut graph, image, Mode::Inference)?;
    Ok(network_tensors(&graph))
}
