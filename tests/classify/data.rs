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

    // As spreadsheets save it: a byte order mark, capitals, more columns, a line end and quotes in a label.
    let text = "\u{feff}Image,age, LABEL\n a.png ,7,\"two\nlines\"\n\"b, c.png\",8,\"\"\"quoted\"\"\"\n ,,\nd.png,9,\"two\nlines\"\n";
    std::fs::write(&list, text).unwrap();
    let set = ImageSet::open(&list, Some(&list), 0);
    assert!(matches!(set, Err(ClassifyError::Duplicate { .. })));
    let set = ImageSet::open(&list, None, 0).unwrap();
    assert_eq!(set.classes, ["\"quoted\"", "two\nlines"]);
    let all = names(&set.train).into_iter().chain(names(&set.validation));
    let all: BTreeSet<PathBuf> = all.collect();
    let wanted = ["a.png", "b, c.png", "d.png"].map(|name| folder.path().join(name));
    assert_eq!(all, BTreeSet::from(wanted));
}

#[test]
fn what_is_wrong_with_a_list_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    let wrong = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&list, bytes).unwrap();
        let error = ImageSet::open(&list, None, 0).unwrap_err();
        let message = error.to_string();
        assert!(error.is_users_fault(), "{message}");
        for word in ["list.csv"].iter().chain(words) {
            assert!(message.contains(word), "no `{word}` in {message}");
        }
    };
    wrong(
        b"file,class\na.png,b\n",
        &["line 1", "image,label", "`file,class`"],
    );
    wrong(
        b"image;label\na.png;b\n",
        &["line 1", "a comma", "`image;label`"],
    );
    wrong(b"image,label,label\na.png,b,c\n", &["line 1", "each once"]);
    wrong(b"", &["image,label"]);
    wrong(b"image,label\n", &["no image"]);
    wrong(
        b"image,label\na.png,cat\nb.png\n",
        &["line 3", "2 fields", "found 1"],
    );
    wrong(
        b"image,label\na.png,big, black cat\n",
        &["line 2", "quotes"],
    );
    wrong(
        b"image,label\na.png,\n",
        &["line 2", "an image and a label"],
    );
    wrong(
        b"image,label\na.png,cat\nb.png,\xff\n",
        &["line 3", "UTF-8"],
    );
    wrong(b"image,\xe9\na.png,cat\n", &["line 1", "UTF-8"]);
}

/// Linux alone lets names be any bytes.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_are_read_or_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = folder_with(3);
    let data = folder.path().join("data");
    let strange = |name: &[u8]| OsStr::from_bytes(name).to_owned();
    let image = data.join("discs").join(strange(b"d\xffsc.png"));
    std::fs::rename(data.join("discs/discs00.png"), &image).unwrap();
    let set = open(&folder).unwrap();
    let of_strange = set.train.iter().chain(&set.validation);
    assert_eq!(of_strange.filter(|i| i.path == image).count(), 1);
    assert!(set.to_json().to_string().contains("d\u{fffd}sc.png"));
    // It is held out, trained on and told of, whichever comes to it.
    run(folder.path(), "run", &quick(1), ClassifyOptions::default()).unwrap();
    std::fs::rename(data.join("discs"), data.join(strange(b"d\xff"))).unwrap();
    refused(&folder, &["UTF-8", "folder"]);
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
    let message = error.to_string();
    assert!(message.contains("bars/../discs"), "{message}");
    assert!(
        message.contains("as ") && message.contains("data/discs/discs00"),
        "{message}"
    );
}

#[test]
fn a_header_with_its_voxels_is_one_image() {
    let folder = folder_with(2);
    let class = folder.path().join("data/discs");
    for name in ["a.hdr", "a.img", "b.c.hdr.gz", "b.c.img.gz", "lone.img"] {
        std::fs::write(class.join(name), b"").unwrap();
    }
    let set = open(&folder).unwrap();
    let all = set.train.iter().chain(&set.validation);
    let discs = all.filter(|image| image.class == 2);
    let names: BTreeSet<String> = discs
        .map(|image| {
            image
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let wanted = [
        "a.hdr",
        "b.c.hdr.gz",
        "discs00.png",
        "discs01.png",
        "lone.img",
    ];
    assert_eq!(names, BTreeSet::from(wanted.map(str::to_owned)));
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
