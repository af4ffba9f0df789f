//! Distances between the surfaces of two masks: HD95, NSD and ASSD in mm.
//!
//! A surface voxel is a voxel of the mask with at least one of its 6 face neighbours outside the
//! mask; what lies beyond the image is outside. In a 2D image (D = 1) the depth axis has no
//! neighbours, so 4 remain. Each surface voxel has weight one and lies at its centre. This is the
//! voxel definition that MONAI's surface metrics use by default (a mask minus its erosion by the
//! 6-neighbourhood); DeepMind's surface-distance weights surface elements by area instead, and its
//! figures differ a little.

use super::edt;
use super::grid::Bounds;
use super::{Class, Grid, Label, MetricsError};

/// Spacings in NIfTI headers are f32: a tolerance of 2.4 mm must hold two voxels of 1.2f32 mm,
/// which are 2.4000001 mm.
const SPACING_PRECISION: f64 = 1e-6;

/// Distances in mm from every surface voxel of one mask to the nearest of the other, both ways,
/// ascending. Neither list is empty.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    to_truth: Vec<f64>,
    to_prediction: Vec<f64>,
}

impl SurfaceDistances {
    /// Distances between two masks of D·H·W flags; `None` where one of them is empty, because then
    /// no distance is defined.
    ///
    /// # Errors
    /// [`MetricsError::Length`] where a mask does not fit the grid.
    pub fn between(
        prediction: &[bool],
        truth: &[bool],
        grid: &Grid,
    ) -> Result<Option<Self>, MetricsError> {
        grid.check_len("prediction", prediction.len())?;
        grid.check_len("truth", truth.len())?;
        Self::of_surfaces(
            surface(prediction, grid.shape(), grid.is_flat()),
            surface(truth, grid.shape(), grid.is_flat()),
            grid,
        )
    }

    /// The same for a class of two label arrays, computed inside the box around both masks. Nothing
    /// is lost by that: every voxel that counts, source or query, lies in the box.
    pub(crate) fn of_class<P: Label, T: Label>(
        (prediction, truth): (&[P], &[T]),
        grid: &Grid,
        class: &Class,
        ignore: Option<u32>,
        bounds: Bounds,
    ) -> Result<Option<Self>, MetricsError> {
        let crop = Grid::new(bounds.shape(), grid.spacing())?;
        let counts_at = |i: usize| ignore != Some(truth[i].into());
        let prediction = crop_surface(grid, bounds, |i| {
            class.contains(prediction[i].into()) && counts_at(i)
        });
        let truth = crop_surface(grid, bounds, |i| {
            class.contains(truth[i].into()) && counts_at(i)
        });
        Self::of_surfaces(prediction, truth, &crop)
    }

    fn of_surfaces(
        prediction: Vec<bool>,
        truth: Vec<bool>,
        grid: &Grid,
    ) -> Result<Option<Self>, MetricsError> {
        let sorted = |sources, queries| -> Result<Vec<f64>, MetricsError> {
            let mut found = edt::distances(sources, queries, grid)?;
            found.sort_unstable_by(f64::total_cmp);
            Ok(found)
        };
        if !prediction.contains(&true) || !truth.contains(&true) {
            return Ok(None);
        }
        Ok(Some(Self {
            to_truth: sorted(&truth, &prediction)?,
            to_prediction: sorted(&prediction, &truth)?,
        }))
    }

    /// The larger of the two directed percentiles in mm; `percent` is 0 to 100, and values between
    /// two ranks are interpolated linearly. 100 is the Hausdorff distance.
    pub fn hausdorff_mm(&self, percent: f64) -> f64 {
        percentile(&self.to_truth, percent).max(percentile(&self.to_prediction, percent))
    }

    /// HD95 in mm: the larger of the two directed 95th percentiles.
    pub fn hd95_mm(&self) -> f64 {
        self.hausdorff_mm(95.0)
    }

    /// Normalised surface Dice: the share, 0 to 1, of all surface voxels of both masks that lie at
    /// most `tolerance_mm` from the other surface (Nikolov et al., arXiv:1809.04430).
    pub fn nsd(&self, tolerance_mm: f64) -> f64 {
        let reach = tolerance_mm * (1.0 + SPACING_PRECISION);
        let within = |sorted: &[f64]| sorted.partition_point(|&d| d <= reach);
        let near = within(&self.to_truth) + within(&self.to_prediction);
        near as f64 / (self.to_truth.len() + self.to_prediction.len()) as f64
    }
}

/// Value below which `percent` of the ascending, non-empty `sorted` lie.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (sorted.len() - 1) as f64 * percent.clamp(0.0, 100.0) / 100.0;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    below + (above - below) * rank.fract()
}

/// Surface of the mask that `in_mask` gives by linear index of the image, cropped to `bounds`.
fn crop_surface(grid: &Grid, bounds: Bounds, in_mask: impl Fn(usize) -> bool) -> Vec<bool> {
    let mask: Vec<bool> = voxels_of(bounds, grid.shape()).map(in_mask).collect();
    surface(&mask, bounds.shape(), grid.is_flat())
}

/// Linear indices of the voxels of a box inside an image of `shape` `[D, H, W]`, W fastest.
fn voxels_of(bounds: Bounds, [_, height, width]: [usize; 3]) -> impl Iterator<Item = usize> {
    let Bounds { lo, hi } = bounds;
    (lo[0]..hi[0]).flat_map(move |d| {
        (lo[1]..hi[1]).flat_map(move |h| {
            let row = (d * height + h) * width;
            row + lo[2]..row + hi[2]
        })
    })
}

/// Marks the surface voxels of a mask of `shape` `[D, H, W]`; `flat` leaves the depth axis out.
fn surface(mask: &[bool], [depth, height, width]: [usize; 3], flat: bool) -> Vec<bool> {
    let plane = height * width;
    let inside = |i: usize, at: usize, len: usize, stride: usize| {
        at > 0 && at + 1 < len && mask[i - stride] && mask[i + stride]
    };
    let mut marked = vec![false; mask.len()];
    for d in 0..depth {
        for h in 0..height {
            let row = d * plane + h * width;
            for w in (0..width).filter(|w| mask[row + w]) {
                let i = row + w;
                marked[i] = !(inside(i, w, width, 1)
                    && inside(i, h, height, width)
                    && (flat || inside(i, d, depth, plane)));
            }
        }
    }
    marked
}
