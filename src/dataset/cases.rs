//! Finding the files of each case in a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::description::Description;
use super::error::DatasetError;
use crate::volume::ending_of;

/// The files of one patient, animal, slice...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The file name without channel number and ending.
    pub id: String,
    /// One file per channel, channel 0 first; or one colour picture that holds all of them.
    pub images: Vec<PathBuf>,
    /// The label map, where there is one.
    pub label: Option<PathBuf>,
}

/// A data set in nnU-Net's raw layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The folder that holds dataset.json.
    pub path: PathBuf,
    /// dataset.json.
    pub description: Description,
    /// The cases of imagesTr and labelsTr in order of their names.
    pub training: Vec<Case>,
    /// The cases of imagesTs in order of their names, with labels where labelsTs has them.
    pub test: Vec<Case>,
}

impl Dataset {
    /// Reads dataset.json and finds all files; opens none of the images.
    ///
    /// # Errors
    /// [`DatasetError`] for a missing folder, an empty one, missing or surplus channels, a missing
    /// label, or a label without an image, each naming the file and the remedy.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        require_folder(path, "give the folder that holds dataset.json")?;
        let description = Description::read(path)?;
        let (channels, ending) = (description.channels(), &description.file_ending);
        let mut training = find_images(&path.join("imagesTr"), channels, ending)?;
        attach_labels(&mut training, &path.join("labelsTr"), ending)?;
        let test_folder = path.join("imagesTs");
        let mut test = Vec::new();
        if test_folder.is_dir() && !list_folder(&test_folder)?.is_empty() {
            test = find_images(&test_folder, channels, ending)?;
        }
        for case in &mut test {
            let label = path.join("labelsTs").join(format!("{}{ending}", case.id));
            case.label = label.is_file().then_some(label);
        }
        Ok(Self {
            path: path.to_owned(),
            description,
            training,
            test,
        })
    }

    /// The training case of this name.
    pub fn case(&self, id: &str) -> Option<&Case> {
        let index = self
            .training
            .binary_search_by(|case| case.id.as_str().cmp(id));
        Some(&self.training[index.ok()?])
    }
}

/// Finds the cases in a plain folder of images: files named `CASE_0000.nii.gz`, the channel in four
/// digits. Files of another ending are left alone, and so are hidden ones.
///
/// The result is in order of the names and without labels. A picture may hold several channels, so
/// that a case of pictures may have one file only.
///
/// # Errors
/// [`DatasetError::NoFolder`], [`DatasetError::NoCases`], [`DatasetError::NoChannelNumber`],
/// [`DatasetError::MissingChannel`], [`DatasetError::SurplusChannel`], [`DatasetError::Io`].
pub fn find_images(
    folder: &Path,
    channels: usize,
    ending: &str,
) -> Result<Vec<Case>, DatasetError> {
    require_folder(folder, "put the images there, or give another folder")?;
    let names = list_folder(folder)?;
    let fitting = names.iter().filter(|name| has_ending(name, ending));
    let files = fitting.map(|name| name.split_at(name.len() - ending.len()));
    let cases = group(folder, channels, ending, files)?;
    match cases.is_empty() {
        false => Ok(cases),
        true => Err(DatasetError::NoCases {
            path: folder.to_owned(),
            ending: ending.to_owned(),
            hint: other_endings(&names, ending),
        }),
    }
}

/// What a folder of images to segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundImages {
    /// The cases in order of their names, without labels.
    pub cases: Vec<Case>,
    /// Files that are named like no image of a case.
    pub left_out: Vec<PathBuf>,
}

/// As [`find_images`], but also takes files of other endings than `ending` that can be read as the same kind of image:
/// volumes, or pictures.
///
/// # Errors
/// Those of [`find_images`], but for a folder without cases; [`DatasetError::OtherKind`] for a file that is named as
/// an image of a case and cannot be one; [`DatasetError::Twice`].
pub fn find_readable_images(
    folder: &Path,
    channels: usize,
    ending: &str,
) -> Result<FoundImages, DatasetError> {
    require_folder(folder, "put the images there, or give another folder")?;
    let names = list_folder(folder)?;
    let mut files = Vec::new();
    let mut left_out = Vec::new();
    for name in &names {
        let known = ending_of(Path::new(name));
        match known.map(|known| name.split_at(name.len() - known.len())) {
            Some((stem, own)) if is_picture(own) == is_picture(ending) => {
                // Header and voxels of a pair are one file in two.
                let is_half = own.to_ascii_lowercase().starts_with(".img")
                    && names.iter().any(|other| is_header_of(other, stem));
                if !is_half {
                    files.push((stem, own));
                }
            }
            _ if is_named_as_image(name) => {
                return Err(DatasetError::OtherKind {
                    path: folder.join(name),
                    ending: ending.to_owned(),
                });
            }
            _ => left_out.push(folder.join(name)),
        }
    }
    Ok(FoundImages {
        cases: group(folder, channels, ending, files.into_iter())?,
        left_out,
    })
}

fn is_header_of(name: &str, stem: &str) -> bool {
    let rest = name.strip_prefix(stem);
    rest.is_some_and(|rest| rest.to_ascii_lowercase().starts_with(".hdr"))
}

/// Whether a name is `CASE_0000` with anything behind a dot.
fn is_named_as_image(name: &str) -> bool {
    let mut dots = name.match_indices('.');
    dots.any(|(at, _)| split_channel(&name[..at]).is_some())
}

/// The cases of `files`, each a name without its ending, and the ending.
fn group<'a>(
    folder: &Path,
    channels: usize,
    ending: &str,
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Case>, DatasetError> {
    let mut found: BTreeMap<&str, BTreeMap<usize, PathBuf>> = BTreeMap::new();
    for (stem, own) in files {
        let path = folder.join(format!("{stem}{own}"));
        let Some((id, channel)) = split_channel(stem) else {
            return Err(DatasetError::NoChannelNumber {
                path,
                ending: own.to_owned(),
            });
        };
        if channel >= channels {
            return Err(DatasetError::SurplusChannel {
                path,
                channel,
                channels,
            });
        }
        let same = found.entry(id).or_default().insert(channel, path.clone());
        if let Some(other) = same {
            return Err(DatasetError::Twice { path, other });
        }
    }
    found
        .into_iter()
        .map(|(id, files)| case_of(folder, id, files, channels, ending))
        .collect()
}

fn case_of(
    folder: &Path,
    id: &str,
    files: BTreeMap<usize, PathBuf>,
    channels: usize,
    ending: &str,
) -> Result<Case, DatasetError> {
    let is_one_picture = files.len() == 1 && files.contains_key(&0) && is_picture(ending);
    if !is_one_picture
        && let Some(missing) = (0..channels).find(|channel| !files.contains_key(channel))
    {
        return Err(DatasetError::MissingChannel {
            path: folder.join(format!("{id}_{missing:04}{ending}")),
            case: id.to_owned(),
            channels,
        });
    }
    Ok(Case {
        id: id.to_owned(),
        images: files.into_values().collect(),
        label: None,
    })
}

fn attach_labels(cases: &mut [Case], folder: &Path, ending: &str) -> Result<(), DatasetError> {
    require_folder(folder, "put one label file per case of imagesTr there")?;
    for case in cases.iter_mut() {
        let path = folder.join(format!("{}{ending}", case.id));
        if !path.is_file() {
            let case = case.id.clone();
            return Err(DatasetError::MissingLabel { path, case });
        }
        case.label = Some(path);
    }
    for name in list_folder(folder)?
        .iter()
        .filter(|n| has_ending(n, ending))
    {
        let id = &name[..name.len() - ending.len()];
        if cases
            .binary_search_by(|case| case.id.as_str().cmp(id))
            .is_err()
        {
            return Err(DatasetError::StrayLabel {
                path: folder.join(name),
                case: id.to_owned(),
            });
        }
    }
    Ok(())
}

fn require_folder(path: &Path, remedy: &'static str) -> Result<(), DatasetError> {
    if path.is_dir() {
        return Ok(());
    }
    Err(DatasetError::NoFolder {
        path: path.to_owned(),
        remedy,
    })
}

/// Names of the visible files of a folder in order. A name that is no Unicode cannot be a case.
fn list_folder(folder: &Path) -> Result<Vec<String>, DatasetError> {
    let read = |e| DatasetError::read(folder, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && entry.path().is_file()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether the known ending of `name` is exactly `ending`; `.nii` is not that of `a.nii.gz`.
fn has_ending(name: &str, ending: &str) -> bool {
    name.ends_with(ending)
        && ending_of(Path::new(name)).is_some_and(|known| known.len() == ending.len())
}

/// `CASE_0001` is channel 1 of `CASE`.
fn split_channel(stem: &str) -> Option<(&str, usize)> {
    let (id, digits) = stem.rsplit_once('_')?;
    let is_number = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    if id.is_empty() || !is_number {
        return None;
    }
    Some((id, digits.parse().ok()?))
}

/// Whether files of this ending may hold several channels.
pub(crate) fn is_picture(ending: &str) -> bool {
    matches!(
        ending.to_ascii_lowercase().as_str(),
        ".png" | ".tif" | ".tiff"
    )
}

/// What a folder without the wanted ending holds, for the message.
fn other_endings(names: &[String], ending: &str) -> String {
    let other = names.iter().find(|name| !has_ending(name, ending));
    other.map_or_else(
        || ", but the folder is empty".to_owned(),
        |name| format!(", but found {name}; is file_ending in dataset.json right?"),
    )
}
