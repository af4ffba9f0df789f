//! A labelled 3D data set out of nothing: random bodies, scanned.
//!
//! Each case is a body of its own pose, proportions and deformation with a liver, two kidneys and a
//! bent vessel, and with spine, muscles, bowel, nodes and cysts that share the intensities of
//! these organs. The scan has a bias field, a texture, Rician noise, partial volume, anisotropic
//! spacing that varies from case to case, and an oblique affine. No interval of intensities
//! separates a class; its shape and its surroundings do.

mod anatomy;
mod scan;
mod smooth;
mod solid;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::json;

use crate::fsio::write_atomic;
use crate::volume::{Image, LabelMap, VolumeError, write_image, write_labels};
use scan::{Scan, random_scan};

/// Name of the folder of the data set.
pub const DATASET_NAME: &str = "Dataset900_Phantom";

/// Names of the classes; the position is the label.
pub const CLASS_NAMES: [&str; 4] = ["background", "liver", "kidney", "vessel"];

const FILE_ENDING: &str = ".nii.gz";

/// Below this the organs vanish between the voxels.
const SMALLEST_AXIS: usize = 8;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticConfig {
    /// Cases with truth to train on, at least one.
    pub training_cases: usize,
    /// Cases with truth to test on.
    pub test_cases: usize,
    /// Voxels of the typical scan, D, H, W, each at least 8. A scan's own shape differs by as much
    /// as its spacing does, so that its field of view stays.
    pub shape: [usize; 3],
    /// Spacing of the typical scan in mm, D, H, W; a scan's own differs by up to 6 %.
    pub spacing: [f64; 3],
    /// The same seed gives the same bytes, and case number n is the same however many there are.
    pub seed: u64,
}

impl Default for SyntheticConfig {
    /// 16 cases to train on and 4 to test on, of 32 x 64 x 64 voxels of 3 x 1.5 x 1.5 mm.
    fn default() -> Self {
        Self {
            training_cases: 16,
            test_cases: 4,
            shape: [32, 64, 64],
            spacing: [3.0, 1.5, 1.5],
            seed: 0,
        }
    }
}

impl SyntheticConfig {
    fn check(&self) -> Result<(), SyntheticError> {
        let refuse = |what: String| Err(SyntheticError::Config { what });
        if self.training_cases == 0 {
            return refuse("no training case: ask for at least one".to_owned());
        }
        if self.shape.iter().any(|&n| n < SMALLEST_AXIS) {
            return refuse(format!(
                "shape {:?}: every axis needs at least {SMALLEST_AXIS} voxels",
                self.shape
            ));
        }
        if !self.spacing.iter().all(|s| (0.01..=100.0).contains(s)) {
            return refuse(format!(
                "spacing {:?} mm: every axis must lie between 0.01 and 100 mm",
                self.spacing
            ));
        }
        Ok(())
    }
}

/// Why a data set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// A configuration that describes no data set.
    #[error("cannot make a synthetic data set: {what}")]
    Config {
        /// Which setting, what it is and what it may be.
        what: String,
    },
    /// The folder holds a file that is not part of the data set, which would be taken for one.
    #[error(
        "{path} is no file of the data set to be written here: choose another folder or remove it"
    )]
    Stranger {
        /// The file.
        path: PathBuf,
    },
    /// A folder that cannot be listed or a file that cannot be written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// An image or label map that could not be written.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticDataset {
    /// The data set's own folder, with dataset.json in it.
    pub folder: PathBuf,
    /// Names of the cases in imagesTr and labelsTr.
    pub training: Vec<String>,
    /// Names of the cases in imagesTs and labelsTs.
    pub test: Vec<String>,
}

/// Writes `parent`/[`DATASET_NAME`] in nnU-Net's raw layout: dataset.json, imagesTr, labelsTr,
/// imagesTs, and the truth of the test cases in labelsTs.
///
/// dataset.json is written last, so that a folder without it is one whose making was cut short.
/// A data set that is there already is written anew.
///
/// # Errors
/// [`SyntheticError`]: a configuration out of range, a file in the folder that this data set does
/// not hold, or a failure to write.
pub fn write_synthetic_dataset(
    parent: &Path,
    config: &SyntheticConfig,
) -> Result<SyntheticDataset, SyntheticError> {
    config.check()?;
    let folder = parent.join(DATASET_NAME);
    let training = Split::TRAINING.plan(&folder, config.training_cases);
    let test = Split::TEST.plan(&folder, config.test_cases);
    let cases: Vec<&PlannedCase> = training.iter().chain(&test).collect();
    refuse_strangers(&folder, &cases)?;
    cases.par_iter().try_for_each(|case| case.write(config))?;
    write_description(&folder, config)?;
    let names = |cases: Vec<PlannedCase>| cases.into_iter().map(|case| case.name).collect();
    Ok(SyntheticDataset {
        folder,
        training: names(training),
        test: names(test),
    })
}

/// One half of the data set: where its files lie and which random streams are its own.
struct Split {
    images: &'static str,
    labels: &'static str,
    prefix: &'static str,
    first_stream: u64,
}

impl Split {
    const TRAINING: Self = Self {
        images: "imagesTr",
        labels: "labelsTr",
        prefix: "train",
        first_stream: 0,
    };
    const TEST: Self = Self {
        images: "imagesTs",
        labels: "labelsTs",
        prefix: "test",
        first_stream: 1 << 32,
    };

    fn plan(&self, folder: &Path, count: usize) -> Vec<PlannedCase> {
        let case = |number: usize| {
            let name = format!("{}_{number:03}", self.prefix);
            PlannedCase {
                image: folder
                    .join(self.images)
                    .join(format!("{name}_0000{FILE_ENDING}")),
                labels: folder
                    .join(self.labels)
                    .join(format!("{name}{FILE_ENDING}")),
                stream: self.first_stream + number as u64,
                name,
            }
        };
        (1..=count).map(case).collect()
    }
}

struct PlannedCase {
    name: String,
    image: PathBuf,
    labels: PathBuf,
    stream: u64,
}

impl PlannedCase {
    fn write(&self, config: &SyntheticConfig) -> Result<(), SyntheticError> {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(self.stream);
        let Scan {
            geometry,
            voxels,
            labels,
        } = random_scan(&mut rng, config.shape, config.spacing);
        write_image(&self.image, &Image::new(geometry.clone(), 1, voxels)?)?;
        write_labels(&self.labels, &LabelMap::new(geometry, labels)?)?;
        Ok(())
    }
}

/// A case of an earlier, larger data set or of another one would be trained on or tested with.
fn refuse_strangers(folder: &Path, cases: &[&PlannedCase]) -> Result<(), SyntheticError> {
    let ours: BTreeSet<&Path> = cases
        .iter()
        .flat_map(|case| [case.image.as_path(), case.labels.as_path()])
        .collect();
    for split in [Split::TRAINING, Split::TEST] {
        for name in [split.images, split.labels] {
            let inner = folder.join(name);
            let failed = |source| SyntheticError::File {
                path: inner.clone(),
                source,
            };
            let entries = match fs::read_dir(&inner) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if is_volume(&path) && !ours.contains(path.as_path()) {
                    return Err(SyntheticError::Stranger { path });
                }
            }
        }
    }
    Ok(())
}

/// Not the hidden files that file managers and interrupted writes leave behind.
fn is_volume(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(FILE_ENDING) && !name.starts_with('.'))
}

fn write_description(folder: &Path, config: &SyntheticConfig) -> Result<(), SyntheticError> {
    let labels: serde_json::Map<String, serde_json::Value> = CLASS_NAMES
        .iter()
        .enumerate()
        .map(|(label, name)| ((*name).to_owned(), json!(label)))
        .collect();
    let description = json!({
        "name": "Phantom",
        "description": "Random bodies with liver, kidneys and a vessel, made by voxseg",
        "channel_names": { "0": "MRI" },
        "labels": labels,
        "numTraining": config.training_cases,
        "file_ending": FILE_ENDING,
    });
    let path = folder.join("dataset.json");
    write_atomic(&path, |file| {
        serde_json::to_writer_pretty(&mut *file, &description)?;
        file.write_all(b"\n")
    })
    .map_err(|source| SyntheticError::File { path, source })
}
