//! The check of a whole data set: one error per problem.

use std::fs;

use voxseg::dataset::{Dataset, DatasetError, check_integrity};
use voxseg::volume::{Geometry, LabelMap, VolumeError, write_labels};

use crate::support::{Folder, PLAIN, assert_blames, two_channels, write_nifti};

fn geometry() -> Geometry {
    Geometry::from_spacing([6, 7, 8], [2.0, 1.0, 1.0])
}

fn problems(folder: &Folder) -> Vec<DatasetError> {
    check_integrity(&Dataset::open(folder.path()).unwrap(), |_| ())
}

/// The one problem there is.
fn problem(folder: &Folder) -> DatasetError {
    let mut all = problems(folder);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_sound_data_set_has_no_problem() {
    assert!(problems(&Folder::two_cases()).is_empty());
}

#[test]
fn a_truncated_image_is_named() {
    let folder = Folder::two_cases();
    let path = folder.file("imagesTr/b_0000.nii");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    assert_blames(&problem(&folder), &["b_0000.nii"]);
}

#[test]
fn voxels_that_are_no_numbers_are_named() {
    for value in [f32::NAN, f32::INFINITY] {
        let folder = Folder::two_cases();
        let mut voxels = vec![1.0; geometry().voxels()];
        voxels[9] = value;
        write_nifti(&folder.file("imagesTr/a_0000.nii"), &geometry(), voxels);
        assert_blames(&problem(&folder), &["a_0000.nii", "[0, 1, 1]"]);
    }
}

#[test]
fn image_and_label_of_other_sizes_are_named() {
    let folder = Folder::two_cases();
    let other = Geometry::from_spacing([6, 7, 9], [2.0, 1.0, 1.0]);
    let map = LabelMap::new(other.clone(), vec![0; other.voxels()]).unwrap();
    write_labels(folder.file("labelsTr/a.nii"), &map).unwrap();
    assert_blames(&problem(&folder), &["a_0000.nii", "a.nii", "6 x 7 x 8"]);
}

#[test]
fn channels_of_other_spacing_are_named() {
    let folder = Folder::new(&two_channels().replace("2,", "1,"));
    folder.add_case("a", [4, 5, 6], [1.0; 3], 2);
    let other = Geometry::from_spacing([4, 5, 6], [1.0, 1.0, 1.5]);
    write_nifti(&folder.file("imagesTr/a_0001.nii"), &other, vec![1.0; 120]);
    assert_blames(&problem(&folder), &["a_0000.nii", "a_0001.nii", "spacing"]);
}

#[test]
fn labels_outside_the_description_are_named() {
    let folder = Folder::two_cases();
    let mut labels = vec![0; geometry().voxels()];
    (labels[8], labels[10]) = (7, 3);
    let map = LabelMap::new(geometry(), labels).unwrap();
    write_labels(folder.file("labelsTr/b.nii"), &map).unwrap();
    assert_blames(
        &problem(&folder),
        &["b.nii", "3, 7", "2 voxels", "[0, 1, 0]"],
    );
}

#[test]
fn a_label_file_of_fractions_is_named() {
    let folder = Folder::two_cases();
    let voxels = vec![0.5; geometry().voxels()];
    write_nifti(&folder.file("labelsTr/b.nii"), &geometry(), voxels);
    let error = problem(&folder);
    assert!(matches!(
        error,
        DatasetError::Volume(VolumeError::NotALabel { .. })
    ));
    assert_blames(&error, &["b.nii", "0.5"]);
}

#[test]
fn every_problem_is_reported_on_its_own() {
    let folder = Folder::two_cases();
    fs::write(folder.file("dataset.json"), PLAIN.replace("2,", "5,")).unwrap();
    fs::write(folder.file("imagesTr/a_0000.nii"), "no image").unwrap();
    fs::write(folder.file("labelsTr/b.nii"), "no label").unwrap();
    let all = problems(&folder);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_blames(&all[0], &["dataset.json", "numTraining is 5", "2 case(s)"]);
    assert_blames(&all[1], &["a_0000.nii"]);
    assert_blames(&all[2], &["b.nii"]);
}
