//! How good a segmentation is: Dice, IoU, HD95 and NSD, by case and class, mean and median.
//!
//! Pure functions on label arrays of shape `[D, H, W]` with a spacing in mm; no file is touched.
//! [`surface`] and [`edt`] state what a surface and a distance are, [`Convention`] what happens
//! where prediction or truth is empty.
//!
//! ```
//! use voxseg::metrics::{Class, Convention, Evaluation, Grid, Settings, evaluate_case};
//!
//! let settings = Settings::new(vec![Class::new("liver", [1])])?;
//! let grid = Grid::new([1, 2, 2], [1.0, 0.8, 0.8])?;
//! let case = evaluate_case("case_1", &[0u8, 1, 1, 1], &[0u8, 0, 1, 1], &grid, &settings)?;
//! let evaluation = Evaluation::new(settings, vec![case])?;
//! assert_eq!(evaluation.mean(Convention::FailureCounts).dice, 0.8);
//! # Ok::<(), voxseg::metrics::MetricsError>(())
//! ```

mod case;
pub mod edt;
mod grid;
mod output;
mod overlap;
mod summary;
pub mod surface;

pub use case::{
    CaseResult, Class, ClassResult, Label, Outcome, Settings, Unit, evaluate_case, missing_case,
};
pub use grid::Grid;
pub use overlap::{Counts, class_counts};
pub use summary::{Convention, Evaluation, Scores};
pub use surface::SurfaceDistances;

/// Why a figure could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// A shape that no image has.
    #[error(
        "shape {shape:?} [D, H, W]: every axis needs at least one voxel, the depth at most 65534"
    )]
    Shape {
        /// `[D, H, W]` in voxels.
        shape: [usize; 3],
    },
    /// A spacing that no image has.
    #[error(
        "spacing {spacing:?} mm [D, H, W]: each must be a number between 1e-9 and 1e9; check the image's header"
    )]
    Spacing {
        /// `[D, H, W]` in mm.
        spacing: [f64; 3],
    },
    /// An array that does not fit its grid.
    #[error("{what}: {found} voxels where shape {shape:?} has {expected}")]
    Length {
        /// Which array.
        what: &'static str,
        /// `[D, H, W]` of the grid.
        shape: [usize; 3],
        /// D·H·W.
        expected: usize,
        /// Elements of the array.
        found: usize,
    },
    /// Classes that cannot be measured.
    #[error("foreground classes: {found}; each needs its own name and at least one label above 0")]
    Classes {
        /// What is wrong.
        found: String,
    },
    /// An NSD tolerance that is none.
    #[error("NSD tolerance {found} mm: expected a number of at least 0")]
    Tolerance {
        /// In mm.
        found: f64,
    },
    /// Cases that do not belong in one evaluation.
    #[error("cases of an evaluation: {found}; each needs its own name and all the same classes")]
    Cases {
        /// What is wrong.
        found: String,
    },
}
