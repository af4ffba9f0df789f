//! Which images there are, and the class that a folder or a list gives each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// Names in a folder that do not begin with a dot, in order, folders apart from files.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ClassifyError> {
    let io = |source| ClassifyError::io(folder, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths.into_iter().partition(|path| path.is_dir()))
}

/// The names of the folders in a folder, in order.
pub(super) fn folders_in(folder: &Path) -> Result<Vec<String>, ClassifyError> {
    let (folders, _) = entries(folder)?;
    Ok(folders.iter().map(|path| name_of(path)).collect())
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

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
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
        let label = name_of(&class);
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
    if !path.exists() {
        let problem = "there is no such folder or file; give a folder with a folder of images for each class, or a CSV file with the columns image,label";
        return Err(ClassifyError::layout(path, problem));
    }
    let is_csv = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    if !is_csv {
        let problem = "is no folder and does not end in .csv; give a folder with a folder of images for each class, or a CSV file with the columns image,label";
        return Err(ClassifyError::layout(path, problem));
    }
    let text = std::fs::read_to_string(path).map_err(|e| ClassifyError::io(path, e))?;
    let wrong = |line: usize, what: String| {
        Err(ClassifyError::layout(path, format!("line {line}: {what}")))
    };
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let header = lines.next().map_or(Vec::new(), |(_, line)| fields(line));
    let columns: BTreeMap<String, usize> = header
        .iter()
        .enumerate()
        .map(|(at, name)| (name.to_lowercase(), at))
        .collect();
    let [Some(&image), Some(&label)] = HEADER.map(|name| columns.get(name)) else {
        let found = header.join(",");
        return wrong(
            1,
            format!("expected the header image,label, found `{found}`"),
        );
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut listing = Listing::default();
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let row = fields(line);
        match (row.get(image), row.get(label)) {
            (Some(image), Some(label)) if !image.is_empty() && !label.is_empty() => {
                listing.images.push(Named {
                    path: folder.join(image),
                    label: label.clone(),
                });
            }
            _ => {
                return wrong(
                    at + 1,
                    format!("expected an image and a label, found `{line}`"),
                );
            }
        }
    }
    match listing.images.is_empty() {
        true => Err(ClassifyError::layout(path, "lists no image")),
        false => Ok(listing),
    }
}

/// The fields of a line of CSV without the blanks around them; in quotes they may hold commas, and quotes twice.
fn fields(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let field = all.len() - 1;
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                all[field].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            c => all[field].push(c),
        }
    }
    all.iter().map(|field| field.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_csv_are_split_at_commas_outside_of_quotes() {
        assert_eq!(fields("a.png, cat\r"), ["a.png", "cat"]);
        assert_eq!(
            fields("\"a, b.png\",\"big \"\"cat\"\"\""),
            ["a, b.png", "big \"cat\""]
        );
        assert_eq!(fields(""), [""]);
    }
}
