//! From voxels to a picture.

use std::io::Cursor;
use std::path::Path;

use image::ExtendedColorType;

use super::super::data::{Image, LabelMap};
use super::super::error::VolumeError;
use super::super::geometry::Geometry;
use super::Kind;
use crate::fsio::write_atomic;

const REMEDY: &str = "write it as .nii.gz";

/// Labels as grey values of 8 bits, or 16 where one exceeds 255.
pub(in super::super) fn write_labels(
    path: &Path,
    kind: Kind,
    map: &LabelMap,
) -> Result<(), VolumeError> {
    let samples: Result<Vec<u16>, u32> = map
        .labels()
        .iter()
        .map(|&label| u16::try_from(label).map_err(|_| label))
        .collect();
    let samples = samples.map_err(|label| VolumeError::CannotHold {
        path: path.to_owned(),
        what: format!("the label {label}, only labels up to {}", u16::MAX),
        remedy: REMEDY,
    })?;
    write(path, kind, map.geometry(), 1, &samples)
}

/// Whole intensities as 8 or 16 bits, one channel as grey, three as colour.
pub(in super::super) fn write_image(
    path: &Path,
    kind: Kind,
    image: &Image,
) -> Result<(), VolumeError> {
    let refuse = |what: String| VolumeError::CannotHold {
        path: path.to_owned(),
        what,
        remedy: REMEDY,
    };
    let channels = image.channels();
    if channels != 1 && channels != 3 {
        return Err(refuse(format!("{channels} channels, only 1 or 3")));
    }
    let count = image.geometry().voxels();
    let mut samples = Vec::with_capacity(channels * count);
    for pixel in 0..count {
        for channel in 0..channels {
            let value = image.voxels()[channel * count + pixel];
            let sample = value as u16;
            if f32::from(sample) != value {
                return Err(refuse(format!(
                    "the intensity {value}, only whole numbers from 0 to {}",
                    u16::MAX
                )));
            }
            samples.push(sample);
        }
    }
    write(path, kind, image.geometry(), channels, &samples)
}

/// Height and width of a picture of this geometry.
///
/// # Errors
/// [`VolumeError::CannotHold`] for a volume.
pub(in super::super) fn extent(path: &Path, geometry: &Geometry) -> Result<[u32; 2], VolumeError> {
    let [depth, height, width] = geometry.shape();
    match (depth, u32::try_from(height), u32::try_from(width)) {
        (1, Ok(height), Ok(width)) => Ok([height, width]),
        _ => Err(VolumeError::CannotHold {
            path: path.to_owned(),
            what: format!("a volume of {depth} x {height} x {width} voxels"),
            remedy: REMEDY,
        }),
    }
}

/// `samples` are H, W, C with C of 1 or 3.
fn write(
    path: &Path,
    kind: Kind,
    geometry: &Geometry,
    channels: usize,
    samples: &[u16],
) -> Result<(), VolumeError> {
    let [height, width] = extent(path, geometry)?;
    let narrow = samples.iter().all(|&sample| sample <= u16::from(u8::MAX));
    let colour = match (channels, narrow) {
        (1, true) => ExtendedColorType::L8,
        (1, false) => ExtendedColorType::L16,
        (_, true) => ExtendedColorType::Rgb8,
        (_, false) => ExtendedColorType::Rgb16,
    };
    let bytes: Vec<u8> = if narrow {
        samples.iter().map(|&sample| sample as u8).collect()
    } else {
        // The encoders take 16 bits in the machine's own order.
        samples.iter().flat_map(|s| s.to_ne_bytes()).collect()
    };
    let mut encoded = Cursor::new(Vec::new());
    let format = kind.format();
    image::write_buffer_with_format(&mut encoded, &bytes, width, height, colour, format).map_err(
        |error| VolumeError::CannotHold {
            path: path.to_owned(),
            what: format!("this picture ({error})"),
            remedy: REMEDY,
        },
    )?;
    write_atomic(path, |out| out.write_all(encoded.get_ref()))
        .map_err(|error| VolumeError::write(path, error))
}
