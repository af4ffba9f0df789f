//! From voxels to a file.

use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::data::{Image, LabelMap};
use super::super::error::VolumeError;
use super::super::geometry::Geometry;
use super::header::encode;
use super::voxel_type::VoxelType;
use crate::fsio::write_atomic;

/// Voxels encoded at a time.
const CHUNK: usize = 1 << 14;

/// Labels as `u8`, `u16` or `i32`, the narrowest that holds them all.
pub(in super::super) fn write_labels(path: &Path, map: &LabelMap) -> Result<(), VolumeError> {
    let (geometry, labels) = (map.geometry(), map.labels());
    match map.largest() {
        0..=0xff => write(path, geometry, VoxelType::U8, labels, |x| [x as u8]),
        0x100..=0xffff => write(path, geometry, VoxelType::U16, labels, |x| {
            (x as u16).to_le_bytes()
        }),
        0x1_0000..=0x7fff_ffff => write(path, geometry, VoxelType::I32, labels, u32::to_le_bytes),
        largest => Err(VolumeError::CannotHold {
            path: path.to_owned(),
            what: format!("the label {largest}, only labels up to {}", i32::MAX),
            remedy: "number the classes anew",
        }),
    }
}

/// Intensities as `f32`.
pub(in super::super) fn write_image(path: &Path, image: &Image) -> Result<(), VolumeError> {
    if image.channels() != 1 {
        return Err(VolumeError::CannotHold {
            path: path.to_owned(),
            what: format!("an image of {} channels", image.channels()),
            remedy: "write one file per channel",
        });
    }
    write(
        path,
        image.geometry(),
        VoxelType::F32,
        image.voxels(),
        f32::to_le_bytes,
    )
}

fn write<T: Copy, const N: usize>(
    path: &Path,
    geometry: &Geometry,
    voxel_type: VoxelType,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> Result<(), VolumeError> {
    let header = encode(geometry, voxel_type);
    let fill = |out: &mut dyn Write| -> io::Result<()> {
        out.write_all(&header)?;
        for chunk in values.chunks(CHUNK) {
            let bytes: Vec<[u8; N]> = chunk.iter().map(|&value| to_bytes(value)).collect();
            out.write_all(bytes.as_flattened())?;
        }
        Ok(())
    };
    let compress = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    write_atomic(path, |out| {
        if !compress {
            return fill(out);
        }
        let mut encoder = GzEncoder::new(out, Compression::default());
        fill(&mut encoder)?;
        encoder.finish()?;
        Ok(())
    })
    .map_err(|error| VolumeError::write(path, error))
}
