//! Folders and lists of images, and what is wrong with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use voxseg::classify::{ClassifyError, ClassifyOptions, ImageSet};

use crate::shapes::{CLASSES, write_shape, write_shapes};
use crate::{quick, run};

/// A folder with `count` images of each class in `data`.
fn folder_with(count: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_shapes(&folder.path().join("data"), count, 1);
    folder
}

fn open(folder: &TempDir) -> Result<ImageSet, ClassifyError> {
    ImageSet::open(&folder.path().join("data"), None, 0)
}

fn refused(folder: &TempDir, words: &[&str]) -> ClassifyError {
    let error = open(folder).unwrap_err();
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "no `{word}` in {message}");
    }
    assert!(error.is_users_fault(), "{message}");
    error
}

fn names(images: &[voxseg::classify::Labelled]) -> BTreeSet<PathBuf> {
    images.iter().map(|image| image.path.clone()).collect()
}

#[test]
fn a_fifth_of_each_class_is_held_out_by_the_seed() {
    let folder = folder_with(10);
    let set = open(&folder).unwrap();
    assert_eq!(set.classes, CLASSES);
    assert_eq!((set.train.len(), set.validation.len()), (24, 6));
    for class in 0..3 {
        let held_out = set.validation.iter().filter(|i| i.class == class);
        assert_eq!(held_out.count(), 2);
    }
    assert!(names(&set.train).is_disjoint(&names(&set.validation)));
    assert_eq!(
        names(&open(&folder).unwrap().validation),
        names(&set.validation)
    );
    let data = folder.path().join("data");
    let other = ImageSet::open(&data, None, 1).unwrap();
    assert_ne!(names(&other.validation), names(&set.validation));
    // One more image of a class changes the split of no other class.
    write_shape(&data.join("bars/new.png"), 0, 1, 99);
    let more = open(&folder).unwrap();
    let of_others = |set: &ImageSet| {
        let held_out = set.validation.iter().filter(|i| i.class > 0);
        held_out.map(|i| i.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of_others(&more), of_others(&set));
}

#[test]
fn train_and_val_beside_each_other_are_parts_and_not_classes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_shapes(&data.join("train"), 3, 1);
    write_shapes(&data.join("val"), 2, 50);
    let set = open(&folder).unwrap();
    assert_eq!(set.classes, CLASSES);
    assert_eq!((set.train.len(), set.validation.len()), (9, 6));
    assert!(
        set.validation
            .iter()
            .all(|i| i.path.starts_with(data.join("val")))
    );
}

#[test]
fn a_list_names_images_relative_to_itself() {
    let folder = folder_with(2);
    let list = folder.path().join("list.csv");
    let text =
        "label,image\r\n\"discs\",data/discs/discs00.png\r\nbars, data/bars/bars00.png\r\n\r\n";
    std::fs::write(&list, text).unwrap();
    let held_out = folder.path().join("held.csv");
    std::fs::write(&held_out, "image,label\ndata/discs/discs01.png,discs\n").unwrap();
    let set = ImageSet::open(&list, Some(&held_out), 0).unwrap();
    assert_eq!(set.classes, ["bars", "discs"]);
    assert_eq!((set.train.len(), set.validation.len()), (2, 1));
    assert_eq!(set.train[0].class, 1);
    assert!(set.train.iter().all(|image| image.path.exists()));

    let wrong = |text: &str| {
        std::fs::write(&list, text).unwrap();
        let error = ImageSet::open(&list, None, 0).unwrap_err();
        assert!(error.is_users_fault());
        error.to_string()
    };
    assert!(wrong("file,class\na.png,b\n").contains("image,label"));
    assert!(wrong("").contains("image,label"));
    assert!(wrong("image,label\n").contains("no image"));
    assert!(wrong("image,label\na.png,cat\nb.png\n").contains("line 3"));
}

#[test]
fn classes_without_images_and_single_classes_are_refused() {
    let folder = folder_with(2);
    let data = folder.path().join("data");
    let empty = data.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = refused(&folder, &["empty", "no image"]);
    assert!(matches!(error, ClassifyError::EmptyClass { others: 0, .. }));
    std::fs::write(empty.join("photo.jpg"), b"").unwrap();
    refused(&folder, &["empty", "1 other file", ".png"]);
    for other in ["empty", "bars", "checks"] {
        std::fs::remove_dir_all(data.join(other)).unwrap();
    }
    let error = refused(&folder, &["discs", "two classes"]);
    assert!(matches!(error, ClassifyError::OneClass { .. }));
    std::fs::remove_dir_all(data.join("discs")).unwrap();
    refused(&folder, &["data", "a folder of images for each class"]);
    std::fs::remove_dir(&data).unwrap();
    refused(&folder, &["data"]);
}

#[test]
fn images_that_lie_beside_the_classes_or_twice_are_refused() {
    let folder = folder_with(2);
    let data = folder.path().join("data");
    write_shape(&data.join("loose.png"), 0, 1, 5);
    refused(&folder, &["loose.png", "folder of its class"]);
    let list = folder.path().join("list.csv");
    let image = Path::new("data/discs/discs00.png").display();
    let text = format!("image,label\n{image},discs\ndata/bars/../discs/discs00.png,bars\n");
    std::fs::write(&list, text).unwrap();
    let error = ImageSet::open(&list, None, 0).unwrap_err();
    assert!(matches!(error, ClassifyError::Duplicate { .. }), "{error}");
}

#[test]
fn a_class_that_only_held_out_images_have_is_refused() {
    let folder = folder_with(2);
    let held_out = folder.path().join("held");
    write_shape(&held_out.join("rings/a.png"), 2, 1, 5);
    let data = folder.path().join("data");
    let error = ImageSet::open(&data, Some(&held_out), 0).unwrap_err();
    assert!(
        matches!(error, ClassifyError::UnknownLabel { .. }),
        "{error}"
    );
    let message = error.to_string();
    assert!(message.contains("rings") && message.contains("bars, checks, discs"));
}

/// Asserts that training is refused and leaves no folder behind.
fn no_run(folder: &TempDir, words: &[&str]) {
    let error = run(folder.path(), "run", &quick(1), ClassifyOptions::default()).unwrap_err();
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "no `{word}` in {message}");
    }
    assert!(error.is_users_fault(), "{message}");
    assert!(!folder.path().join("run").exists(), "{message}");
}

#[test]
fn images_of_other_channels_or_damaged_ones_are_named() {
    let folder = folder_with(3);
    let data = folder.path().join("data");
    write_shape(&data.join("discs/colour.png"), 2, 3, 7);
    no_run(&folder, &["colour.png", "3 channel(s)", "grey"]);
    std::fs::write(data.join("discs/colour.png"), b"no picture").unwrap();
    no_run(&folder, &["colour.png"]);
    std::fs::remove_file(data.join("discs/colour.png")).unwrap();
    let segmentation = voxseg::classify::ClassifyConfig {
        model: "vnet".to_owned(),
        ..quick(1)
    };
    let error = run(
        folder.path(),
        "run",
        &segmentation,
        ClassifyOptions::default(),
    );
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("vnet") && message.contains("mobilenet_v3_small"),
        "{message}"
    );
}
