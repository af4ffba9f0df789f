//! `voxseg predict`: segmentations in the geometry of the images.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{CliError, Common, Output};
use crate::dataset::{Case, find_images, is_picture};
use crate::gpu::Gpu;
use crate::infer::{InferenceOptions, Model, Weights};
use crate::postprocess::{Connectivity, keep_largest};
use crate::run::{RunFolder, mirror_axes};
use crate::tensor::Element;
use crate::volume::{
    LabelMap, check_labels_fit, ending_of, ending_to_write, read_geometry, write_labels,
};

/// Arguments of `voxseg predict`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg predict runs/atrium -i Dataset101_LeftAtrium/imagesTs -o predictions
  voxseg predict runs/atrium -i scan.nii.gz -o scan_segmentation.nii.gz
  voxseg predict runs/glioma -i flair.nii.gz -i t1c.nii.gz -o tumour.nii.gz --tta")]
pub struct PredictArgs {
    /// Folder of a run (`voxseg train -o`).
    pub run: PathBuf,
    /// Folder of images named CASE_0000.nii.gz (channels _0000, _0001, …), or the image files of one case, one for each
    /// channel in order.
    #[arg(short, long, value_name = "IN", required = true, num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// Folder for the label maps, or the file for one case.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Which checkpoint of the run.
    #[arg(long, value_enum, default_value_t = Checkpoint::Final)]
    pub checkpoint: Checkpoint,
    /// Average over mirror images (test-time augmentation): more accurate, up to 8 times the work.
    #[arg(long)]
    pub tta: bool,
    /// Distance between windows as a share of the patch.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub step_size: f64,
    /// How activations are stored, f32 or f16: f16 takes about half of the memory, on adapters that have it, whatever the
    /// network was trained with.
    #[arg(long, value_name = "TYPE", default_value_t = Element::F32)]
    pub precision: Element,
    /// Keep only the largest connected piece of the foreground of each case (nnU-Net's first postprocessing): where
    /// there is one organ, what lies apart is a mistake.
    #[arg(long)]
    pub largest_component: bool,
    /// Time the dispatches of one window and print them by operator, the slowest first.
    #[arg(long)]
    pub profile: bool,
    /// Leave out cases whose output is there already.
    #[arg(long)]
    pub continue_prediction: bool,
}

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Checkpoint {
    /// That of the last step; of a run that has not ended, the newest.
    Final,
    /// That with the best validation Dice.
    Best,
    /// The newest.
    Latest,
}

impl From<Checkpoint> for Weights {
    fn from(checkpoint: Checkpoint) -> Self {
        match checkpoint {
            Checkpoint::Final => Self::Final,
            Checkpoint::Best => Self::Best,
            Checkpoint::Latest => Self::Latest,
        }
    }
}

/// A case and the file its segmentation goes to.
struct Job {
    case: Case,
    output: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// Those of reading, the device and writing; cases done before stay.
pub fn run(args: &PredictArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    if !(args.step_size > 0.0 && args.step_size <= 1.0) {
        let message = format!(
            "--step-size must lie above 0 and at most 1, found {}",
            args.step_size
        );
        return Err(CliError::Usage(message));
    }
    let gpu = pollster::block_on(Gpu::open(&common.gpu_options()))?;
    output.news(&format!("adapter: {}", gpu.describe()));
    let model = Model::load_as(&args.run, args.checkpoint.into(), args.precision, gpu)?;
    output.news(&weights_of(&model, args));
    let profile = match args.profile {
        true => Some(pollster::block_on(model.profile())?),
        false => None,
    };
    if let Some(profile) = &profile {
        output.news(profile.table().to_string().trim_end());
    }
    let written = predict_all(&model, args, output)?;
    let list: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
    let mut document = serde_json::json!({ "written": written });
    if let Some(profile) = &profile {
        document["profile"] = serde_json::json!(profile);
    }
    output.result(&list.join("\n"), &document);
    Ok(())
}

/// Which weights are used, and whether they are not those that were asked for.
fn weights_of(model: &Model, args: &PredictArgs) -> String {
    let (path, step) = model.checkpoint();
    let last = RunFolder::new(&args.run).last();
    let instead = match args.checkpoint {
        Checkpoint::Final if path != last => "; this run has not ended, so it has no final ones",
        _ => "",
    };
    format!("weights: {} of step {step}{instead}", path.display())
}

fn predict_all(
    model: &Model,
    args: &PredictArgs,
    output: &Output,
) -> Result<Vec<PathBuf>, CliError> {
    let options = InferenceOptions {
        step: args.step_size,
        mirror_axes: if args.tta {
            mirror_axes(model.plan())
        } else {
            Vec::new()
        },
    };
    let jobs = find_jobs(model, args)?;
    refuse_overwriting(&jobs)?;
    let bar = output.progress(jobs.len() as u64, "cases");
    let mut written = Vec::new();
    for job in jobs {
        if args.continue_prediction && job.output.exists() {
            bar.inc(1);
            continue;
        }
        let mut patches = 0;
        let labels = pollster::block_on(model.segment(&job.case, &options, &mut || {
            patches += 1;
            bar.set_message(format!("{} patch {patches}", job.case.id));
        }))?;
        let labels = match args.largest_component {
            true => largest_component(labels)?,
            false => labels,
        };
        write_labels(&job.output, &labels)?;
        written.push(job.output);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(written)
}

/// The segmentation without what is not connected, by faces, edges or corners, to its largest piece.
fn largest_component(map: LabelMap) -> Result<LabelMap, CliError> {
    let (geometry, mut labels) = map.into_parts();
    let foreground: BTreeSet<u32> = labels.iter().copied().filter(|&label| label > 0).collect();
    let foreground: Vec<u32> = foreground.into_iter().collect();
    keep_largest(
        &mut labels,
        geometry.shape(),
        &foreground,
        Connectivity::Corners,
    )?;
    Ok(LabelMap::new(geometry, labels)?)
}

/// The cases, each with an output that can be written as far as that shows without running the network.
fn find_jobs(model: &Model, args: &PredictArgs) -> Result<Vec<Job>, CliError> {
    let plan = model.plan();
    let channels = plan.preprocessing.channels.len();
    let ending = ending_to_write(&plan.file_ending);
    // A file only where no folder has the name already.
    let file = Some(&args.output).filter(|path| ending_of(path).is_some() && !path.is_dir());
    if file.is_none() && args.output.exists() && !args.output.is_dir() {
        let problem = "is a file; give a folder, or a file that ends in .nii.gz";
        return Err(CliError::input(&args.output, problem));
    }
    let in_folder = |id: &str| args.output.join(format!("{id}{ending}"));
    if let [folder] = &args.input[..]
        && folder.is_dir()
    {
        if let Some(file) = file {
            let problem = format!(
                "is a file, but -i {} is a folder; give a folder",
                folder.display()
            );
            return Err(CliError::input(file, problem));
        }
        let cases = find_images(folder, channels, &plan.file_ending)?;
        return Ok(cases
            .into_iter()
            .map(|case| Job {
                output: in_folder(&case.id),
                case,
            })
            .collect());
    }
    let one_picture = args.input.len() == 1 && is_picture(&plan.file_ending);
    if args.input.len() != channels && !one_picture {
        return Err(CliError::Usage(format!(
            "-i names {} files, this network takes {channels} channels; give a folder, or one file for each channel",
            args.input.len()
        )));
    }
    let id = case_name(&args.input[0]);
    let output = file.cloned().unwrap_or_else(|| in_folder(&id));
    check_labels_fit(&output, &read_geometry(&args.input[0])?)?;
    let case = Case {
        id,
        images: args.input.clone(),
        label: None,
    };
    Ok(vec![Job { case, output }])
}

/// Refuses outputs that would take the place of an image.
fn refuse_overwriting(jobs: &[Job]) -> Result<(), CliError> {
    let images = jobs.iter().flat_map(|job| &job.case.images);
    let images: BTreeSet<PathBuf> = images.filter_map(|p| p.canonicalize().ok()).collect();
    for job in jobs {
        if let Ok(path) = job.output.canonicalize()
            && images.contains(&path)
        {
            let problem = "the output would take the place of this image; give another -o";
            return Err(CliError::input(&job.output, problem));
        }
    }
    Ok(())
}

/// The file name without its ending and channel number.
fn case_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = match ending_of(path) {
        Some(ending) => &name[..name.len() - ending.len()],
        None => &name,
    };
    stem.strip_suffix("_0000").unwrap_or(stem).to_owned()
}
