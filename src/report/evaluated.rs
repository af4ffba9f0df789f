//! Cases that are measured one after another, the first of them kept for a picture.

use std::io;
use std::path::Path;

use super::picture::{PictureCase, PictureError, write_picture};
use crate::fsio::write_atomic;
use crate::metrics::{
    CaseResult, Convention, Evaluation, Grid, MetricsError, Settings, evaluate_case,
};

/// A predicted case in the geometry of its file.
#[derive(Debug, Clone)]
pub struct PredictedCase {
    /// Its name.
    pub name: String,
    /// All channels, C·D·H·W; the first is shown.
    pub image: Vec<f32>,
    /// Labels, D·H·W.
    pub truth: Vec<u32>,
    /// Labels, D·H·W.
    pub prediction: Vec<u32>,
    /// Shape and spacing of all three.
    pub grid: Grid,
    /// As [`PictureCase::rows_upwards`].
    pub rows_upwards: bool,
}

/// What has been measured so far. Only the cases that are shown stay in memory.
#[derive(Debug)]
pub struct EvaluatedCases {
    settings: Settings,
    results: Vec<CaseResult>,
    shown: Vec<PredictedCase>,
    most_shown: usize,
}

impl EvaluatedCases {
    /// No case yet; the first `most_shown` will be in the picture.
    pub fn new(settings: Settings, most_shown: usize) -> Self {
        Self {
            settings,
            results: Vec::new(),
            shown: Vec::new(),
            most_shown,
        }
    }

    /// Measures a case.
    ///
    /// # Errors
    /// Those of [`evaluate_case`].
    pub fn add(&mut self, case: PredictedCase) -> Result<(), MetricsError> {
        let (found, truth) = (&case.prediction, &case.truth);
        let result = evaluate_case(&case.name, found, truth, &case.grid, &self.settings)?;
        self.results.push(result);
        if self.shown.len() < self.most_shown {
            self.shown.push(case);
        }
        Ok(())
    }

    /// Draws the first cases, a row each ([`write_picture`]).
    ///
    /// # Errors
    /// Those of [`write_picture`]; [`PictureError::NoCase`] where none was added.
    pub fn write_picture(&self, path: &Path) -> Result<(), PictureError> {
        let cases: Vec<PictureCase<'_, u32>> = self
            .shown
            .iter()
            .zip(&self.results)
            .map(|(case, result)| PictureCase {
                name: &case.name,
                image: case.image.get(..case.grid.voxels()).unwrap_or(&case.image),
                truth: &case.truth,
                prediction: Some(&case.prediction),
                grid: case.grid,
                dice: Some(result.mean(Convention::FailureCounts).dice),
                rows_upwards: case.rows_upwards,
            })
            .collect();
        write_picture(path, &cases, self.settings.classes())
    }

    /// The figures of all cases.
    ///
    /// # Errors
    /// Those of [`Evaluation::new`].
    pub fn evaluation(self) -> Result<Evaluation, MetricsError> {
        Evaluation::new(self.settings, self.results)
    }
}

/// Writes an evaluation as JSON ([`Evaluation::to_json`]), whole or not at all.
///
/// # Errors
/// Those of the file system.
pub fn write_evaluation(path: &Path, evaluation: &Evaluation) -> io::Result<()> {
    write_atomic(path, |file| writeln!(file, "{:#}", evaluation.to_json()))
}
