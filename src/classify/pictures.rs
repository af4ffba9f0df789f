//! Images as the network wants them: one size, and mean 0 and standard deviation 1 over the training images.

use std::borrow::Cow;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ClassifyError, Labelled};
use crate::dataset::antialiased;
use crate::hash::Fnv;
use crate::volume::{VolumeError, read_image};

/// Bytes of prepared images that are kept in memory; what is beyond is read again when it is drawn.
const KEPT_BYTES: usize = 1 << 30;

/// Images read at once, between two words on the progress.
const CHUNK: usize = 64;

/// How an image is made ready; kept with a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// H, W in pixels.
    pub size: [usize; 2],
    /// Of each channel over the training images, in the units of the files.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel; 1 where all pixels are alike.
    pub deviation: Vec<f64>,
}

impl Preparation {
    /// An image (C, H, W) from a file: resized (bilinear, antialiased where it shrinks), then normalised.
    ///
    /// # Errors
    /// [`VolumeError`], with [`VolumeError::PictureKind`] for other channels and for volumes.
    pub fn read(&self, path: &Path) -> Result<Vec<f32>, VolumeError> {
        let mut image = resized(path, self.size)?;
        if image.channels != self.channels {
            return Err(VolumeError::PictureKind {
                path: path.to_owned(),
                expected: match self.channels {
                    1 => "a grey picture, as those that the network was trained on",
                    _ => "a colour picture, as those that the network was trained on",
                },
                found: format!("{} channel(s)", image.channels),
            });
        }
        self.normalise(&mut image.pixels);
        Ok(image.pixels)
    }

    /// Elements of an image.
    pub fn len(&self) -> usize {
        self.channels * self.size[0] * self.size[1]
    }

    /// Whether an image has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn normalise(&self, pixels: &mut [f32]) {
        let area = self.size[0] * self.size[1];
        for (c, channel) in pixels.chunks_exact_mut(area).enumerate() {
            let (mean, deviation) = (self.mean[c], self.deviation[c]);
            for v in channel {
                *v = ((f64::from(*v) - mean) / deviation) as f32;
            }
        }
    }
}

/// An image (C, H, W) of a given size.
struct Resized {
    channels: usize,
    pixels: Vec<f32>,
}

fn resized(path: &Path, size: [usize; 2]) -> Result<Resized, VolumeError> {
    let image = flat(path)?;
    let (from, channels) = (image.shape(), image.channels());
    let to = [1, size[0], size[1]];
    let area = from.iter().product();
    let planes = image.voxels().chunks_exact(area);
    let pixels = planes.flat_map(|plane| antialiased(plane, from, to));
    Ok(Resized {
        channels,
        pixels: pixels.collect(),
    })
}

/// A picture; volumes of several slices are refused.
fn flat(path: &Path) -> Result<crate::volume::Image, VolumeError> {
    let image = read_image(path)?;
    match image.shape() {
        [1, _, _] => Ok(image),
        [depth, ..] => Err(VolumeError::PictureKind {
            path: path.to_owned(),
            expected: "a picture, or a volume of one slice",
            found: format!("{depth} slices"),
        }),
    }
}

/// H and W that the largest of `images` has along each axis, up to `most`.
pub(super) fn largest_size(
    images: &[Labelled],
    most: [usize; 2],
) -> Result<[usize; 2], ClassifyError> {
    let mut size = [1, 1];
    for chunk in images.chunks(CHUNK) {
        let shapes: Vec<[usize; 3]> = chunk
            .par_iter()
            .map(|image| Ok(flat(&image.path)?.shape()))
            .collect::<Result<_, VolumeError>>()?;
        for [_, height, width] in shapes {
            size = [size[0].max(height), size[1].max(width)];
        }
        if size[0] >= most[0] && size[1] >= most[1] {
            break;
        }
    }
    Ok([size[0].min(most[0]), size[1].min(most[1])])
}

/// Images that have been read once.
#[derive(Debug)]
pub(super) struct Pictures {
    pub images: Vec<Labelled>,
    pub preparation: Preparation,
    /// Normalised, (C, H, W); `None` where there was no room.
    kept: Vec<Option<Vec<f32>>>,
}

/// What one reading of all images gives.
pub(super) struct Prepared {
    pub train: Pictures,
    pub validation: Pictures,
    /// A hash of all pixels, in their order.
    pub content: u64,
}

/// Reads the images, resizes them to `size`, and normalises all by the mean and standard deviation of those to train on.
/// `progress` hears of the images done.
pub(super) fn prepare(
    train: Vec<Labelled>,
    validation: Vec<Labelled>,
    size: [usize; 2],
    progress: &mut dyn FnMut(usize),
) -> Result<Prepared, ClassifyError> {
    let mut reading = Reading {
        channels: None,
        room: KEPT_BYTES,
        content: Fnv::new(),
        done: 0,
    };
    let (mut sums, mut ignored) = (Sums::default(), Sums::default());
    let kept = reading.read(&train, size, &mut sums, progress)?;
    let held = reading.read(&validation, size, &mut ignored, progress)?;
    let preparation = sums.preparation(size);
    let normalised = |images, kept: Vec<Option<Vec<f32>>>| {
        let mut kept = kept;
        kept.par_iter_mut()
            .flatten()
            .for_each(|pixels| preparation.normalise(pixels));
        Pictures {
            images,
            preparation: preparation.clone(),
            kept,
        }
    };
    Ok(Prepared {
        train: normalised(train, kept),
        validation: normalised(validation, held),
        content: reading.content.finish(),
    })
}

impl Pictures {
    /// Image number `at`, (C, H, W), normalised.
    pub fn get(&self, at: usize) -> Result<Cow<'_, [f32]>, VolumeError> {
        match &self.kept[at] {
            Some(pixels) => Ok(Cow::Borrowed(pixels)),
            None => Ok(Cow::Owned(self.preparation.read(&self.images[at].path)?)),
        }
    }
}

/// The state of a reading.
struct Reading {
    /// Of the first image, with its place.
    channels: Option<(std::path::PathBuf, usize)>,
    /// Bytes that may still be kept.
    room: usize,
    content: Fnv,
    done: usize,
}

impl Reading {
    fn read(
        &mut self,
        images: &[Labelled],
        size: [usize; 2],
        sums: &mut Sums,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Option<Vec<f32>>>, ClassifyError> {
        let mut kept = Vec::with_capacity(images.len());
        for chunk in images.chunks(CHUNK) {
            let read: Vec<Result<(Resized, u64), VolumeError>> = chunk
                .par_iter()
                .map(|image| {
                    let image = resized(&image.path, size)?;
                    let hash = Fnv::of(bytemuck::cast_slice(&image.pixels));
                    Ok((image, hash))
                })
                .collect();
            for (labelled, image) in chunk.iter().zip(read) {
                let (image, hash) = image?;
                self.check_channels(&labelled.path, image.channels)?;
                sums.add(&image);
                self.content.add(&hash.to_le_bytes());
                let bytes = size_of_val(image.pixels.as_slice());
                let fits = bytes <= self.room;
                self.room -= if fits { bytes } else { 0 };
                kept.push(fits.then_some(image.pixels));
            }
            self.done += chunk.len();
            progress(self.done);
        }
        Ok(kept)
    }

    fn check_channels(&mut self, path: &Path, found: usize) -> Result<(), ClassifyError> {
        let (first, expected) = self
            .channels
            .get_or_insert_with(|| (path.to_owned(), found));
        if *expected == found {
            return Ok(());
        }
        Err(ClassifyError::Channels {
            path: path.to_owned(),
            found,
            first: first.clone(),
            expected: *expected,
        })
    }
}

/// Sums of pixels and of their squares, image by image in order, so that they are the same however many threads read.
#[derive(Default)]
struct Sums {
    pixels: f64,
    channels: Vec<[f64; 2]>,
}

impl Sums {
    fn add(&mut self, image: &Resized) {
        self.channels.resize(image.channels, [0.0; 2]);
        let area = image.pixels.len() / image.channels.max(1);
        self.pixels += area as f64;
        for (sums, channel) in self.channels.iter_mut().zip(image.pixels.chunks(area)) {
            for &v in channel {
                let v = f64::from(v);
                *sums = [sums[0] + v, sums[1] + v * v];
            }
        }
    }

    fn preparation(&self, size: [usize; 2]) -> Preparation {
        let moments = self.channels.iter().map(|[sum, squares]| {
            let mean = sum / self.pixels;
            let variance = (squares / self.pixels - mean * mean).max(0.0);
            // What rounding leaves of a channel whose pixels are all alike is no deviation.
            let is_flat = variance <= 1e-12 * mean * mean;
            (mean, if is_flat { 1.0 } else { variance.sqrt() })
        });
        let (mean, deviation) = moments.unzip();
        Preparation {
            channels: self.channels.len(),
            size,
            mean,
            deviation,
        }
    }
}
