//! Headers that lie, each about one thing.

use voxseg::volume::{VolumeError, read_geometry, read_image, read_labels};

use crate::raw::Raw;

/// Reads `raw`; the error it must give, as an image and as a label map.
fn refusal(raw: &Raw) -> VolumeError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lying.nii");
    raw.save(&path);
    let error = read_image(&path).expect_err("the header was believed");
    let as_labels = read_labels(&path).expect_err("the header was believed");
    assert_eq!(error.to_string(), as_labels.to_string());
    assert!(error.to_string().contains("lying.nii"), "{error}");
    assert!(error.is_users_fault());
    error
}

fn lies_about(raw: &Raw, expected: &str) {
    match refusal(raw) {
        VolumeError::Header { field, .. } => assert_eq!(field, expected),
        other => panic!("{other}"),
    }
}

/// A file of each version, changed by `lie`.
fn both(lie: impl Fn(&mut Raw)) -> [Raw; 2] {
    [false, true].map(|two| {
        let mut raw = Raw::version(two);
        lie(&mut raw);
        raw
    })
}

#[test]
fn the_size_of_the_header() {
    for raw in both(|raw| raw.size = 352) {
        let error = refusal(&raw);
        assert!(matches!(error, VolumeError::NotNifti { .. }), "{error}");
    }
}

#[test]
fn the_magic() {
    for raw in both(|raw| raw.magic[1] = b'x') {
        let error = refusal(&raw);
        assert!(matches!(error, VolumeError::NotNifti { .. }), "{error}");
    }
    let mut analyze = Raw::one();
    analyze.magic = vec![0; 4];
    let error = refusal(&analyze);
    assert!(error.to_string().contains("ANALYZE"), "{error}");
}

#[test]
fn voxels_elsewhere() {
    let mut raw = Raw::one();
    raw.magic = b"ni1\0".to_vec();
    lies_about(&raw, "magic");
}

#[test]
fn the_number_of_dimensions() {
    for count in [0, -1, 8, 32_767] {
        for raw in both(|raw| raw.dim[0] = count) {
            lies_about(&raw, "dim[0]");
        }
    }
}

#[test]
fn extents_that_are_not_positive() {
    for extent in [0, -1, -32_768] {
        for raw in both(|raw| raw.dim[2] = extent) {
            lies_about(&raw, "dim[2]");
        }
    }
    let mut raw = Raw::one();
    raw.dim = [5, 2, 3, 4, 1, 0, 1, 1];
    lies_about(&raw, "dim[5]");
}

#[test]
fn extents_that_no_file_holds() {
    let mut raw = Raw::one();
    raw.dim[3] = 5;
    let error = refusal(&raw);
    assert!(
        matches!(
            error,
            VolumeError::Truncated {
                expected: 30,
                found: 24,
                ..
            }
        ),
        "{error}"
    );
    raw.dim = [3, 32_767, 32_767, 32_767, 1, 1, 1, 1];
    let error = refusal(&raw);
    assert!(matches!(error, VolumeError::TooLarge { .. }), "{error}");
    raw.dim = [3, 32_767, 32_767, 1, 1, 1, 1, 1];
    let error = refusal(&raw);
    assert!(matches!(error, VolumeError::Truncated { .. }), "{error}");
    let mut raw = Raw::version(true);
    raw.dim = [3, i64::MAX, i64::MAX, i64::MAX, 1, 1, 1, 1];
    let error = refusal(&raw);
    assert!(matches!(error, VolumeError::TooLarge { .. }), "{error}");
}

#[test]
fn extents_that_leave_most_of_the_file_unread() {
    let mut raw = Raw::one();
    raw.voxels = vec![0; 24 + 4096];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("padded.nii");
    assert!(read_image(raw.save(&path)).is_ok(), "padding");
    raw.voxels.push(0);
    lies_about(&raw, "dim");
}

#[test]
fn several_volumes() {
    for dim in [
        [4, 2, 3, 1, 4, 1, 1, 1],
        [5, 2, 3, 1, 1, 4, 1, 1],
        [7, 1, 1, 2, 3, 1, 1, 4],
    ] {
        for raw in both(|raw| raw.dim = dim) {
            let error = refusal(&raw);
            assert!(matches!(error, VolumeError::ManyVolumes { .. }), "{error}");
        }
    }
    let mut raw = Raw::version(true);
    raw.dim = [7, 1, 1, 1, i64::MAX, i64::MAX, i64::MAX, i64::MAX];
    assert!(matches!(refusal(&raw), VolumeError::ManyVolumes { .. }));
}

#[test]
fn bits_per_voxel() {
    for (datatype, bitpix) in [(64, 32), (2, 32), (2, 0), (16, -32), (4, 8)] {
        for raw in both(|raw| (raw.datatype, raw.bitpix) = (datatype, bitpix)) {
            lies_about(&raw, "bitpix");
        }
    }
}

#[test]
fn where_the_voxels_begin() {
    for offset in [1.0, 348.0, 351.0, -352.0] {
        for raw in both(|raw| raw.vox_offset = offset) {
            lies_about(&raw, "vox_offset");
        }
    }
    for offset in [352.5, f64::NAN, f64::INFINITY, 1e30] {
        let mut raw = Raw::one();
        raw.vox_offset = offset;
        lies_about(&raw, "vox_offset");
    }
    for raw in both(|raw| raw.vox_offset = 4e9) {
        let error = refusal(&raw);
        assert!(matches!(error, VolumeError::Truncated { .. }), "{error}");
    }
}

#[test]
fn spacings() {
    for spacing in [0.0, f64::NAN, f64::INFINITY] {
        for qform_code in [0, 1] {
            for raw in both(|raw| {
                raw.sform_code = 0;
                raw.qform_code = qform_code;
                raw.pixdim[2] = spacing;
            }) {
                lies_about(&raw, "pixdim[2]");
            }
        }
    }
}

#[test]
fn affines_that_do_not_span_space() {
    for lie in [0.0, f64::NAN, f64::INFINITY] {
        for raw in both(|raw| raw.srow[2] = [0.0, 0.0, lie, 0.0]) {
            lies_about(&raw, "srow_x, srow_y, srow_z");
        }
    }
    for raw in both(|raw| {
        (raw.sform_code, raw.qform_code) = (0, 1);
        raw.quaternion = [0.0, f64::NAN, 0.0];
    }) {
        lies_about(&raw, "quatern_b, c, d and qoffset");
    }
}

#[test]
fn the_geometry_alone_is_refused_for_the_same_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let mut raw = Raw::one();
    assert_eq!(read_geometry(raw.save(&path)).unwrap().shape(), [4, 3, 2]);
    raw.dim[3] = 50;
    assert!(matches!(
        read_geometry(raw.save(&path)),
        Err(VolumeError::Truncated { .. })
    ));
}
