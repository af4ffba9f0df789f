//! A preprocessed case in a file, of which patches are read without the rest.
//!
//! The file: 16 bytes that name the format and its version, the length of the header as `u64`, the
//! header as JSON, the image as `f32` (C, D, H, W), the label map as `u8` or `u16` (D, H, W), the
//! foreground locations as `u64` offsets, one list after the other. All numbers are little endian.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::error::DatasetError;
use super::labels::Labels;
use super::locations::sample_locations;
use super::preprocess::{CropAndResample, Preprocessed};
use crate::fsio::write_atomic;
use crate::hash::Fnv;

/// Format and version; another version is another format.
const MAGIC: &[u8; 16] = b"voxseg case v02\n";

/// A header is a few hundred bytes; a length beyond this is damage.
const LONGEST_HEADER: u64 = 1 << 20;

const VOXEL_BYTES: u64 = size_of::<f32>() as u64;
const LOCATION_BYTES: u64 = size_of::<u64>() as u64;

/// The header of a prepared case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    id: String,
    /// Hash of the voxels of image and label.
    content: u64,
    channels: usize,
    record: CropAndResample,
    /// 1 or 2.
    label_bytes: u64,
    /// Label of what lies outside: the ignore label, or background.
    outside: u32,
    /// Number of foreground classes or regions.
    targets: usize,
    /// Length of each list of locations; one more than `targets` where there is an ignore label.
    locations: Vec<u64>,
}

/// A preprocessed, labelled case on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedCase {
    path: PathBuf,
    header: Header,
    /// Where the image begins.
    image_at: u64,
}

/// A piece of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Intensities, C, D, H, W; 0 outside the volume.
    pub image: Vec<f32>,
    /// Labels, D, H, W; outside the volume the ignore label, or 0 where there is none.
    pub label: Vec<f32>,
}

impl PreparedCase {
    /// Writes a preprocessed case to `path`, whole or not at all. `seed` decides which foreground
    /// voxels are kept.
    ///
    /// # Errors
    /// [`DatasetError::Io`]; [`DatasetError::Size`] where the case has no label.
    pub fn write(
        path: &Path,
        id: &str,
        case: &Preprocessed,
        labels: &Labels,
        seed: u64,
    ) -> Result<Self, DatasetError> {
        let voxels: usize = case.record.resampled_shape.iter().product();
        let label = case.label.as_deref().unwrap_or_default();
        if label.len() != voxels {
            return Err(DatasetError::Size {
                what: "labels of a case to prepare",
                expected: voxels,
                found: label.len(),
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let lists = sample_locations(label, labels, &mut rng);
        let largest = labels.values().last().copied().unwrap_or(0);
        let header = Header {
            id: id.to_owned(),
            content: content_of(&case.image, label),
            channels: case.channels,
            record: case.record,
            label_bytes: if largest > u32::from(u8::MAX) { 2 } else { 1 },
            outside: labels.ignore.unwrap_or(0),
            targets: labels.foreground.len(),
            locations: lists.iter().map(|list| list.len() as u64).collect(),
        };
        let text = serde_json::to_vec(&header).map_err(|e| DatasetError::json(path, &e))?;
        write_atomic(path, |to| {
            to.write_all(MAGIC)?;
            to.write_all(&(text.len() as u64).to_le_bytes())?;
            to.write_all(&text)?;
            case.image
                .iter()
                .try_for_each(|v| to.write_all(&v.to_le_bytes()))?;
            write_label(to, label, header.label_bytes)?;
            let mut locations = lists.iter().flatten();
            locations.try_for_each(|offset| to.write_all(&offset.to_le_bytes()))
        })
        .map_err(|e| DatasetError::written(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            header,
            image_at: (MAGIC.len() + size_of::<u64>() + text.len()) as u64,
        })
    }

    /// Opens a prepared case: reads its header and compares the length of the file.
    ///
    /// # Errors
    /// [`DatasetError::Prepared`] for a file that is cut off, of another program or of another
    /// version; [`DatasetError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let refuse = |reason: &str| DatasetError::prepared(path, reason);
        let read = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => refuse("cut off within its header"),
            _ => DatasetError::read(path, e),
        };
        let mut file = File::open(path).map_err(read)?;
        let found = file.metadata().map_err(read)?.len();
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(read)?;
        if &magic != MAGIC {
            return Err(refuse("not a prepared case of this version of voxseg"));
        }
        let mut length = [0; size_of::<u64>()];
        file.read_exact(&mut length).map_err(read)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            return Err(refuse("damaged: its header has an impossible length"));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(read)?;
        let header: Header = serde_json::from_slice(&text)
            .map_err(|e| DatasetError::prepared(path, format!("damaged header: {e}")))?;
        let image_at = MAGIC.len() as u64 + size_of::<u64>() as u64 + length;
        let expected = header
            .length_of_data()
            .and_then(|n| n.checked_add(image_at));
        match expected {
            Some(expected) if expected == found => Ok(Self {
                path: path.to_owned(),
                header,
                image_at,
            }),
            Some(expected) => Err(DatasetError::prepared(
                path,
                format!("cut off or damaged: {found} bytes, its header says {expected}"),
            )),
            None => Err(refuse("damaged: its header makes no sense")),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the case.
    pub fn id(&self) -> &str {
        &self.header.id
    }

    /// A hash of the voxels of image and label: cases of the same content have the same, wherever and whenever they
    /// were prepared.
    pub fn content(&self) -> u64 {
        self.header.content
    }

    /// Number of image channels.
    pub fn channels(&self) -> usize {
        self.header.channels
    }

    /// Voxels along D, H, W.
    pub fn shape(&self) -> [usize; 3] {
        self.header.record.resampled_shape
    }

    /// What was done to the grid of the file.
    pub fn record(&self) -> &CropAndResample {
        &self.header.record
    }

    /// Number of stored voxels of each foreground class or region; 0 where the case lacks it.
    pub fn foreground(&self) -> &[u64] {
        &self.header.locations[..self.header.targets]
    }

    /// Number of stored annotated voxels, where the data set has an ignore label.
    pub fn annotated(&self) -> Option<u64> {
        self.header.locations.get(self.header.targets).copied()
    }

    /// Index (D, H, W) of the stored voxel number `number` of list `list`: a foreground class or
    /// region, or the annotated voxels, which follow them.
    ///
    /// # Errors
    /// [`DatasetError::Prepared`] where there is none or the file is damaged; [`DatasetError::Io`].
    pub fn location(&self, list: usize, number: u64) -> Result<[usize; 3], DatasetError> {
        let lists = &self.header.locations;
        if lists.get(list).is_none_or(|&length| number >= length) {
            return Err(DatasetError::prepared(&self.path, "no such location"));
        }
        let before: u64 = lists[..list].iter().sum::<u64>() + number;
        let start = self.label_at() + self.header.voxels() * self.header.label_bytes;
        let mut bytes = [0; size_of::<u64>()];
        let mut file = self.file()?;
        self.read_at(&mut file, start + before * LOCATION_BYTES, &mut bytes)?;
        let offset = u64::from_le_bytes(bytes);
        if offset >= self.header.voxels() {
            return Err(DatasetError::prepared(&self.path, "damaged locations"));
        }
        let [_, height, width] = self.shape();
        let (offset, row) = (offset as usize, offset as usize / width);
        Ok([row / height, row % height, offset % width])
    }

    /// Reads the box of `extent` voxels (D, H, W) whose first voxel is `start`, which may lie outside
    /// of the volume, as may all of the box. Only the slices that it meets are read.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::Prepared`] where the file has become shorter.
    pub fn read_patch(&self, start: [isize; 3], extent: [usize; 3]) -> Result<Patch, DatasetError> {
        let mut file = self.file()?;
        let voxels: usize = extent.iter().product();
        let mut image = Vec::with_capacity(self.channels() * voxels);
        let volume = self.header.voxels();
        let patch = Window { start, extent };
        for channel in 0..self.channels() as u64 {
            let at = self.image_at + channel * volume * VOXEL_BYTES;
            let decode = |b: [u8; 4]| f32::from_le_bytes(b);
            self.read_window(&mut file, at, patch, 0.0, decode, &mut image)?;
        }
        let mut label = Vec::with_capacity(voxels);
        let outside = self.header.outside as f32;
        let at = self.label_at();
        if self.header.label_bytes == 1 {
            let decode = |b: [u8; 1]| f32::from(b[0]);
            self.read_window(&mut file, at, patch, outside, decode, &mut label)?;
        } else {
            let decode = |b: [u8; 2]| f32::from(u16::from_le_bytes(b));
            self.read_window(&mut file, at, patch, outside, decode, &mut label)?;
        }
        Ok(Patch { image, label })
    }

    /// The whole case.
    ///
    /// # Errors
    /// As [`PreparedCase::read_patch`].
    pub fn read(&self) -> Result<Patch, DatasetError> {
        self.read_patch([0; 3], self.shape())
    }

    /// Appends one channel of a window to `out`; the volume begins at byte `at`, each voxel has `B`
    /// bytes. The rows of a slice are read at once, with what lies beside them.
    fn read_window<const B: usize>(
        &self,
        file: &mut File,
        at: u64,
        window: Window,
        outside: f32,
        decode: impl Fn([u8; B]) -> f32,
        out: &mut Vec<f32>,
    ) -> Result<(), DatasetError> {
        let [_, height, width] = self.shape();
        let inside = window.inside(self.shape());
        let begin = out.len();
        out.resize(begin + window.extent.iter().product::<usize>(), outside);
        let out = &mut out[begin..];
        if inside.iter().any(|axis| axis.count == 0) {
            return Ok(());
        }
        let [ds, hs, ws] = inside;
        let mut bytes = vec![0; hs.count * width * B];
        for d in 0..ds.count {
            let first = ((ds.from + d) * height + hs.from) * width;
            self.read_at(file, at + (first * B) as u64, &mut bytes)?;
            for (h, row) in bytes.chunks_exact(width * B).enumerate() {
                let slice = (ds.to + d) * window.extent[1];
                let to = (slice + hs.to + h) * window.extent[2] + ws.to;
                let row = row[ws.from * B..].as_chunks::<B>().0;
                for (out, bytes) in out[to..to + ws.count].iter_mut().zip(row) {
                    *out = decode(*bytes);
                }
            }
        }
        Ok(())
    }

    fn label_at(&self) -> u64 {
        self.image_at + self.channels() as u64 * self.header.voxels() * VOXEL_BYTES
    }

    fn file(&self) -> Result<File, DatasetError> {
        File::open(&self.path).map_err(|e| DatasetError::read(&self.path, e))
    }

    fn read_at(&self, file: &mut File, at: u64, bytes: &mut [u8]) -> Result<(), DatasetError> {
        let read = file
            .seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(bytes));
        read.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => DatasetError::prepared(&self.path, "cut off"),
            _ => DatasetError::read(&self.path, e),
        })
    }
}

impl Header {
    fn voxels(&self) -> u64 {
        self.record
            .resampled_shape
            .iter()
            .map(|&n| n as u64)
            .product()
    }

    /// Bytes after the header, or `None` where its numbers contradict each other.
    fn length_of_data(&self) -> Option<u64> {
        let shape = self.record.resampled_shape;
        let multiply = |product: u64, &n: &usize| product.checked_mul(n as u64);
        let voxels = shape.iter().try_fold(1, multiply)?;
        let image = voxels
            .checked_mul(VOXEL_BYTES)?
            .checked_mul(self.channels as u64)?;
        let label = voxels.checked_mul(self.label_bytes)?;
        let add = |sum: u64, &n: &u64| sum.checked_add(n);
        let locations = self
            .locations
            .iter()
            .try_fold(0, add)?
            .checked_mul(LOCATION_BYTES)?;
        let is_sound = matches!(self.label_bytes, 1 | 2)
            && !shape.contains(&0)
            && (self.targets..=self.targets.checked_add(1)?).contains(&self.locations.len());
        is_sound.then_some(image.checked_add(label)?.checked_add(locations)?)
    }
}

fn content_of(image: &[f32], label: &[u32]) -> u64 {
    let mut hash = Fnv::new();
    image.iter().for_each(|v| hash.add(&v.to_le_bytes()));
    label.iter().for_each(|v| hash.add(&v.to_le_bytes()));
    hash.finish()
}

fn write_label(to: &mut dyn Write, label: &[u32], bytes: u64) -> io::Result<()> {
    label.iter().try_for_each(|value| {
        let value = value.to_le_bytes();
        to.write_all(&value[..bytes as usize])
    })
}

/// A box that may hang over the volume.
#[derive(Clone, Copy)]
struct Window {
    start: [isize; 3],
    extent: [usize; 3],
}

/// The part of an axis of a window that lies in the volume.
#[derive(Clone, Copy)]
struct Overlap {
    /// First voxel in the volume.
    from: usize,
    /// The same voxel in the window.
    to: usize,
    count: usize,
}

impl Window {
    fn inside(self, shape: [usize; 3]) -> [Overlap; 3] {
        std::array::from_fn(|axis| {
            let start = self.start[axis];
            let from = start.max(0) as usize;
            let to = start.min(0).unsigned_abs();
            let left_in_window = self.extent[axis].saturating_sub(to);
            let left_in_volume = shape[axis].saturating_sub(from);
            Overlap {
                from,
                to,
                count: left_in_window.min(left_in_volume),
            }
        })
    }
}
