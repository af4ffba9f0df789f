//! From a picture to voxels.

use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageReader, Limits};

use super::super::data::{Image, LabelMap};
use super::super::error::VolumeError;
use super::super::geometry::Geometry;
use super::super::open::open_ordinary;
use super::tiff_pages::has_further_page;
use super::{Kind, geometry_of};

/// Grey gives one channel, colour three. Opaque alpha is dropped.
pub(in super::super) fn read_image(path: &Path, kind: Kind) -> Result<Image, VolumeError> {
    let pixels = decode(path, kind)?;
    if pixels.has_holes() {
        return Err(VolumeError::PictureKind {
            path: path.to_owned(),
            expected: "a grey or colour picture without transparency",
            found: "transparent pixels".to_owned(),
        });
    }
    let count = pixels.geometry.voxels();
    let stride = pixels.channels;
    let colours = stride - usize::from(pixels.opaque.is_some());
    let mut voxels: Vec<f32> = Vec::with_capacity(colours * count);
    for channel in 0..colours {
        voxels.extend(pixels.samples.iter().skip(channel).step_by(stride));
    }
    match voxels.iter().position(|value| !value.is_finite()) {
        None => Image::new(pixels.geometry, colours, voxels),
        Some(first) => Err(VolumeError::NonFinite {
            path: path.to_owned(),
            count: voxels.iter().filter(|value| !value.is_finite()).count() as u64,
            total: voxels.len() as u64,
            first: pixels.geometry.index_of(first % count),
        }),
    }
}

/// The grey values themselves are the labels.
pub(in super::super) fn read_labels(path: &Path, kind: Kind) -> Result<LabelMap, VolumeError> {
    let pixels = decode(path, kind)?;
    if pixels.channels != 1 {
        return Err(VolumeError::PictureKind {
            path: path.to_owned(),
            expected: "a label map with one grey value per pixel, the label's number",
            found: format!(
                "{} channels (colour, a palette or transparency)",
                pixels.channels
            ),
        });
    }
    // 8 and 16 bit samples: whole numbers, exact in f32.
    let labels = pixels.samples.iter().map(|&value| value as u32).collect();
    LabelMap::new(pixels.geometry, labels)
}

/// A decoded picture, its samples interleaved.
struct Pixels {
    geometry: Geometry,
    channels: usize,
    samples: Vec<f32>,
    /// The sample of the last channel that means opaque, where that channel is alpha.
    opaque: Option<f32>,
}

impl Pixels {
    fn has_holes(&self) -> bool {
        self.opaque.is_some_and(|opaque| {
            let alpha = self.samples.iter().skip(self.channels - 1);
            alpha.step_by(self.channels).any(|&value| value != opaque)
        })
    }
}

fn decode(path: &Path, kind: Kind) -> Result<Pixels, VolumeError> {
    let mut file = BufReader::new(open_ordinary(path)?.0);
    if kind == Kind::Tiff {
        let further = has_further_page(&mut file).and_then(|further| {
            file.rewind()?;
            Ok(further)
        });
        if further.map_err(|error| VolumeError::read(path, error))? {
            return Err(VolumeError::PictureKind {
                path: path.to_owned(),
                expected: "a TIFF of one page; save a stack as NIfTI",
                found: "several pages".to_owned(),
            });
        }
    }
    let grey_bits = match kind {
        Kind::Png => png_grey_bits(&mut file).map_err(|error| VolumeError::read(path, error))?,
        Kind::Tiff => None,
    };
    let (picture, stored) = decode_first(file, kind).map_err(|source| VolumeError::Picture {
        path: path.to_owned(),
        wanted: kind.name(),
        source,
    })?;
    let geometry = geometry_of(picture.width(), picture.height());
    let colour = picture.color();
    let (mut samples, opaque) = samples_of(path, picture)?;
    // The decoders stretch grey of few bits over a whole byte: label 1 of a 1 bit map would be 255.
    let stretch = match (grey_bits, stored) {
        (Some(1), _) | (_, ExtendedColorType::L1) => 255.0,
        (Some(2), _) => 85.0,
        (Some(4), _) => 17.0,
        _ => 1.0,
    };
    for sample in &mut samples {
        *sample /= stretch;
    }
    Ok(Pixels {
        geometry,
        channels: usize::from(colour.channel_count()),
        samples,
        opaque: colour.has_alpha().then_some(opaque),
    })
}

/// Bits of a grey PNG, which its decoder does not tell: PNG third edition, 11.2.1, puts depth and
/// colour type at fixed places behind signature and chunk head. `None` for colour and for no PNG.
fn png_grey_bits(file: &mut (impl Read + Seek)) -> io::Result<Option<u8>> {
    let mut start = [0; 26];
    let complete = match file.read_exact(&mut start) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(error),
    };
    file.rewind()?;
    let [.., depth, colour_type] = start;
    Ok((complete && colour_type == 0).then_some(depth))
}

/// The picture and the type its pixels have in the file, as far as its decoder tells.
fn decode_first(
    file: BufReader<std::fs::File>,
    kind: Kind,
) -> image::ImageResult<(DynamicImage, ExtendedColorType)> {
    let mut decoder = ImageReader::with_format(file, kind.format()).into_decoder()?;
    let mut limits = Limits::default();
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let stored = decoder.original_color_type();
    Ok((DynamicImage::from_decoder(decoder)?, stored))
}

/// All samples, interleaved, and the largest that one can be.
fn samples_of(path: &Path, picture: DynamicImage) -> Result<(Vec<f32>, f32), VolumeError> {
    let bytes = |raw: Vec<u8>| (raw.into_iter().map(f32::from).collect(), 255.0);
    let words = |raw: Vec<u16>| (raw.into_iter().map(f32::from).collect(), 65535.0);
    Ok(match picture {
        DynamicImage::ImageLuma8(pixels) => bytes(pixels.into_raw()),
        DynamicImage::ImageLumaA8(pixels) => bytes(pixels.into_raw()),
        DynamicImage::ImageRgb8(pixels) => bytes(pixels.into_raw()),
        DynamicImage::ImageRgba8(pixels) => bytes(pixels.into_raw()),
        DynamicImage::ImageLuma16(pixels) => words(pixels.into_raw()),
        DynamicImage::ImageLumaA16(pixels) => words(pixels.into_raw()),
        DynamicImage::ImageRgb16(pixels) => words(pixels.into_raw()),
        DynamicImage::ImageRgba16(pixels) => words(pixels.into_raw()),
        DynamicImage::ImageRgb32F(pixels) => (pixels.into_raw(), 1.0),
        DynamicImage::ImageRgba32F(pixels) => (pixels.into_raw(), 1.0),
        other => {
            return Err(VolumeError::PictureKind {
                path: path.to_owned(),
                expected: "grey or colour of 8 or 16 bits",
                found: format!("{:?}", other.color()),
            });
        }
    })
}
