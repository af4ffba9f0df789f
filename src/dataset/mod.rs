//! From a folder of labelled images to batches.
//!
//! A data set lies in nnU-Net's raw layout: dataset.json, imagesTr (`CASE_0000.nii.gz`, the channel in
//! four digits), labelsTr (`CASE.nii.gz`), imagesTs. [`Dataset::open`] finds the cases,
//! [`Fingerprint::of`] measures them, [`prepare_cases`] crops, normalises and resamples them into files
//! of which [`draw_batch`] reads patches, and [`RestoredLabels`] is the way back.
//! Arrays are C, D, H, W with W fastest; spacings are in mm along D, H, W. Axes are never swapped: an
//! anisotropic axis has its own kernels and strides instead.

mod budget;
mod cache;
mod cases;
mod crop;
mod description;
mod error;
mod fingerprint;
mod labels;
mod load;
mod locations;
mod normalise;
mod overrides;
mod plan;
mod prepared;
mod preprocess;
mod resample;
mod restore;
mod sampling;
mod splits;
pub mod synthetic;
mod topology;

pub use budget::{Allowance, Budget};
pub use cache::{prepare_case, prepare_cases};
pub(crate) use cases::is_picture;
pub use cases::{Case, Dataset, FoundImages, find_images, find_readable_images};
pub use crop::{Bounds, crop, nonzero_bounds, nonzero_mask};
pub use description::{DESCRIPTION_FILE, Description, data_text};
pub use error::DatasetError;
pub use fingerprint::{FINGERPRINT_FILE, Fingerprint, IntensityProperties, Remark};
pub use labels::{Labels, Target};
pub use load::{
    LoadedCase, check_case_count, check_integrity, check_label_values, load_case, load_image,
};
pub use normalise::Normalisation;
pub use overrides::{Overrides, StageLists};
pub use plan::{Extent, PLAN_FILE, Plan, PlannedShape, Request, plan_shape, target_spacing};
pub use prepared::{Patch, PreparedCase};
pub use preprocess::{ChannelPlan, CropAndResample, Preprocessed, Preprocessing};
pub use resample::{ANISOTROPY_THRESHOLD, Resampling, antialiased, coarse_axis, resampled_shape};
pub use restore::RestoredLabels;
pub use sampling::{Batch, Drawing, PatchChoice, choose_patches, draw_batch, mirror};
pub use splits::{
    FOLDS, SPLITS_FILE, Split, fold_of, make_splits, read_splits, splits_in, splits_of,
    write_splits,
};
pub use topology::{Shaping, Topology};
