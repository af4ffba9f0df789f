//! Which images there are, and the class that a folder or a list gives each.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use csv::{ErrorKind, Position, ReaderBuilder, StringRecord, Trim};

use super::ClassifyError;
use crate::volume::ending_of;

/// The header of a list of images.
const HEADER: [&str; 2] = ["image", "label"];

/// An image with the name of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub path: PathBuf,
    pub label: String,
}

/// Images with their classes, and the files that were passed over.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub images: Vec<Named>,
    pub left_out: Vec<PathBuf>,
}

/// The images of a folder of class folders, or of a CSV file with the columns `image` and `label`, in the order of their names
/// or lines.
pub(super) fn listed(path: &Path) -> Result<Listing, ClassifyError> {
    match path.is_dir() {
        true => of_folder(path),
        false => of_csv(path),
    }
}

/// Names in a folder that do not begin with a dot, in order, folders apart from files. The two files of a header and its
/// voxels are one.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ClassifyError> {
    let io = |source| ClassifyError::io(folder, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let path = entry.path();
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && !has_header(&path) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths.into_iter().partition(|path| path.is_dir()))
}

/// Whether a file holds the voxels that belong to a header beside it.
fn has_header(path: &Path) -> bool {
    let stem = match ending_of(path) {
        Some(".img") => path.with_extension(""),
        Some(".img.gz") => path.with_extension("").with_extension(""),
        _ => return false,
    };
    [".hdr", ".hdr.gz"].iter().any(|ending| {
        let mut header = stem.clone().into_os_string();
        header.push(ending);
        Path::new(&header).exists()
    })
}

/// The images in a folder itself, in the order of their names.
///
/// # Errors
/// [`ClassifyError`] where the folder cannot be read.
pub fn images_in(folder: &Path) -> Result<Vec<PathBuf>, ClassifyError> {
    let (_, mut files) = entries(folder)?;
    files.retain(|path| ending_of(path).is_some());
    Ok(files)
}

/// The class of a folder's images: its name.
fn class_of(folder: &Path) -> Result<String, ClassifyError> {
    let name = folder.file_name().and_then(OsStr::to_str);
    name.map(str::to_owned).ok_or_else(|| {
        let problem =
            "the name of this folder, which is that of a class, is not in UTF-8; give it another";
        ClassifyError::layout(folder, problem)
    })
}

fn of_folder(folder: &Path) -> Result<Listing, ClassifyError> {
    let (classes, loose) = entries(folder)?;
    if classes.is_empty() {
        let problem = "holds no folder; give a folder with a folder of images for each class, or a CSV file with the columns image,label";
        return Err(ClassifyError::layout(folder, problem));
    }
    if let Some(image) = loose.iter().find(|path| ending_of(path).is_some()) {
        let problem = "lies beside the folders of the classes; put it into the folder of its class";
        return Err(ClassifyError::layout(image, problem));
    }
    let mut listing = Listing::default();
    for class in classes {
        let label = class_of(&class)?;
        let (folders, files) = entries(&class)?;
        let (images, others): (Vec<PathBuf>, Vec<PathBuf>) = files
            .into_iter()
            .partition(|path| ending_of(path).is_some());
        if images.is_empty() {
            return Err(ClassifyError::EmptyClass {
                path: class,
                class: label,
                others: others.len(),
            });
        }
        let named = |path| Named {
            path,
            label: label.clone(),
        };
        listing.images.extend(images.into_iter().map(named));
        listing.left_out.extend(folders.into_iter().chain(others));
    }
    Ok(listing)
}

fn of_csv(path: &Path) -> Result<Listing, ClassifyError> {
    let give = "give a folder with a folder of images for each class, or a CSV file with the columns image,label";
    if !path.exists() {
        let problem = format!("there is no such folder or file; {give}");
        return Err(ClassifyError::layout(path, problem));
    }
    let is_csv = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    if !is_csv {
        let problem = format!("is no folder and does not end in .csv; {give}");
        return Err(ClassifyError::layout(path, problem));
    }
    // Rows of other lengths are refused below, but for those of blanks alone.
    let reader = ReaderBuilder::new()
        .trim(Trim::All)
        .flexible(true)
        .from_path(path);
    let mut reader = reader.map_err(|e| unreadable(path, e))?;
    let header = reader.headers().map_err(|e| unreadable(path, e))?.clone();
    let columns = Columns::of(path, &header)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut listing = Listing::default();
    for row in reader.records() {
        let row = row.map_err(|e| unreadable(path, e))?;
        if row.iter().any(|field| !field.is_empty()) {
            let (image, label) = columns.pick(path, &row)?;
            listing.images.push(Named {
                path: folder.join(image),
                label: label.to_owned(),
            });
        }
    }
    match listing.images.is_empty() {
        true => Err(ClassifyError::layout(
            path,
            "lists no image; add lines with an image and its label",
        )),
        false => Ok(listing),
    }
}

/// Where the image and the label stand in a row.
struct Columns {
    all: usize,
    image: usize,
    label: usize,
}

impl Columns {
    fn of(path: &Path, header: &StringRecord) -> Result<Self, ClassifyError> {
        let places = HEADER.map(|name| {
            let is_it = |(_, field): &(usize, &str)| field.eq_ignore_ascii_case(name);
            let places: Vec<usize> = header
                .iter()
                .enumerate()
                .filter(is_it)
                .map(|(at, _)| at)
                .collect();
            places
        });
        if let [&[image], &[label]] = places.each_ref().map(Vec::as_slice) {
            return Ok(Self {
                all: header.len(),
                image,
                label,
            });
        }
        Err(wrong_line(
            path,
            1,
            &format!(
                "expected the header image,label, each once and with a comma between them, found `{}`",
                shown(header)
            ),
        ))
    }

    /// The image and the label of a row.
    fn pick<'a>(
        &self,
        path: &Path,
        row: &'a StringRecord,
    ) -> Result<(&'a str, &'a str), ClassifyError> {
        let line = row.position().map_or(0, Position::line);
        if row.len() != self.all {
            let problem = format!(
                "expected {} fields as in the header, found {}: `{}`; a field with a comma stands in quotes",
                self.all,
                row.len(),
                shown(row)
            );
            return Err(wrong_line(path, line, &problem));
        }
        let (image, label) = (&row[self.image], &row[self.label]);
        if image.is_empty() || label.is_empty() {
            let problem = format!("expected an image and a label, found `{}`", shown(row));
            return Err(wrong_line(path, line, &problem));
        }
        Ok((image, label))
    }
}

fn shown(row: &StringRecord) -> String {
    row.iter().collect::<Vec<_>>().join(",")
}

fn wrong_line(path: &Path, line: u64, problem: &str) -> ClassifyError {
    ClassifyError::layout(path, format!("line {line}: {problem}"))
}

/// What the reader of CSV says of a file.
fn unreadable(path: &Path, error: csv::Error) -> ClassifyError {
    let line = error.position().map_or(1, Position::line);
    let words = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(source) => ClassifyError::io(path, source),
        ErrorKind::Utf8 { .. } => wrong_line(
            path,
            line,
            "is not in UTF-8; save the file with that encoding",
        ),
        _ => wrong_line(path, line, &words),
    }
}
