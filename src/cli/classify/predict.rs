//! `voxseg classify predict`: the class of each image.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{CliError, Common, Output};
use crate::classify::{Classified, Classifier, ClassifyError, images_in};
use crate::cli::error::INTERRUPTED;
use crate::cli::interrupt::Interrupt;
use crate::cli::predict::Checkpoint;
use crate::fsio::write_atomic;
use crate::gpu::Gpu;
use crate::tensor::Element;
use crate::words::counted;

/// Arguments of `voxseg classify predict`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  voxseg classify predict runs/skin lesion.png
  voxseg classify predict runs/skin new/ -o new.csv
  voxseg classify predict runs/skin a.png b.png --json

Prints a CSV line for each image: its path, the most probable class, and the probability of each class. An image that \
cannot be read does not keep the others from being classified: what went wrong is listed at the end, and the exit code is 2.")]
pub struct PredictArgs {
    /// Folder of a run (`voxseg classify train -o`).
    pub run: PathBuf,
    /// Images, and folders whose images are taken.
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    pub images: Vec<PathBuf>,
    /// File for the CSV lines instead of stdout.
    #[arg(short, long, value_name = "OUT.csv")]
    pub output: Option<PathBuf>,
    /// Which checkpoint of the run; the best is that with the best validation accuracy.
    #[arg(long, value_enum, default_value_t = Checkpoint::Final)]
    pub checkpoint: Checkpoint,
    /// How activations are stored, f32 or f16: f16 takes about half of the memory, on adapters that have it, whatever the
    /// network was trained with.
    #[arg(long, value_name = "TYPE", default_value_t = Element::F32)]
    pub precision: Element,
}

/// What became of the images.
#[derive(Default)]
struct Outcome {
    found: Vec<(PathBuf, Classified)>,
    faults: Vec<CliError>,
    is_stopped: bool,
}

/// Runs the verb.
///
/// # Errors
/// Those of reading, the device and writing.
pub fn run(args: &PredictArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    let images = find_images(args)?;
    let gpu = pollster::block_on(Gpu::open(&common.gpu_options()))?;
    output.news(&format!("adapter: {}", gpu.describe()));
    let classifier = Classifier::load_as(&args.run, args.checkpoint.into(), args.precision, gpu)?;
    let (path, step) = classifier.checkpoint();
    output.news(&format!("weights: {} of step {step}", path.display()));
    let outcome = classify_all(&classifier, &images, output)?;
    let classes = &classifier.description().classes;
    let csv = csv(classes, &outcome.found).map_err(|e| CliError::Stdout(e.into()))?;
    if let Some(path) = &args.output {
        let written = write_atomic(path, |w| w.write_all(csv.as_bytes()));
        written.map_err(|e| CliError::written(path, e))?;
    }
    let cases = outcome.found.iter().map(|(path, said)| {
        let each = classes.iter().zip(&said.probabilities);
        let each: serde_json::Map<_, _> = each.map(|(c, &p)| (c.clone(), json!(p))).collect();
        let image = path.display().to_string();
        json!({"image": image, "class": classes[said.class], "probabilities": each})
    });
    let failed: Vec<String> = outcome.faults.iter().map(CliError::to_string).collect();
    let document = json!({"images": cases.collect::<Vec<_>>(), "failed": failed});
    let text = match &args.output {
        None => csv,
        Some(path) => path.display().to_string(),
    };
    let is_empty = outcome.found.is_empty();
    let error = outcome.error(images.len());
    if is_empty && let Some(error) = error {
        return Err(error);
    }
    output.result(&text, &document)?;
    error.map_or(Ok(()), Err)
}

impl Outcome {
    /// What is to be said beside what was found.
    fn error(self, of: usize) -> Option<CliError> {
        let done = format!(
            "{} of {} classified",
            self.found.len(),
            counted(of, "image")
        );
        if self.is_stopped {
            return Some(CliError::Partial {
                message: format!("stopped with {done}"),
                exit_code: INTERRUPTED,
            });
        }
        if self.faults.is_empty() {
            return None;
        }
        let error = CliError::Several(self.faults);
        if self.found.is_empty() {
            return Some(error);
        }
        Some(CliError::Partial {
            message: format!("{error}\n{done}"),
            exit_code: error.exit_code(),
        })
    }
}

fn find_images(args: &PredictArgs) -> Result<Vec<PathBuf>, CliError> {
    let mut images = Vec::new();
    for path in &args.images {
        if !path.is_dir() {
            images.push(path.clone());
            continue;
        }
        let found = images_in(path)?;
        if found.is_empty() {
            let problem = "holds no image that can be read; give a folder with images, or the images themselves";
            return Err(CliError::input(path, problem));
        }
        images.extend(found);
    }
    Ok(images)
}

fn classify_all(
    classifier: &Classifier,
    images: &[PathBuf],
    output: &Output,
) -> Result<Outcome, CliError> {
    let bar = output.progress(images.len() as u64, 0, "images");
    let interrupt = Interrupt::default();
    interrupt.listen();
    let mut outcome = Outcome::default();
    let mut each = |path: &Path, said: Result<Classified, ClassifyError>| {
        match said {
            Ok(said) => outcome.found.push((path.to_owned(), said)),
            Err(error) => {
                let error = CliError::from(error);
                bar.suspend(|| output.news(&format!("warning: {error}")));
                outcome.faults.push(error);
            }
        }
        bar.inc(1);
        outcome.is_stopped = interrupt.is_up();
        !outcome.is_stopped
    };
    let result = pollster::block_on(classifier.classify(images, &mut each));
    bar.finish_and_clear();
    result?;
    Ok(outcome)
}

/// A header and a line of CSV for each image.
fn csv(classes: &[String], found: &[(PathBuf, Classified)]) -> csv::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let known = ["image", "class"].into_iter();
    writer.write_record(known.chain(classes.iter().map(String::as_str)))?;
    for (path, said) in found {
        let shares = said.probabilities.iter().map(|p| format!("{p:.6}"));
        let known = [path.display().to_string(), classes[said.class].clone()];
        writer.write_record(known.into_iter().chain(shares))?;
    }
    let bytes = writer.into_inner().map_err(|e| e.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
