//! A data set of images with one class each, and which of them are held out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::ClassifyError;
use super::listing::{Listing, Named, listed};
use crate::hash::Fnv;

/// Of each class one image in so many is held out, where nobody says which.
const HELD_OUT: usize = 5;

/// An image and the number of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The file.
    pub path: PathBuf,
    /// Its class, an index into [`ImageSet::classes`].
    pub class: usize,
}

/// Images to train on and to hold out.
#[derive(Clone, Debug)]
pub struct ImageSet {
    /// The names of the classes, sorted.
    pub classes: Vec<String>,
    /// Images to train on.
    pub train: Vec<Labelled>,
    /// Images that are held out; may be none.
    pub validation: Vec<Labelled>,
    /// Files and folders that are no images and were passed over.
    pub left_out: Vec<PathBuf>,
}

impl ImageSet {
    /// The images of `data`: a folder with a folder for each class, the same in DATA/train beside DATA/val, or a CSV file with
    /// the columns `image` (relative to the file) and `label`. Held out are those of `validation`, of the same form, else of
    /// DATA/val, else a fifth of each class of two images and more (at least one), drawn by `seed`.
    ///
    /// # Errors
    /// [`ClassifyError`] for a class without an image, a single class, a class that only held-out images have, an image
    /// that is there twice.
    pub fn open(data: &Path, validation: Option<&Path>, seed: u64) -> Result<Self, ClassifyError> {
        let parts = parts_of(data);
        let (train, own) = parts.map_or((data.to_owned(), None), |(t, v)| (t, Some(v)));
        let Listing {
            images,
            mut left_out,
        } = listed(&train)?;
        let classes: BTreeSet<String> = images.iter().map(|image| image.label.clone()).collect();
        let classes: Vec<String> = classes.into_iter().collect();
        if let [class] = classes.as_slice() {
            return Err(ClassifyError::OneClass {
                path: train,
                class: class.clone(),
            });
        }
        let (train, validation) = match validation.map(Path::to_owned).or(own) {
            None => split(numbered(images, &classes)?, &classes, seed),
            Some(held_out) => {
                let held_out = listed(&held_out)?;
                left_out.extend(held_out.left_out);
                let held_out = numbered(held_out.images, &classes)?;
                (numbered(images, &classes)?, held_out)
            }
        };
        refuse_duplicates(train.iter().chain(&validation))?;
        Ok(Self {
            classes,
            train,
            validation,
            left_out,
        })
    }

    /// Which images are trained on and which held out, as a document.
    pub fn to_json(&self) -> Value {
        let list = |images: &[Labelled]| -> Vec<Value> {
            let entry = |i: &Labelled| {
                let image = i.path.display().to_string();
                json!({"image": image, "label": self.classes[i.class]})
            };
            images.iter().map(entry).collect()
        };
        json!({"train": list(&self.train), "val": list(&self.validation)})
    }
}

/// DATA/train and DATA/val, where these are the parts of a data set rather than classes.
fn parts_of(data: &Path) -> Option<(PathBuf, PathBuf)> {
    let [train, validation] = ["train", "val"].map(|part| data.join(part));
    (train.is_dir() && validation.is_dir()).then_some((train, validation))
}

fn numbered(images: Vec<Named>, classes: &[String]) -> Result<Vec<Labelled>, ClassifyError> {
    let number = |Named { path, label }| match classes.binary_search(&label) {
        Ok(class) => Ok(Labelled { path, class }),
        Err(_) => Err(ClassifyError::UnknownLabel {
            path,
            label,
            known: classes.join(", "),
        }),
    };
    images.into_iter().map(number).collect()
}

/// Those to train on and those held out, each in order.
fn split(images: Vec<Labelled>, classes: &[String], seed: u64) -> (Vec<Labelled>, Vec<Labelled>) {
    let mut held_out = BTreeSet::new();
    for (class, name) in classes.iter().enumerate() {
        let own = (0..images.len()).filter(|&i| images[i].class == class);
        let mut own: Vec<usize> = own.collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // A stream for each class, so that more images of one do not change the split of the others.
        rng.set_stream(Fnv::of(name.as_bytes()));
        own.shuffle(&mut rng);
        let count = match own.len() {
            0 | 1 => 0,
            n => (n / HELD_OUT).max(1),
        };
        held_out.extend(own.into_iter().take(count));
    }
    let mut parts = (Vec::new(), Vec::new());
    for (i, image) in images.into_iter().enumerate() {
        match held_out.contains(&i) {
            true => parts.1.push(image),
            false => parts.0.push(image),
        }
    }
    parts
}

fn refuse_duplicates<'a>(images: impl Iterator<Item = &'a Labelled>) -> Result<(), ClassifyError> {
    let mut seen: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for image in images {
        // What is not there is told when it is read.
        let real = image.path.canonicalize();
        let real = real.unwrap_or_else(|_| image.path.clone());
        if let Some(first) = seen.insert(real, &image.path) {
            return Err(ClassifyError::Duplicate {
                path: image.path.clone(),
                first: first.to_owned(),
            });
        }
    }
    Ok(())
}
