//! The voxels of one case in memory, and the check of a whole data set.

use std::path::{Path, PathBuf};

use super::cases::{Case, Dataset};
use super::description::DESCRIPTION_FILE;
use super::error::DatasetError;
use super::labels::Labels;
use crate::volume::{Geometry, LabelMap, check_same_geometry, read_image, read_labels};

/// A case as it lies in its files.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedCase {
    /// Name of the case.
    pub id: String,
    /// Its first image file, for messages.
    pub path: PathBuf,
    /// Where the voxels lie: that of the first channel.
    pub geometry: Geometry,
    /// Number of channels.
    pub channels: usize,
    /// Intensities, C, D, H, W; all finite.
    pub image: Vec<f32>,
    /// Labels, D, H, W; all of them in dataset.json.
    pub label: Option<Vec<u32>>,
}

/// Reads all channels of a case, but not its label. `channels` is what dataset.json names.
///
/// # Errors
/// [`DatasetError::Volume`] for unreadable files, non-finite voxels, and channels that do not lie on
/// each other; [`DatasetError::ChannelCount`]; [`DatasetError::Empty`].
pub fn load_image(case: &Case, channels: usize) -> Result<LoadedCase, DatasetError> {
    let mut first: Option<(&Path, Geometry)> = None;
    let mut voxels = Vec::new();
    let mut found = 0;
    for path in &case.images {
        let image = read_image(path)?;
        if image.geometry().voxels() == 0 {
            return Err(DatasetError::Empty {
                path: path.clone(),
                shape: image.shape(),
            });
        }
        if let Some((first_path, geometry)) = &first {
            check_same_geometry(first_path, geometry, path, image.geometry())?;
        }
        found += image.channels();
        let (geometry, mut more) = image.into_parts();
        first.get_or_insert((path, geometry));
        if voxels.is_empty() {
            voxels = more;
        } else {
            voxels.append(&mut more);
        }
    }
    let path = case.images.first().cloned().unwrap_or_default();
    match first {
        Some((_, geometry)) if found == channels => Ok(LoadedCase {
            id: case.id.clone(),
            path,
            geometry,
            channels,
            image: voxels,
            label: None,
        }),
        _ => Err(DatasetError::ChannelCount {
            path,
            case: case.id.clone(),
            expected: channels,
            found,
        }),
    }
}

/// Reads all channels of a case and its label, where it has one, and checks both.
///
/// # Errors
/// As [`load_image`]; [`DatasetError::Volume`] where image and label do not lie on each other;
/// [`DatasetError::LabelValue`].
pub fn load_case(
    case: &Case,
    channels: usize,
    labels: &Labels,
) -> Result<LoadedCase, DatasetError> {
    let mut loaded = load_image(case, channels)?;
    if let Some(path) = &case.label {
        let map = read_labels(path)?;
        check_same_geometry(&case.images[0], &loaded.geometry, path, map.geometry())?;
        check_label_values(path, &map, labels)?;
        loaded.label = Some(map.into_parts().1);
    }
    Ok(loaded)
}

/// Checks that a label map holds no value but those of dataset.json.
///
/// # Errors
/// [`DatasetError::LabelValue`] naming the values, the file `path`, and the first such voxel.
pub fn check_label_values(
    path: &Path,
    map: &LabelMap,
    labels: &Labels,
) -> Result<(), DatasetError> {
    const NAMED_AT_MOST: usize = 8;
    let allowed = labels.values();
    let mut found: Vec<u32> = Vec::new();
    let (mut count, mut first) = (0, None);
    for (offset, label) in map.labels().iter().enumerate() {
        if allowed.binary_search(label).is_ok() {
            continue;
        }
        count += 1;
        first.get_or_insert(offset);
        if !found.contains(label) && found.len() < NAMED_AT_MOST {
            found.push(*label);
        }
    }
    let Some(first) = first else { return Ok(()) };
    found.sort_unstable();
    Err(DatasetError::LabelValue {
        path: path.to_owned(),
        found,
        allowed,
        count,
        first: map.geometry().index_of(first),
    })
}

/// Refuses a number of training cases that is not `numTraining`: some are missing, or not meant.
///
/// # Errors
/// [`DatasetError::CaseCount`].
pub fn check_case_count(dataset: &Dataset) -> Result<(), DatasetError> {
    let found = dataset.training.len();
    match dataset.description.num_training {
        Some(promised) if promised != found => Err(DatasetError::CaseCount {
            path: dataset.path.join(DESCRIPTION_FILE),
            promised,
            found,
        }),
        _ => Ok(()),
    }
}

/// Reads every training case and collects one error per problem: unreadable files, non-finite
/// voxels, channels and labels that do not lie on each other, foreign label values, a number of
/// cases that is not `numTraining`. An empty list means that the data set is sound.
///
/// `progress` is called after each case with the number of cases done.
pub fn check_integrity(dataset: &Dataset, mut progress: impl FnMut(usize)) -> Vec<DatasetError> {
    let mut problems: Vec<_> = check_case_count(dataset).err().into_iter().collect();
    let (channels, labels) = (dataset.description.channels(), &dataset.description.labels);
    for (done, case) in dataset.training.iter().enumerate() {
        problems.extend(problems_of(case, channels, labels));
        progress(done + 1);
    }
    problems
}

/// All that is wrong with one case: its image and its label each on its own, then both together.
fn problems_of(case: &Case, channels: usize, labels: &Labels) -> Vec<DatasetError> {
    let image = load_image(case, channels);
    let Some(path) = &case.label else {
        return image.err().into_iter().collect();
    };
    let label = read_labels(path).map_err(DatasetError::from);
    let mut problems = Vec::new();
    if let (Ok(image), Ok(label)) = (&image, &label) {
        let (at, geometry) = (&case.images[0], &image.geometry);
        let same = check_same_geometry(at, geometry, path, label.geometry());
        problems.extend(same.err().map(DatasetError::from));
    }
    problems.extend(image.err());
    match label {
        Ok(label) => problems.extend(check_label_values(path, &label, labels).err()),
        Err(error) => problems.push(error),
    }
    problems
}
