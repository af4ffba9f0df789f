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
use crate::dataset::is_picture;
use crate::fsio::write_atomic;
use crate::metrics::{CaseResult, Evaluation, Grid, Settings, Unit, evaluate_case, missing_case};
use crate::volume::{LabelMap, check_same_geometry, ending_of, read_labels};

/// Arguments of `voxseg evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  voxseg evaluate OUT DATASET/labelsTs
  voxseg evaluate OUT DATASET/labelsTs --csv cases.csv --output summary.json
  voxseg evaluate case_1.nii.gz truth/case_1.nii.gz --tolerance 1 --json

The cases are the files of TRUTH; the prediction of a case has the same name, in any format. A case \
without a prediction counts as failure. Class names, regions and the ignore label come from \
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
    /// Distance in mm (in pixels for PNG and TIFF, which have no spacing) up to which two surfaces count as equal in the
    /// NSD.
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
        output.result(&evaluation.to_text(), &document)?;
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
/// All that is wrong with the cases, in their order: unreadable files, labels that dataset.json does not name,
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
    let classes = classes
        .with_tolerance(args.tolerance)?
        .with_unit(unit_of(&pairing.cases));
    let progress = output.progress(pairing.cases.len() as u64, 0, "cases");
    let mut results = Vec::with_capacity(pairing.cases.len());
    let mut faults = Vec::new();
    for batch in pairing.cases.chunks(rayon::current_num_threads()) {
        // Once there is no result to be had, all faults are looked for without measuring the rest.
        let is_lost = !faults.is_empty();
        let measured: Vec<_> = batch
            .par_iter()
            .map(|case| {
                let pair = Pair::read(case, &classes);
                let result = pair.and_then(|pair| match is_lost {
                    true => Ok(None),
                    false => pair.measure(case, &classes).map(Some),
                });
                progress.inc(1);
                result
            })
            .collect();
        for (case, result) in batch.iter().zip(measured) {
            match result {
                Ok(Some((result, strangers))) => {
                    warn_of_strangers(case, &strangers, output);
                    results.push(result);
                }
                Ok(None) => {}
                Err(error) => faults.push(error),
            }
        }
    }
    progress.finish_and_clear();
    match faults.is_empty() {
        true => Ok(Evaluation::new(classes.settings, results)?),
        false => Err(CliError::Several(faults)),
    }
}

/// Pictures have no spacing.
fn unit_of(cases: &[CaseFiles]) -> Unit {
    let mut endings = cases.iter().map(|case| ending_of(&case.truth));
    match endings.all(|ending| ending.is_some_and(is_picture)) {
        true => Unit::Pixels,
        false => Unit::Millimetres,
    }
}

/// The label maps of a case, checked.
struct Pair {
    truth: LabelMap,
    grid: Grid,
    prediction: Option<LabelMap>,
}

impl Pair {
    fn read(case: &CaseFiles, classes: &Classes) -> Result<Self, CliError> {
        let truth = read_labels(&case.truth)?;
        classes.check(&case.truth, &truth)?;
        let blame = |e| CliError::input(&case.truth, e);
        let grid = Grid::new(truth.shape(), truth.geometry().spacing()).map_err(blame)?;
        let prediction = case.prediction.as_ref().map(|path| {
            let prediction = read_labels(path)?;
            check_same_geometry(path, prediction.geometry(), &case.truth, truth.geometry())?;
            classes.check(path, &prediction)?;
            Ok::<_, CliError>(prediction)
        });
        Ok(Self {
            prediction: prediction.transpose()?,
            truth,
            grid,
        })
    }

    /// The figures of the case, and the labels of its prediction that no class has.
    fn measure(
        &self,
        case: &CaseFiles,
        classes: &Classes,
    ) -> Result<(CaseResult, BTreeSet<u32>), CliError> {
        let (name, truth, settings) = (&case.name, self.truth.labels(), &classes.settings);
        let Some(prediction) = &self.prediction else {
            let result = missing_case(name, truth, &self.grid, settings);
            return Ok((result?, BTreeSet::new()));
        };
        let strangers = classes.strangers(&labels_of(prediction));
        let result = evaluate_case(name, prediction.labels(), truth, &self.grid, settings)?;
        Ok((result, strangers))
    }
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
