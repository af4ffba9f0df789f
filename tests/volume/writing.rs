//! Where writing fails, what was there stays.

use voxseg::volume::{Geometry, LabelMap, VolumeError, read_labels, write_labels};

fn map() -> LabelMap {
    LabelMap::new(
        Geometry::from_spacing([1, 2, 2], [1.0; 3]),
        vec![0, 1, 2, 3],
    )
    .unwrap()
}

#[test]
fn missing_folders_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/deep/a.nii.gz");
    write_labels(&path, &map()).unwrap();
    assert_eq!(read_labels(&path).unwrap().labels(), map().labels());
}

#[test]
fn a_folder_that_is_a_file_is_the_users_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let error = write_labels(file.join("a.nii"), &map()).unwrap_err();
    assert!(matches!(error, VolumeError::Write { .. }), "{error}");
    assert!(error.is_users_fault(), "{error:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
}

#[test]
fn a_target_that_is_a_folder_leaves_no_temporary_behind() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a.nii");
    std::fs::create_dir(&target).unwrap();
    let error = write_labels(&target, &map()).unwrap_err();
    assert!(matches!(error, VolumeError::Write { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn formats_that_are_not_written_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.hdr", "a.img.gz", "a.mha", "a"] {
        let error = write_labels(folder.path().join(name), &map()).unwrap_err();
        assert!(
            matches!(
                error,
                VolumeError::Ending {
                    action: "write",
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
