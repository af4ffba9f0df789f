//! `voxseg predict`: segmentations in the geometry of the images.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::error::INTERRUPTED;
use super::interrupt::Interrupt;
use super::runs::Trained;
use super::{CliError, Common, Output};
use crate::dataset::{Case, DatasetError, Plan, find_readable_images, is_picture};
use crate::gpu::Gpu;
use crate::infer::{InferError, InferenceOptions, Model, Weights};
use crate::postprocess::{Connectivity, keep_largest};
use crate::run::{RunFolder, mirror_axes};
use crate::tensor::Element;
use crate::volume::{
    LabelMap, check_labels_fit, ending_of, ending_to_write, read_geometry, write_labels,
};
use crate::words::counted;

/// Arguments of `voxseg predict`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg predict runs/atrium -i Dataset101_LeftAtrium/imagesTs -o predictions
  voxseg predict runs/atrium -i scan.nii.gz -o scan_segmentation.nii.gz
  voxseg predict runs/glioma -i flair.nii.gz -i t1c.nii.gz -o tumour.nii.gz --tta

A case that cannot be segmented does not keep the others from it: what went wrong is listed at the end, and the exit \
code is 2. Ctrl-C ends after the case in hand, a second one at once; no file is left half written.")]
pub struct PredictArgs {
    /// Folder of a run (`voxseg train -o`).
    pub run: PathBuf,
    /// Folder of images named CASE_0000.nii.gz (channels _0000, _0001, …) with any ending of their kind, or the image files of one case, one for each
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
    /// That with the best moving average of the validation Dice (0.9 of the last average, 0.1 of the new Dice), as
    /// nnU-Net has it: not the one with the best single Dice.
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
    check_paths(args)?;
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
    let outcome = predict_all(&model, args, output)?;
    let list = outcome.written.iter().map(|p| p.display().to_string());
    let list: Vec<String> = list.collect();
    let failed: Vec<String> = outcome.faults.iter().map(CliError::to_string).collect();
    let mut document = serde_json::json!({ "written": list, "failed": failed });
    if let Some(profile) = &profile {
        document["profile"] = serde_json::json!(profile);
    }
    let error = outcome.error();
    if list.is_empty() && error.as_ref().is_some_and(|error| !error.is_told()) {
        return error.map_or(Ok(()), Err);
    }
    output.result(&list.join("\n"), &document)?;
    error.map_or(Ok(()), Err)
}

/// Refuses what is no run of a network that segments, and images that are not there, before a device is opened.
fn check_paths(args: &PredictArgs) -> Result<(), CliError> {
    let wanted = "the folder that `voxseg train -o` wrote";
    if let Trained::Classifier(_) = Trained::at(&args.run, wanted)? {
        let problem =
            "is the run of a classifier, which segments nothing; use `voxseg classify predict`";
        return Err(CliError::input(&args.run, problem));
    }
    match args.input.iter().find(|path| !path.exists()) {
        Some(path) => Err(CliError::input(
            path,
            "no such file or folder; give a folder of images, or the images of one case",
        )),
        None => Ok(()),
    }
}

/// What became of the cases.
#[derive(Default)]
struct Outcome {
    written: Vec<PathBuf>,
    faults: Vec<CliError>,
    cases: usize,
    /// Whether the user ended it.
    is_stopped: bool,
}

impl Outcome {
    /// What is to be said beside the list of what was written.
    fn error(self) -> Option<CliError> {
        let written = format!(
            "{} of {} written",
            self.written.len(),
            counted(self.cases, "case")
        );
        if self.is_stopped {
            let message = format!("stopped with {written}; --continue-prediction does the rest");
            return Some(CliError::Partial {
                message,
                exit_code: INTERRUPTED,
            });
        }
        let error = match self.faults.len() {
            0 => return None,
            _ => CliError::Several(self.faults),
        };
        if self.written.is_empty() {
            return Some(error);
        }
        Some(CliError::Partial {
            message: format!("{error}\n{written}"),
            exit_code: error.exit_code(),
        })
    }
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

/// Segments and writes each case. A case that cannot be read or segmented by the user's fault is left out; where writing
/// fails or the device does, the rest would fare no better.
fn predict_all(model: &Model, args: &PredictArgs, output: &Output) -> Result<Outcome, CliError> {
    let options = InferenceOptions {
        step: args.step_size,
        mirror_axes: if args.tta {
            mirror_axes(model.plan())
        } else {
            Vec::new()
        },
    };
    let jobs = find_jobs(model, args, output)?;
    refuse_overwriting(&jobs)?;
    let bar = output.progress(jobs.len() as u64, 0, "cases");
    let interrupt = Interrupt::default();
    interrupt.listen();
    let mut outcome = Outcome {
        cases: jobs.len(),
        ..Outcome::default()
    };
    for job in jobs {
        if interrupt.is_up() {
            outcome.is_stopped = true;
            break;
        }
        if args.continue_prediction && job.output.exists() {
            bar.inc(1);
            continue;
        }
        let mut progress = |patch: usize, of: usize| {
            let ending = match interrupt.is_up() {
                true => "; stopping after this case, Ctrl-C stops at once",
                false => "",
            };
            bar.set_message(format!("{} patch {patch}/{of}{ending}", job.case.id));
        };
        let result = segment(model, args, &job.case, &options, &mut progress);
        match result {
            Ok(labels) => match write_labels(&job.output, &labels) {
                Ok(()) => outcome.written.push(job.output),
                Err(error) => {
                    outcome.faults.push(error.into());
                    break;
                }
            },
            Err(error) => {
                let is_over = error.exit_code() != 2;
                bar.suspend(|| output.news(&format!("warning: {error}")));
                outcome.faults.push(error);
                if is_over {
                    break;
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(outcome)
}

fn segment(
    model: &Model,
    args: &PredictArgs,
    case: &Case,
    options: &InferenceOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<LabelMap, CliError> {
    let labels = pollster::block_on(model.segment(case, options, progress));
    let labels = labels.map_err(|error| match error {
        InferError::Dataset(error) => blame_data(error, args, model.plan()),
        error => error.into(),
    })?;
    match args.largest_component {
        true => largest_component(labels),
        false => Ok(labels),
    }
}

/// Images that are not like those that the network was trained on: says what that were, since no dataset.json is at hand
/// that could be corrected.
fn blame_data(error: DatasetError, args: &PredictArgs, plan: &Plan) -> CliError {
    let trained = trained_on(args, plan);
    let (path, problem) = match error {
        DatasetError::MissingChannel { path, .. } => (path, "is not there".to_owned()),
        DatasetError::SurplusChannel { path, channel, .. } => {
            (path, format!("is channel {channel}, counted from 0"))
        }
        DatasetError::ChannelCount { path, found, .. } => {
            (path, format!("has {}", counted(found, "channel")))
        }
        DatasetError::OtherKind { path, .. } => (path, "is no such image".to_owned()),
        other => return other.into(),
    };
    CliError::input(&path, format!("{problem}, but {trained}"))
}

fn trained_on(args: &PredictArgs, plan: &Plan) -> String {
    format!("{} was trained on {}", args.run.display(), plan.data_text())
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
fn find_jobs(model: &Model, args: &PredictArgs, output: &Output) -> Result<Vec<Job>, CliError> {
    let plan = model.plan();
    let channels = plan.preprocessing.channels.len();
    let ending = ending_to_write(&plan.file_ending);
    // A file only where no folder has the name already.
    let file = Some(&args.output).filter(|path| ending_of(path).is_some() && !path.is_dir());
    if file.is_none() && args.output.exists() && !args.output.is_dir() {
        let problem = "is a file; give a folder, or a file that ends in .nii.gz";
        return Err(CliError::input(&args.output, problem));
    }
    // Each in the format of its image, the run's where that is not written.
    let in_folder = |case: &Case| {
        let own = case.images.first().and_then(|path| ending_of(path));
        let own = own
            .filter(|own| !own.eq_ignore_ascii_case(ending))
            .map(ending_to_write);
        args.output
            .join(format!("{}{}", case.id, own.unwrap_or(ending)))
    };
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
        let found = find_readable_images(folder, channels, &plan.file_ending)
            .map_err(|error| blame_data(error, args, plan))?;
        if found.cases.is_empty() {
            let first = found.left_out.first();
            let other = first.map_or(String::new(), |path| format!(", but {}", path.display()));
            let problem = format!(
                "no images to segment in it{other}; {}",
                trained_on(args, plan)
            );
            return Err(CliError::input(folder, problem));
        }
        for path in &found.left_out {
            output.news(&format!(
                "warning: {}: left out, images are named CASE_0000{}",
                path.display(),
                plan.file_ending
            ));
        }
        return Ok(found
            .cases
            .into_iter()
            .map(|case| Job {
                output: in_folder(&case),
                case,
            })
            .collect());
    }
    if let Some(other) = args.input.iter().find(|path| {
        let known = ending_of(path);
        known.is_some_and(|known| is_picture(known) != is_picture(&plan.file_ending))
    }) {
        let ending = plan.file_ending.clone();
        let path = other.clone();
        return Err(blame_data(
            DatasetError::OtherKind { path, ending },
            args,
            plan,
        ));
    }
    let one_picture = args.input.len() == 1 && is_picture(&plan.file_ending);
    if args.input.len() != channels && !one_picture {
        return Err(CliError::Usage(format!(
            "-i names {}, but {}; give a folder, or one file for each channel",
            counted(args.input.len(), "file"),
            trained_on(args, plan)
        )));
    }
    let case = Case {
        id: case_name(&args.input[0]),
        images: args.input.clone(),
        label: None,
    };
    let output = file.cloned().unwrap_or_else(|| in_folder(&case));
    check_labels_fit(&output, &read_geometry(&args.input[0])?)?;
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
