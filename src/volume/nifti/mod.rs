//! NIfTI-1 and NIfTI-2 files, byte by byte.
//!
//! Read: `.nii`, `.nii.gz` and `.hdr`/`.img` pairs (compressed or not, told by content, gzip of one
//! or several members), both byte orders, all integer and real voxels. Written: `.nii`, `.nii.gz`.
//! A header is believed only as far as the file bears it out. Source of the layout: `nifti1.h` and
//! `nifti2.h`, NIfTI Data Format Working Group, <https://nifti.nimh.nih.gov>.

mod header;
mod layout;
mod placement;
mod read;
mod source;
mod voxel_type;
mod write;

pub(super) use placement::Placement;
pub(super) use read::{read_geometry, read_image, read_labels};
pub(super) use write::{write_image, write_labels};
