//! `voxseg import`: a trained model of another program becomes a run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, Output};
use crate::run::RunFolder;
use crate::train::{TrainConfig, TrainError};
use crate::weights::{ImportedModel, ModelChoice};
use crate::words::{counted, extent};

/// Arguments of `voxseg import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg import nnunet nnUNetTrainer__nnUNetPlans__3d_fullres -o runs/heart --fold 0
  voxseg import nnunet nnUNetTrainer__nnUNetPlans__2d -o runs/cells --checkpoint checkpoint_best.pth
  voxseg predict runs/heart -i imagesTs -o out
  voxseg import nnunet nnUNetTrainer__nnUNetPlans__2d -o runs/mri --checkpoint checkpoint_latest.pth
  voxseg train Dataset027_ACDC -o runs/mri --resume
  voxseg train Dataset027_ACDC -o runs/tuned --from runs/heart --steps 2000

nnunet: DIR is a trained model of nnU-Net v2, with plans.json, dataset.json and fold_K/checkpoint_final.pth. Networks are \
PlainConvUNet and ResidualEncoderUNet in 2D and 3D; cascades, swapped axes and readers that reorient are refused by name. A \
fold becomes a run, which predicts with the same weights, spacing and normalisation. `voxseg train --from` begins a new \
training with its weights; `voxseg train --resume` goes on with nnU-Net's own, at its epoch, with its momentum and learning \
rate, under the config.toml that is written, whose schedule.steps may be changed before. For the same fold, first put nnU-Net's \
splits_final.json into RUN. Augmentation is voxseg's. The checkpoint is read without running what its pickle asks for.")]
pub struct ImportArgs {
    /// Whose model it is.
    #[arg(value_enum)]
    pub format: Format,
    /// Folder of the trained model.
    pub dir: PathBuf,
    /// Folder of the run; must be new or empty.
    #[arg(short, long, value_name = "RUN")]
    pub output: PathBuf,
    /// Fold, 0 to 4 or all [default: the only one there is].
    #[arg(long, value_name = "FOLD")]
    pub fold: Option<String>,
    /// Configuration of plans.json, such as 3d_fullres [default: that which the checkpoint names].
    #[arg(long, value_name = "NAME")]
    pub configuration: Option<String>,
    /// File in the folder of the fold.
    #[arg(long, value_name = "NAME", default_value = "checkpoint_final.pth")]
    pub checkpoint: String,
}

/// Programs whose models can be read.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// nnU-Net v2.
    Nnunet,
}

/// Runs the verb.
///
/// # Errors
/// Those of [`ImportedModel`].
pub fn run(args: &ImportArgs, output: &Output) -> Result<(), CliError> {
    let Format::Nnunet = args.format;
    let choice = ModelChoice {
        fold: args.fold.clone(),
        configuration: args.configuration.clone(),
        checkpoint: args.checkpoint.clone(),
    };
    let model = ImportedModel::read(&args.dir, &choice)?;
    let folder = RunFolder::new(&args.output);
    let training = model.training.as_ref();
    let config = training.map(|training| TrainConfig::of_import(&model, training));
    let config = config.transpose().map_err(TrainError::from)?;
    model.write(&folder)?;
    if let Some(config) = config {
        config.write(&folder.config()).map_err(TrainError::from)?;
    }
    for remark in &model.remarks {
        output.news(&format!("note: {remark}"));
    }
    let parameters: usize = model.tensors.values().map(|t| t.data.len()).sum();
    let plan = &model.plan;
    let done = match training {
        Some(training) if training.step < training.steps => format!(
            "\n{} of {} steps trained; `voxseg train DATASET -o {} --resume` goes on",
            training.step,
            training.steps,
            args.output.display()
        ),
        _ => String::new(),
    };
    let text = format!(
        "{}: {} from {}\n{}, {} parameters, patch {}, {}{done}",
        args.output.display(),
        model.configuration,
        model.checkpoint.display(),
        counted(plan.topology.stages(), "stage"),
        parameters,
        extent(plan.patch),
        plan.data_text(),
    );
    let document = serde_json::json!({
        "run": args.output,
        "checkpoint": model.checkpoint,
        "configuration": model.configuration,
        "fold": model.fold,
        "steps_done": training.map(|training| training.step),
        "steps": training.map(|training| training.steps),
        "parameters": parameters,
        "patch": plan.patch,
        "remarks": model.remarks,
    });
    output.result(&text, &document)
}
