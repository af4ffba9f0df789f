//! `voxseg evaluate`: how good segmentations are.

mod cases;
mod classes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;

use self::cases::{CaseFiles, Pairing};
use self::classes::{Classes, labels_of};
use super::{CliError, Output};
use crate::fsio::write_atomic;
use crate::metrics::{CaseResult, Evaluation, Grid, Settings, evaluate_case, missing_case};
use crate::volume::{check_same_geometry, read_labels};

/// Arguments of `voxseg evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  voxseg evaluate OUT DATASET/labelsTs
  voxseg evaluate OUT DATASET/labelsTs --csv cases.csv --output summary.json
  voxseg evaluate case_1.nii.gz truth/case_1.nii.gz --tolerance 1 --json

The cases are the files of TRUTH; the prediction of a case has the same name, in any format. A case
without a prediction counts as failure. Class names, regions and the ignore label come from
dataset.json; without one every label of the truth files is a class.")]
pub struct EvaluateArgs {
    /// Predictions: a folder of label files, or one file.
    #[arg(value_name = "PRED")]
    pub prediction: PathBuf,
    /// Truth: a folder of label files, or one file.
    #[arg(value_name = "TRUTH")]
    pub truth: PathBuf,
    /// dataset.json or its folder [default: looked for in and above TRUTH, then PRED].
    #[arg(long, value_name = "FOLDER|FILE")]
    pub dataset: Option<PathBuf>,
    /// Distance in mm up to which two surfaces count as equal in the NSD.
    #[arg(long, value_name = "MM", default_value_t = Settings::NSD_TOLERANCE_MM, allow_negative_numbers = true)]
    pub tolerance: f64,
    /// Write one line per case and class.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the JSON document that --json prints.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// As [`evaluate`]; [`CliError::Io`] where a file cannot be written.
pub fn run(args: &EvaluateArgs, output: &Output) -> Result<(), CliError> {
    for path in args.csv.iter().chain(&args.output) {
        if path.is_dir() {
            return Err(CliError::input(
                path,
                "is a folder; give the name of a file",
            ));
        }
    }
    let evaluation = evaluate(args, output)?;
    let document = evaluation.to_json();
    let written = write(args.csv.as_deref(), &evaluation.to_csv())
        .and_then(|()| write(args.output.as_deref(), &format!("{document:#}\n")));
    // A table that took minutes is shown even where its file cannot be written.
    if written.is_ok() || !output.is_json() {
        output.result(&evaluation.to_text(), &document);
    }
    written
}

fn write(path: Option<&Path>, text: &str) -> Result<(), CliError> {
    path.map_or(Ok(()), |path| {
        write_atomic(path, |file| file.write_all(text.as_bytes()))
            .map_err(|e| CliError::written(path, e))
    })
}

/// Measures every case of `args.truth` against its prediction; warnings and progress go to `output`.
///
/// Cases are measured in parallel, as many at a time as there are threads, so that memory holds no
/// more of them; the result and the error do not depend on their number.
///
/// # Errors
/// The first in the order of the cases: unreadable files, labels that dataset.json does not name,
/// geometries that differ; before them, folders without label files or without a common name.
pub fn evaluate(args: &EvaluateArgs, output: &Output) -> Result<Evaluation, CliError> {
    let description = classes::find_description(args)?;
    let ending = description.as_ref().map(|d| d.file_ending.as_str());
    let pairing = Pairing::find(&args.prediction, &args.truth, ending)?;
    pairing.warn(output);
    let classes = match &description {
        Some(description) => Classes::named(&description.labels)?,
        None => Classes::found_in(&pairing.cases, &args.truth)?,
    };
    let classes = classes.with_tolerance(args.tolerance)?;
    let progress = output.progress(pairing.cases.len() as u64, "cases");
    let mut results = Vec::with_capacity(pairing.cases.len());
    for batch in pairing.cases.chunks(rayon::current_num_threads()) {
        let measured: Vec<_> = batch
            .par_iter()
            .map(|case| measure(case, &classes).inspect(|_| progress.inc(1)))
            .collect();
        for (case, result) in batch.iter().zip(measured) {
            let (result, strangers) = result?;
            warn_of_strangers(case, &strangers, output);
            results.push(result);
        }
    }
    progress.finish_and_clear();
    Ok(Evaluation::new(classes.settings, results)?)
}

/// The figures of a case, and the labels of its prediction that no class has.
fn measure(case: &CaseFiles, classes: &Classes) -> Result<(CaseResult, BTreeSet<u32>), CliError> {
    let truth = read_labels(&case.truth)?;
    classes.check(&case.truth, &truth)?;
    let blame = |e| CliError::input(&case.truth, e);
    let grid = Grid::new(truth.shape(), truth.geometry().spacing()).map_err(blame)?;
    let settings = &classes.settings;
    let Some(path) = &case.prediction else {
        let result = missing_case(&case.name, truth.labels(), &grid, settings);
        return Ok((result?, BTreeSet::new()));
    };
    let prediction = read_labels(path)?;
    check_same_geometry(path, prediction.geometry(), &case.truth, truth.geometry())?;
    classes.check(path, &prediction)?;
    let strangers = classes.strangers(&labels_of(&prediction));
    let result = evaluate_case(
        &case.name,
        prediction.labels(),
        truth.labels(),
        &grid,
        settings,
    )?;
    Ok((result, strangers))
}

fn warn_of_strangers(case: &CaseFiles, strangers: &BTreeSet<u32>, output: &Output) {
    if let (Some(path), false) = (&case.prediction, strangers.is_empty()) {
        output.news(&format!(
            "warning: {}: label(s) {} are in no truth file and are not measured; name the classes with --dataset",
            path.display(),
            classes::list(strangers),
        ));
    }
}
