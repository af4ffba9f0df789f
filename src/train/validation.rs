//! Validation: a quick look while training, and the whole of it at the end.

use std::path::Path;

use super::error::TrainError;
use super::log::LogLine;
use super::session::{Event, Look};
use crate::dataset::{
    Bounds, Case, CropAndResample, Labels, PreparedCase, RestoredLabels, is_picture, load_case,
};
use crate::infer::{InferenceOptions, Predictor};
use crate::metrics::{Class, Counts, Evaluation, Grid, Settings, Unit, class_counts};
use crate::report::evaluated::{EvaluatedCases, PredictedCase};
use crate::run::classes_of;
use crate::volume::{LabelMap, ending_of, ending_to_write, write_labels};

/// Cases shown in the picture of a run.
const PICTURED: usize = 4;

/// Predicts validation cases with the weights that are being trained.
pub(super) struct Validator {
    predictor: Predictor,
    cases: Vec<(Case, PreparedCase)>,
    labels: Labels,
    classes: Vec<Class>,
    options: InferenceOptions,
    /// Cases looked at while training.
    most: usize,
}

impl Validator {
    pub fn new(
        predictor: Predictor,
        cases: Vec<(Case, PreparedCase)>,
        labels: Labels,
        most: usize,
    ) -> Self {
        Self {
            most,
            predictor,
            cases,
            classes: classes_of(&labels),
            labels,
            options: InferenceOptions::default(),
        }
    }

    /// Dice of each foreground class over the voxels of the first cases together, on the network's grid (nnU-Net's
    /// pseudo Dice); `None` for a class that neither truth nor prediction has.
    async fn dice(&self) -> Result<Vec<Option<f64>>, TrainError> {
        let mut sums = vec![Counts::default(); self.classes.len()];
        for (_, case) in self.cases.iter().take(self.most.max(1)) {
            let shape = case.shape();
            let patch = case.read()?;
            let found = self.labels_of(&patch.image, same_grid(shape)).await?;
            let truth: Vec<u32> = patch.label.iter().map(|&v| v as u32).collect();
            let grid = Grid::new(shape, case.record().spacing)?;
            let counts = class_counts(&found, &truth, &grid, &self.classes, self.labels.ignore)?;
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        Ok(sums
            .iter()
            .map(|c| (c.n_pred() + c.n_ref() > 0).then(|| c.dice()))
            .collect())
    }

    /// Predicts every case in the geometry of its file, writes the label maps to `folder` and a picture to `picture`,
    /// and measures them.
    pub async fn evaluate(
        &self,
        folder: &Path,
        picture: &Path,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Evaluation, TrainError> {
        let settings = Settings::new(self.classes.clone())?
            .with_ignore(self.labels.ignore)
            .with_unit(self.unit());
        let mut cases = EvaluatedCases::new(settings, PICTURED);
        observe(Event::Validated(0, self.cases.len()));
        for (i, (case, prepared)) in self.cases.iter().enumerate() {
            cases.add(self.predict(case, prepared, folder).await?)?;
            observe(Event::Validated(i + 1, self.cases.len()));
        }
        cases.write_picture(picture)?;
        Ok(cases.evaluation()?)
    }

    /// Pictures have no spacing.
    fn unit(&self) -> Unit {
        let images = self.cases.iter().flat_map(|(case, _)| &case.images);
        let mut endings = images.map(|path| ending_of(path).unwrap_or_default());
        match endings.all(is_picture) {
            true => Unit::Pixels,
            false => Unit::Millimetres,
        }
    }

    async fn predict(
        &self,
        case: &Case,
        prepared: &PreparedCase,
        folder: &Path,
    ) -> Result<PredictedCase, TrainError> {
        let loaded = load_case(case, prepared.channels(), &self.labels)?;
        let found = self
            .labels_of(&prepared.read()?.image, *prepared.record())
            .await?;
        let ending = case
            .images
            .first()
            .and_then(|p| ending_of(p))
            .unwrap_or(".nii.gz");
        let map = LabelMap::new(loaded.geometry.clone(), found)?;
        let name = format!("{}{}", case.id, ending_to_write(ending));
        write_labels(folder.join(name), &map)?;
        let geometry = loaded.geometry;
        Ok(PredictedCase {
            name: case.id.clone(),
            image: loaded.image,
            truth: loaded.label.unwrap_or_default(),
            prediction: map.into_parts().1,
            grid: Grid::new(geometry.shape(), geometry.spacing())?,
            rows_upwards: !is_picture(ending),
        })
    }

    async fn labels_of(
        &self,
        image: &[f32],
        record: CropAndResample,
    ) -> Result<Vec<u32>, TrainError> {
        let mut restored = RestoredLabels::new(record, &self.labels);
        let mut restore = |slices| restored.add(slices);
        let (shape, ignore) = (record.resampled_shape, &mut || ());
        self.predictor
            .predict_slices(image, shape, &self.options, ignore, &mut restore)
            .await?;
        Ok(restored.finish()?)
    }
}

impl Look for Validator {
    /// nnU-Net's pseudo Dice is such an average.
    const KEEP: f64 = 0.9;

    async fn look(&self, step: u64) -> Result<(f64, LogLine), TrainError> {
        let classes = self.dice().await?;
        let dice = mean(&classes);
        let line = LogLine::Validation {
            step,
            dice,
            classes,
        };
        Ok((dice, line))
    }
}

/// The mean over the classes that were there to score; 0 where none was.
fn mean(classes: &[Option<f64>]) -> f64 {
    let found: Vec<f64> = classes.iter().copied().flatten().collect();
    found.iter().sum::<f64>() / found.len().max(1) as f64
}

/// The record of a volume that is neither cropped nor resampled.
fn same_grid(shape: [usize; 3]) -> CropAndResample {
    CropAndResample {
        original_shape: shape,
        bounds: Bounds {
            start: [0; 3],
            extent: shape,
        },
        resampled_shape: shape,
        original_spacing: [1.0; 3],
        spacing: [1.0; 3],
    }
}
