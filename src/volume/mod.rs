//! Volumes and pictures in and out of files, and where they lie.
//!
//! [`read_image`], [`read_labels`], [`write_labels`] and [`write_image`] tell the format by the
//! ending of the file's name: NIfTI-1 and -2 (`.nii`, `.nii.gz`, `.hdr` with `.img`), PNG and TIFF.
//! Voxels keep the order they have on disk: W is fastest, so arrays are D, H, W (z, y, x), and a 2D
//! image is a volume with D = 1. Files are written whole or not at all.

mod affine;
mod data;
mod error;
mod files;
mod geometry;
mod nifti;
mod open;
mod picture;

pub use affine::Affine;
pub use data::{Image, LabelMap};
pub use error::VolumeError;
pub use files::{
    check_labels_fit, check_same_geometry, ending_of, ending_to_write, read_geometry, read_image,
    read_labels, supported_endings, write_image, write_labels,
};
pub use geometry::{Geometry, GeometryDifference};
