//! Validation: a quick look while training, and the whole of it at the end.

use std::path::Path;

use super::error::TrainError;
use super::session::Event;
use crate::dataset::{Bounds, Case, CropAndResample, Labels, PreparedCase, load_case};
use crate::infer::{InferenceOptions, Predictor};
use crate::metrics::{
    CaseResult, Class, Convention, Counts, Evaluation, Grid, Settings, class_counts, evaluate_case,
};
use crate::report::picture::{PictureCase, write_picture};
use crate::run::classes_of;
use crate::volume::{Geometry, LabelMap, ending_of, write_labels};

/// Cases shown in the picture of a run.
const PICTURED: usize = 4;

/// Predicts validation cases with the weights that are being trained.
pub(super) struct Validator {
    predictor: Predictor,
    cases: Vec<(Case, PreparedCase)>,
    labels: Labels,
    classes: Vec<Class>,
    options: InferenceOptions,
}

impl Validator {
    pub fn new(predictor: Predictor, cases: Vec<(Case, PreparedCase)>, labels: Labels) -> Self {
        Self {
            predictor,
            cases,
            classes: classes_of(&labels),
            labels,
            options: InferenceOptions::default(),
        }
    }

    /// Dice of each foreground class over the voxels of the first `most` cases together, on the network's grid (nnU-Net's
    /// pseudo Dice); `None` for a class that neither truth nor prediction has.
    pub async fn dice(&self, most: usize) -> Result<Vec<Option<f64>>, TrainError> {
        let mut sums = vec![Counts::default(); self.classes.len()];
        for (_, case) in self.cases.iter().take(most.max(1)) {
            let shape = case.shape();
            let patch = case.read()?;
            let logits = self.logits(&patch.image, shape).await?;
            let found = same_grid(shape).restore_labels(&logits, &self.labels)?;
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
        let settings = Settings::new(self.classes.clone())?.with_ignore(self.labels.ignore);
        let mut results = Vec::new();
        let mut shown = Vec::new();
        for (i, (case, prepared)) in self.cases.iter().enumerate() {
            let seen = self.predict(case, prepared, folder).await?;
            let grid = Grid::new(seen.geometry.shape(), seen.geometry.spacing())?;
            let result = evaluate_case(&case.id, &seen.found, &seen.truth, &grid, &settings)?;
            results.push(result.clone());
            if shown.len() < PICTURED {
                shown.push((seen, grid, result));
            }
            observe(Event::Validated(i + 1, self.cases.len()));
        }
        draw(picture, &shown, &self.classes)?;
        Ok(Evaluation::new(settings, results)?)
    }

    async fn predict(
        &self,
        case: &Case,
        prepared: &PreparedCase,
        folder: &Path,
    ) -> Result<Seen, TrainError> {
        let loaded = load_case(case, prepared.channels(), &self.labels)?;
        let logits = self
            .logits(&prepared.read()?.image, prepared.shape())
            .await?;
        let found = prepared.record().restore_labels(&logits, &self.labels)?;
        let ending = case
            .images
            .first()
            .and_then(|p| ending_of(p))
            .unwrap_or(".nii.gz");
        let map = LabelMap::new(loaded.geometry.clone(), found)?;
        write_labels(folder.join(format!("{}{ending}", case.id)), &map)?;
        Ok(Seen {
            id: case.id.clone(),
            rows_upwards: ending.starts_with(".nii") || ending == ".hdr",
            image: loaded.image,
            truth: loaded.label.unwrap_or_default(),
            found: map.into_parts().1,
            geometry: loaded.geometry,
        })
    }

    async fn logits(&self, image: &[f32], shape: [usize; 3]) -> Result<Vec<f32>, TrainError> {
        Ok(self
            .predictor
            .predict(image, shape, &self.options, &mut || ())
            .await?)
    }
}

/// A predicted case in the geometry of its file.
struct Seen {
    id: String,
    rows_upwards: bool,
    image: Vec<f32>,
    truth: Vec<u32>,
    found: Vec<u32>,
    geometry: Geometry,
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

fn draw(
    path: &Path,
    shown: &[(Seen, Grid, CaseResult)],
    classes: &[Class],
) -> Result<(), TrainError> {
    let cases: Vec<PictureCase<'_, u32>> = shown
        .iter()
        .map(|(seen, grid, result)| PictureCase {
            name: &seen.id,
            image: &seen.image[..grid.voxels()],
            truth: &seen.truth,
            prediction: Some(&seen.found),
            grid: *grid,
            dice: Some(result.mean(Convention::FailureCounts).dice),
            rows_upwards: seen.rows_upwards,
        })
        .collect();
    Ok(write_picture(path, &cases, classes)?)
}
