//! Finding the files.

use std::fs;

use voxseg::dataset::{Dataset, DatasetError, find_images, load_case};
use voxseg::volume::{Geometry, Image, LabelMap, write_image, write_labels};

use crate::support::{Folder, PLAIN, assert_blames, real_data, two_channels};

#[test]
fn cases_are_found_in_order_with_their_channels() {
    let folder = Folder::new(&two_channels());
    for id in ["b_1", "a"] {
        folder.add_case(id, [4, 4, 4], [1.0; 3], 2);
    }
    fs::write(folder.file("imagesTr/.hidden_0000.nii"), "").unwrap();
    fs::write(folder.file("imagesTr/notes.txt"), "").unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    let ids: Vec<&str> = dataset.training.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["a", "b_1"]);
    let channel = |n| folder.file(&format!("imagesTr/b_1_000{n}.nii"));
    assert_eq!(dataset.training[1].images, [channel(0), channel(1)]);
    assert_eq!(
        dataset.training[0].label,
        Some(folder.file("labelsTr/a.nii"))
    );
    assert_eq!(dataset.case("b_1"), Some(&dataset.training[1]));
    assert_eq!(dataset.case("c"), None);
    assert!(dataset.test.is_empty());
}

#[test]
fn test_images_may_lack_labels() {
    let folder = Folder::two_cases();
    fs::create_dir(folder.file("imagesTs")).unwrap();
    fs::create_dir(folder.file("labelsTs")).unwrap();
    for id in ["x", "y"] {
        let to = folder.file(&format!("imagesTs/{id}_0000.nii"));
        fs::copy(folder.file("imagesTr/a_0000.nii"), to).unwrap();
    }
    fs::copy(folder.file("labelsTr/a.nii"), folder.file("labelsTs/y.nii")).unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    let labels: Vec<bool> = dataset.test.iter().map(|c| c.label.is_some()).collect();
    assert_eq!(labels, [false, true]);
}

#[test]
fn a_colour_picture_holds_three_channels() {
    let text = PLAIN.replace(r#""0": "MRI""#, r#""0": "R", "1": "G", "2": "B""#);
    let folder = Folder::new(&text.replace(".nii", ".png"));
    let geometry = Geometry::from_spacing([1, 2, 2], [1.0; 3]);
    let voxels: Vec<f32> = (0..12).map(|v| v as f32).collect();
    let image = Image::new(geometry.clone(), 3, voxels.clone()).unwrap();
    write_image(folder.file("imagesTr/a_0000.png"), &image).unwrap();
    let label = LabelMap::new(geometry.clone(), vec![0, 1, 1, 0]).unwrap();
    write_labels(folder.file("labelsTr/a.png"), &label).unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    let labels = &dataset.description.labels;
    let case = load_case(&dataset.training[0], 3, labels).unwrap();
    assert_eq!((case.channels, case.image), (3, voxels));
    let grey = Image::new(geometry, 1, vec![1.0; 4]).unwrap();
    write_image(folder.file("imagesTr/a_0000.png"), &grey).unwrap();
    let error = load_case(&dataset.training[0], 3, labels).unwrap_err();
    assert_blames(&error, &["a_0000.png", "1 channel", "expected 3"]);
}

#[test]
fn an_empty_folder_is_named_with_what_was_expected() {
    let folder = Folder::new(PLAIN);
    let error = Dataset::open(folder.path()).unwrap_err();
    assert_blames(&error, &["imagesTr", "CASE_0000.nii", "empty"]);
    fs::write(folder.file("imagesTr/a_0000.nii.gz"), "").unwrap();
    let error = Dataset::open(folder.path()).unwrap_err();
    assert_blames(&error, &["a_0000.nii.gz", "file_ending"]);
}

#[test]
fn missing_folders_are_named() {
    let nowhere = Dataset::open("/no/such/folder").unwrap_err();
    assert_blames(&nowhere, &["/no/such/folder", "dataset.json"]);
    for name in ["imagesTr", "labelsTr"] {
        let folder = Folder::two_cases();
        fs::remove_dir_all(folder.file(name)).unwrap();
        assert_blames(&Dataset::open(folder.path()).unwrap_err(), &[name]);
    }
    let folder = Folder::two_cases();
    fs::remove_file(folder.file("dataset.json")).unwrap();
    assert_blames(
        &Dataset::open(folder.path()).unwrap_err(),
        &["dataset.json"],
    );
}

#[test]
fn missing_and_surplus_channels_are_named() {
    let folder = Folder::new(&two_channels());
    folder.add_case("a", [4, 4, 4], [1.0; 3], 2);
    folder.add_case("b", [4, 4, 4], [1.0; 3], 1);
    let error = Dataset::open(folder.path()).unwrap_err();
    assert_blames(&error, &["b_0001.nii", "case b", "2 channels"]);
    folder.add_case("b", [4, 4, 4], [1.0; 3], 3);
    let error = Dataset::open(folder.path()).unwrap_err();
    assert_blames(&error, &["b_0002.nii", "channel 2"]);
}

#[test]
fn labels_and_images_must_pair() {
    let folder = Folder::two_cases();
    fs::rename(folder.file("labelsTr/b.nii"), folder.file("labelsTr/c.nii")).unwrap();
    let error = Dataset::open(folder.path()).unwrap_err();
    assert_blames(&error, &["labelsTr", "b.nii", "case b"]);
    fs::copy(folder.file("labelsTr/c.nii"), folder.file("labelsTr/b.nii")).unwrap();
    let error = Dataset::open(folder.path()).unwrap_err();
    assert!(matches!(error, DatasetError::StrayLabel { .. }), "{error}");
    assert_blames(&error, &["c.nii", "case c"]);
}

#[test]
fn a_name_without_a_channel_is_told() {
    let folder = Folder::two_cases();
    for name in ["b.nii", "b_00.nii", "_0000.nii", "b_00001.nii"] {
        let path = folder.file("imagesTr").join(name);
        fs::write(&path, "").unwrap();
        let error = find_images(&folder.file("imagesTr"), 1, ".nii").unwrap_err();
        assert_blames(&error, &[name, "CASE_0000.nii"]);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn the_real_data_opens() {
    let Some(data) = real_data() else { return };
    for (name, training, test) in [
        ("Dataset101_LeftAtrium", 30, 10),
        ("Dataset102_MembraneEM", 24, 6),
        ("Dataset103_Glioma", 4, 2),
        ("Dataset104_CardiacCine", 24, 16),
    ] {
        let dataset = Dataset::open(data.join(name)).unwrap();
        assert_eq!(dataset.training.len(), training, "{name}");
        assert_eq!(dataset.test.len(), test, "{name}");
        assert!(dataset.test.iter().all(|case| case.label.is_some()));
    }
}
