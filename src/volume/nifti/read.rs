//! From a file to voxels.

use std::io;
use std::path::{Path, PathBuf};

use super::super::data::{Image, LabelMap};
use super::super::error::VolumeError;
use super::super::geometry::Geometry;
use super::header::Header;
use super::layout::Version;
use super::source::Source;

/// Bytes decoded at a time, a multiple of every voxel's size.
const CHUNK: usize = 1 << 16;

/// Bytes behind the voxels that are taken for padding. More means that the header speaks of another
/// volume than the file holds (a series with `dim[0]` = 3, for instance).
const MOST_PADDING: usize = 4096;

const VOXELS: &str = "the voxels";

/// Intensities, scaled as the header says.
pub(in super::super) fn read_image(path: &Path) -> Result<Image, VolumeError> {
    let (header, mut source) = open(path)?;
    let (slope, inter) = header.scaling.unwrap_or((1.0, 0.0));
    let mut voxels = room_for(path, &header)?;
    let mut not_finite = 0;
    let mut first = None;
    each_voxel(&mut source, &header, |raw| {
        let value = (raw * slope + inter) as f32;
        if !value.is_finite() {
            not_finite += 1;
            first.get_or_insert(voxels.len());
        }
        voxels.push(value);
    })?;
    match first {
        None => Image::new(header.geometry, 1, voxels),
        Some(first) => Err(VolumeError::NonFinite {
            path: path.to_owned(),
            count: not_finite,
            total: voxels.len() as u64,
            first: header.geometry.index_of(first),
        }),
    }
}

/// Labels, exactly.
pub(in super::super) fn read_labels(path: &Path) -> Result<LabelMap, VolumeError> {
    let (header, mut source) = open(path)?;
    let mut labels = room_for(path, &header)?;
    let mut bad = None;
    each_voxel(&mut source, &header, |raw| {
        labels.push(label(raw, header.scaling).unwrap_or_else(|value| {
            bad.get_or_insert((value, labels.len()));
            0
        }));
    })?;
    match bad {
        None => LabelMap::new(header.geometry, labels),
        Some((value, offset)) => Err(VolumeError::NotALabel {
            path: path.to_owned(),
            value,
            at: header.geometry.index_of(offset),
        }),
    }
}

/// The geometry alone, without reading the voxels.
pub(in super::super) fn read_geometry(path: &Path) -> Result<Geometry, VolumeError> {
    Ok(open(path)?.0.geometry)
}

/// The label of a stored value, or the value that is none.
///
/// Without scaling the value must be whole; with it, whole but for the rounding of a slope that the
/// header holds as `f32`.
fn label(raw: f64, scaling: Option<(f64, f64)>) -> Result<u32, f64> {
    let (value, rounding) = match scaling {
        None => (raw, 0.0),
        Some((slope, inter)) => {
            let rounding = f64::from(f32::EPSILON) * ((raw * slope).abs() + inter.abs());
            (raw * slope + inter, rounding)
        }
    };
    let whole = value.round();
    if (value - whole).abs() <= rounding && (0.0..=f64::from(u32::MAX)).contains(&whole) {
        Ok(whole as u32)
    } else {
        Err(value)
    }
}

/// Reads and checks the header, and goes to the first voxel.
fn open(path: &Path) -> Result<(Header, Source), VolumeError> {
    let (header_path, data_path) = parts(path)?;
    let mut source = Source::open(&header_path)?;
    let header = read_header(&header_path, &mut source)?;
    let paired = data_path.is_some();
    if header.single == paired {
        let [single, pair] = ["in the same file", "in an .img file"];
        let (expected, found) = if paired {
            (pair, single)
        } else {
            (single, pair)
        };
        return Err(VolumeError::header(
            &header_path,
            "magic",
            format!("one that says the voxels are {expected}, as the file's name does"),
            format!("one that says they are {found}"),
        ));
    }
    if let Some(data_path) = data_path {
        source = Source::open(&data_path)?;
    }
    source.skip_to(header.data_offset)?;
    source.expect(VOXELS, header.data_bytes())?;
    Ok((header, source))
}

fn read_header(path: &Path, source: &mut Source) -> Result<Header, VolumeError> {
    const PART: &str = "the header";
    let mut size = [0; 4];
    source.fill(PART, 0, Version::One.size() as u64, &mut size)?;
    let Some((version, order)) = Version::detect(size) else {
        return Err(VolumeError::NotNifti {
            path: path.to_owned(),
            found: format!(
                "it begins with the bytes {size:02x?} instead of the header's size, 348 or 540"
            ),
        });
    };
    let mut bytes = vec![0; version.size()];
    bytes[..4].copy_from_slice(&size);
    source.fill(PART, 4, version.size() as u64, &mut bytes[4..])?;
    Header::parse(path, &bytes, version, order)
}

/// The file of the header and, for a pair, the file of the voxels.
fn parts(path: &Path) -> Result<(PathBuf, Option<PathBuf>), VolumeError> {
    let has = |path: &Path, extension: &str| {
        path.extension()
            .is_some_and(|found| found.eq_ignore_ascii_case(extension))
    };
    let bare = if has(path, "gz") {
        path.with_extension("")
    } else {
        path.to_owned()
    };
    let other_half = |plain: &str, compressed: &str| {
        let candidates = [plain, compressed].map(|extension| bare.with_extension(extension));
        match candidates.iter().find(|candidate| candidate.exists()) {
            Some(found) => Ok(found.clone()),
            None => Err(VolumeError::HalfPair {
                path: path.to_owned(),
                missing: bare.with_extension(plain),
            }),
        }
    };
    if has(&bare, "hdr") {
        Ok((path.to_owned(), Some(other_half("img", "img.gz")?)))
    } else if has(&bare, "img") {
        Ok((other_half("hdr", "hdr.gz")?, Some(path.to_owned())))
    } else {
        Ok((path.to_owned(), None))
    }
}

/// An empty vector with room for all voxels; a refusal, not an abort, where memory is short.
fn room_for<T>(path: &Path, header: &Header) -> Result<Vec<T>, VolumeError> {
    let mut voxels = Vec::new();
    voxels
        .try_reserve_exact(header.geometry.voxels())
        .map_err(|_| VolumeError::read(path, io::ErrorKind::OutOfMemory.into()))?;
    Ok(voxels)
}

/// Calls `visit` with every stored value, in the order of the file.
fn each_voxel(
    source: &mut Source,
    header: &Header,
    mut visit: impl FnMut(f64),
) -> Result<(), VolumeError> {
    let whole = header.data_bytes();
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < whole {
        let count = (whole - done).min(CHUNK as u64) as usize;
        source.fill(VOXELS, done, whole, &mut buffer[..count])?;
        header
            .voxel_type
            .decode(header.order, &buffer[..count], &mut visit);
        done += count as u64;
    }
    if source.ends_within(MOST_PADDING)? {
        return Ok(());
    }
    Err(VolumeError::header(
        source.path(),
        "dim",
        "the size of what the file holds",
        format!("{whole} bytes of voxels and more than {MOST_PADDING} bytes behind them"),
    ))
}
