//! The one door to all formats: which file is what, by the ending of its name.

use std::path::Path;

use super::data::{Image, LabelMap};
use super::error::VolumeError;
use super::geometry::Geometry;
use super::{nifti, picture};

/// A family of formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Nifti,
    NiftiPair,
    Picture(picture::Kind),
}

/// Endings in the order in which they are tried: a longer one before its own tail.
const FORMATS: [(&str, Format); 9] = [
    (".nii.gz", Format::Nifti),
    (".nii", Format::Nifti),
    (".hdr.gz", Format::NiftiPair),
    (".img.gz", Format::NiftiPair),
    (".hdr", Format::NiftiPair),
    (".img", Format::NiftiPair),
    (".png", Format::Picture(picture::Kind::Png)),
    (".tif", Format::Picture(picture::Kind::Tiff)),
    (".tiff", Format::Picture(picture::Kind::Tiff)),
];

const READABLE: [&str; 9] = {
    let mut endings = [""; 9];
    let mut index = 0;
    while index < endings.len() {
        endings[index] = FORMATS[index].0;
        index += 1;
    }
    endings
};

/// A pair of files cannot be replaced in one step, so pairs are not written.
const WRITABLE: [&str; 5] = [".nii.gz", ".nii", ".png", ".tif", ".tiff"];

/// File name endings that [`read_image`] and [`read_labels`] know, each with its dot, in lower case
/// (capitals are accepted).
pub fn supported_endings() -> &'static [&'static str] {
    &READABLE
}

/// The known ending of a file's name, in lower case: what to cut off for the name of the case.
///
/// The ending is as long in the name as here, so `name[..name.len() - ending.len()]` is the rest.
pub fn ending_of(path: &Path) -> Option<&'static str> {
    format_of(path).map(|(ending, _)| ending)
}

/// The ending for a result beside files of `ending`: the same, or `.nii.gz` where that is read but not written.
pub fn ending_to_write(ending: &str) -> &str {
    let is_written = WRITABLE.iter().any(|e| e.eq_ignore_ascii_case(ending));
    if is_written { ending } else { ".nii.gz" }
}

/// Checks, before the labels are known, that a label map of this geometry can be written to `path`.
///
/// # Errors
/// [`VolumeError::Ending`] for a format that is not written, [`VolumeError::CannotHold`] for a volume in a 2D picture.
pub fn check_labels_fit(path: impl AsRef<Path>, geometry: &Geometry) -> Result<(), VolumeError> {
    let path = path.as_ref();
    match writable(path)? {
        Format::Nifti | Format::NiftiPair => Ok(()),
        Format::Picture(_) => picture::extent(path, geometry).map(|_| ()),
    }
}

/// Reads an image: intensities as `f32`, scaled by `scl_slope` and `scl_inter` (a slope that is 0 or
/// not finite means no scaling). Colour pictures give three channels; 2D images have D = 1 and, as
/// pictures, a spacing of 1 mm.
///
/// # Errors
/// [`VolumeError`], with [`VolumeError::NonFinite`] for NaN or infinite voxels among them.
pub fn read_image(path: impl AsRef<Path>) -> Result<Image, VolumeError> {
    let path = path.as_ref();
    match readable(path)? {
        Format::Nifti | Format::NiftiPair => nifti::read_image(path),
        Format::Picture(kind) => picture::read_image(path, kind),
    }
}

/// Reads a label map, exactly.
///
/// # Errors
/// [`VolumeError`], with [`VolumeError::NotALabel`] for a value that is no whole number of
/// 0 to 2^32 - 1, and [`VolumeError::PictureKind`] for a colour picture.
pub fn read_labels(path: impl AsRef<Path>) -> Result<LabelMap, VolumeError> {
    let path = path.as_ref();
    match readable(path)? {
        Format::Nifti | Format::NiftiPair => nifti::read_labels(path),
        Format::Picture(kind) => picture::read_labels(path, kind),
    }
}

/// Reads the geometry alone; of a NIfTI file only the header is read.
///
/// # Errors
/// [`VolumeError`] as [`read_image`], but for what only the voxels show.
pub fn read_geometry(path: impl AsRef<Path>) -> Result<Geometry, VolumeError> {
    let path = path.as_ref();
    match readable(path)? {
        Format::Nifti | Format::NiftiPair => nifti::read_geometry(path),
        Format::Picture(kind) => Ok(picture::read_image(path, kind)?.into_parts().0),
    }
}

/// Writes a label map, whole or not at all, in the narrowest integer type that holds it (`u8`,
/// `u16`, for NIfTI also `i32`), with the header fields its geometry came with.
///
/// NIfTI-1 is written, or NIfTI-2 where a dimension exceeds 32767 or the geometry holds numbers that
/// `f32` would round.
///
/// # Errors
/// [`VolumeError::Ending`] for a format that is not written, [`VolumeError::CannotHold`] for a
/// volume in a 2D picture or a label too large, [`VolumeError::Write`].
pub fn write_labels(path: impl AsRef<Path>, labels: &LabelMap) -> Result<(), VolumeError> {
    let path = path.as_ref();
    match writable(path)? {
        Format::Nifti | Format::NiftiPair => nifti::write_labels(path, labels),
        Format::Picture(kind) => picture::write_labels(path, kind, labels),
    }
}

/// Writes an image, whole or not at all: `f32` in NIfTI (one channel), 8 or 16 bits in a picture,
/// and there only whole numbers.
///
/// # Errors
/// As [`write_labels`], with [`VolumeError::CannotHold`] also for intensities that the format would
/// round and for channels it has not.
pub fn write_image(path: impl AsRef<Path>, image: &Image) -> Result<(), VolumeError> {
    let path = path.as_ref();
    match writable(path)? {
        Format::Nifti | Format::NiftiPair => nifti::write_image(path, image),
        Format::Picture(kind) => picture::write_image(path, kind, image),
    }
}

/// Checks that two files of a case (image and label, or two channels) lie on each other.
///
/// # Errors
/// [`VolumeError::Mismatch`] naming both files; see [`Geometry::matches`] for the tolerances.
pub fn check_same_geometry(
    path: &Path,
    geometry: &Geometry,
    other_path: &Path,
    other: &Geometry,
) -> Result<(), VolumeError> {
    geometry
        .matches(other)
        .map_err(|difference| VolumeError::Mismatch {
            path: path.to_owned(),
            other: other_path.to_owned(),
            difference,
        })
}

fn format_of(path: &Path) -> Option<(&'static str, Format)> {
    let name = path.file_name()?.as_encoded_bytes();
    FORMATS.into_iter().find(|(ending, _)| {
        name.len()
            .checked_sub(ending.len())
            .is_some_and(|start| name[start..].eq_ignore_ascii_case(ending.as_bytes()))
    })
}

fn readable(path: &Path) -> Result<Format, VolumeError> {
    match format_of(path) {
        Some((_, format)) => Ok(format),
        None => Err(VolumeError::Ending {
            path: path.to_owned(),
            action: "read",
            endings: &READABLE,
        }),
    }
}

fn writable(path: &Path) -> Result<Format, VolumeError> {
    match format_of(path) {
        Some((ending, format)) if WRITABLE.contains(&ending) => Ok(format),
        _ => Err(VolumeError::Ending {
            path: path.to_owned(),
            action: "write",
            endings: &WRITABLE,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_told_apart() {
        let of = |name: &str| ending_of(Path::new(name));
        assert_eq!(of("a/case_0.5mm.nii.gz"), Some(".nii.gz"));
        assert_eq!(of("case.NII.GZ"), Some(".nii.gz"));
        assert_eq!(of("case.nii"), Some(".nii"));
        assert_eq!(of("case.hdr.gz"), Some(".hdr.gz"));
        assert_eq!(of("case.tiff"), Some(".tiff"));
        assert_eq!(of("case.gz"), None);
        assert_eq!(of("nii"), None);
        assert_eq!(of(".."), None);
    }

    #[test]
    fn pairs_are_read_but_not_written() {
        assert!(readable(Path::new("a.img")).is_ok());
        let refused = writable(Path::new("a.img")).unwrap_err();
        assert!(refused.to_string().contains(".nii.gz"), "{refused}");
        let endings = [".hdr", ".IMG", ".img.gz", ".nii", ".PNG"].map(ending_to_write);
        assert_eq!(endings, [".nii.gz", ".nii.gz", ".nii.gz", ".nii", ".PNG"]);
    }
}
