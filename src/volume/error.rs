//! What can go wrong between a file and a volume.

use std::io;
use std::path::{Path, PathBuf};

use super::geometry::GeometryDifference;
use crate::fsio::is_users_fault;

/// Why a volume could not be read or written.
///
/// Every message names the file, what was expected, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The file name does not end like a format that can be read (or written).
    #[error("{}: cannot {action} this kind of file; the name must end in {}", path.display(), endings.join(", "))]
    Ending {
        /// The file.
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        /// What can be, each with its dot.
        endings: &'static [&'static str],
    },

    /// The system could not read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The system could not write (a full disk among them). The file is as it was before.
    #[error("{}: cannot be written: {source}; nothing was changed, free space or choose another folder", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The file ends before its header says so.
    #[error("{}: cut off: the file holds {found} of the {expected} bytes for {part}; copy or export it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        part: &'static str,
        /// Bytes needed.
        expected: u64,
        /// Bytes there are (at most, for a compressed file that was not inflated).
        found: u64,
    },

    /// The compressed stream is damaged.
    #[error("{}: the gzip data are damaged ({source}); copy or export the file again", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decompressor said.
        source: io::Error,
    },

    /// The file begins like no NIfTI file.
    #[error("{}: not a NIfTI file: {found}; convert it to .nii.gz, for instance with dcm2niix", path.display())]
    NotNifti {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },

    /// A header field that cannot be true.
    #[error("{}: the header lies: {field} must be {expected}, found {found}; export the file again with a tool that writes it correctly", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The field's name in the NIfTI standard.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },

    /// A legal type of voxel that is no image intensity.
    #[error("{}: voxels of type {found} are not supported, only integers of 8 to 64 bits and floats of 32 or 64; convert the file to one of these", path.display())]
    VoxelType {
        /// The file.
        path: PathBuf,
        /// The type's name.
        found: String,
    },

    /// A time series or a vector field.
    #[error("{}: holds {count} volumes (dimensions {dimensions:?}, x first), expected one; split it into one file per volume or channel", path.display())]
    ManyVolumes {
        /// The file.
        path: PathBuf,
        /// Product of the fourth and further dimensions.
        count: u64,
        /// All dimensions, x first.
        dimensions: Vec<i64>,
    },

    /// More voxels than one volume may have.
    #[error("{}: {voxels} voxels, more than the {limit} that one volume may have; crop or resample it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What the header says.
        voxels: u128,
        /// What is possible.
        limit: u64,
    },

    /// One half of a .hdr and .img pair is missing.
    #[error("{}: belongs to a pair, but {} is not there; put both files into the same folder", path.display(), missing.display())]
    HalfPair {
        /// The file that was asked for.
        path: PathBuf,
        /// The file that is missing.
        missing: PathBuf,
    },

    /// NaN or infinite voxels in an image.
    #[error("{}: {count} of {total} voxels are NaN or infinite, the first at (D, H, W) = {first:?}; replace them (with 0 or the background's value) before use", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// How many.
        count: u64,
        /// Out of how many.
        total: u64,
        /// Index of the first of them.
        first: [usize; 3],
    },

    /// A value in a label map that is no label.
    #[error("{}: labels must be whole numbers from 0 to {}, found {value} at (D, H, W) = {at:?}; is this an image or a probability map instead of a label map?", path.display(), u32::MAX)]
    NotALabel {
        /// The file.
        path: PathBuf,
        /// The first such value.
        value: f64,
        /// Its index.
        at: [usize; 3],
    },

    /// A 2D image file that its decoder refuses.
    #[error("{}: cannot be decoded: {source}; save it again as an 8 or 16 bit {wanted}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// PNG or TIFF.
        wanted: &'static str,
        /// What the decoder said.
        source: image::ImageError,
    },

    /// A 2D image of a kind that cannot serve here.
    #[error("{}: expected {expected}, found {found}; convert the file", path.display())]
    PictureKind {
        /// The file.
        path: PathBuf,
        /// What can serve.
        expected: &'static str,
        /// What is there.
        found: String,
    },

    /// The format cannot hold this volume.
    #[error("{}: this format cannot hold {what}; {remedy}", path.display())]
    CannotHold {
        /// The file.
        path: PathBuf,
        /// What is too much for it.
        what: String,
        /// Where it would fit.
        remedy: &'static str,
    },

    /// Voxels and geometry were put together that do not belong together.
    #[error(
        "{found} values for {channels} channel(s) of shape (D, H, W) = {shape:?}, expected {expected}"
    )]
    VoxelCount {
        /// D, H, W.
        shape: [usize; 3],
        /// Channels.
        channels: usize,
        /// Values needed.
        expected: usize,
        /// Values given.
        found: usize,
    },

    /// Two files of one case that do not lie on each other.
    #[error("{} and {} do not belong together: {difference}; resample one onto the other", path.display(), other.display())]
    Mismatch {
        /// One file.
        path: PathBuf,
        /// The other.
        other: PathBuf,
        /// In what they differ.
        difference: GeometryDifference,
    },
}

impl VolumeError {
    /// Whether the user can set it right by giving other files or another path. A failing disk, a
    /// full one, or a volume put together wrongly by the program are not the user's fault.
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => is_users_fault(source),
            Self::VoxelCount { .. } => false,
            _ => true,
        }
    }

    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn header(
        path: &Path,
        field: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Header {
            path: path.to_owned(),
            field,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_the_users_fault_but_a_missing_file_is() {
        let full = VolumeError::write(Path::new("a.nii"), io::ErrorKind::StorageFull.into());
        assert!(!full.is_users_fault());
        assert!(full.to_string().contains("a.nii"), "{full}");
        let missing = VolumeError::read(Path::new("a.nii"), io::ErrorKind::NotFound.into());
        assert!(missing.is_users_fault());
    }
}
