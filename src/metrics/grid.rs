//! The lattice that label arrays live on: shape and spacing, checked once.

use super::MetricsError;

/// Shape `[D, H, W]` in voxels and spacing `[D, H, W]` in mm of an image; W varies fastest.
///
/// A 2D image has D = 1: it is flat, so the depth axis adds neither boundary nor distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    shape: [usize; 3],
    spacing: [f64; 3],
}

/// Spacings beyond these are damaged headers, and their squares would leave the range of f64.
const SPACING_RANGE_MM: std::ops::RangeInclusive<f64> = 1e-9..=1e9;

/// The distance transform counts slices in 16 bits, with one value kept for "none".
const MAX_DEPTH: usize = u16::MAX as usize - 1;

impl Grid {
    /// Checks and keeps `shape` `[D, H, W]` (voxels) and `spacing` `[D, H, W]` (mm).
    ///
    /// # Errors
    /// [`MetricsError::Shape`] where an axis is 0, D exceeds 65534 or D·H·W overflows;
    /// [`MetricsError::Spacing`] where a spacing is not a number between 1e-9 and 1e9 mm.
    pub fn new(shape: [usize; 3], spacing: [f64; 3]) -> Result<Self, MetricsError> {
        let voxels = shape
            .iter()
            .try_fold(1usize, |product, &n| product.checked_mul(n));
        if voxels.is_none_or(|n| n == 0) || shape[0] > MAX_DEPTH {
            return Err(MetricsError::Shape { shape });
        }
        if !spacing.iter().all(|s| SPACING_RANGE_MM.contains(s)) {
            return Err(MetricsError::Spacing { spacing });
        }
        Ok(Self { shape, spacing })
    }

    /// `[D, H, W]` in voxels.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// `[D, H, W]` in mm.
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// D·H·W.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether this is a 2D image (D = 1).
    pub fn is_flat(&self) -> bool {
        self.shape[0] == 1
    }

    /// Distance in mm between the centres of two opposite corner voxels: no distance between two
    /// voxels of the image is larger, so it serves as the HD95 of a failed case.
    pub fn diagonal_mm(&self) -> f64 {
        self.shape
            .iter()
            .zip(self.spacing)
            .map(|(&n, s)| ((n - 1) as f64 * s).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    /// Refuses an array that does not have one element per voxel; `what` names it in the message.
    pub(crate) fn check_len(&self, what: &'static str, found: usize) -> Result<(), MetricsError> {
        if found == self.voxels() {
            return Ok(());
        }
        Err(MetricsError::Length {
            what,
            shape: self.shape,
            expected: self.voxels(),
            found,
        })
    }
}

/// A box of voxels, `lo` inclusive and `hi` exclusive, both `[D, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub lo: [usize; 3],
    pub hi: [usize; 3],
}

impl Bounds {
    /// The smallest box that holds both.
    pub fn union(self, other: Self) -> Self {
        Self {
            lo: std::array::from_fn(|a| self.lo[a].min(other.lo[a])),
            hi: std::array::from_fn(|a| self.hi[a].max(other.hi[a])),
        }
    }

    /// `[D, H, W]` of the box in voxels.
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.hi[a] - self.lo[a])
    }
}
