//! Where the header puts the voxels.

use voxseg::volume::{Geometry, read_geometry, read_labels, write_labels};

use crate::raw::Raw;

fn geometry(raw: &Raw) -> Geometry {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    read_geometry(raw.save(&path)).unwrap()
}

fn assert_near(found: [f64; 3], expected: [f64; 3]) {
    let near = found
        .iter()
        .zip(expected)
        .all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near, "{found:?} instead of {expected:?}");
}

#[test]
fn the_sform_comes_first() {
    let mut raw = Raw::one();
    (raw.qform_code, raw.qoffset) = (1, [100.0; 3]);
    let geometry = geometry(&raw);
    assert_eq!(geometry.affine().rows(), raw.srow);
    assert_eq!(geometry.spacing(), [3.0, 0.75, 0.5]);
    assert_eq!(geometry.position_of([3.0, 2.0, 1.0]), [-7.5, 5.5, 25.0]);
}

#[test]
fn then_the_qform() {
    for two in [false, true] {
        let mut raw = Raw::version(two);
        (raw.sform_code, raw.qform_code) = (0, 1);
        // A quarter turn about x: y goes to z, z to -y; qfac turns k around.
        raw.quaternion = [std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0];
        raw.qoffset = [10.0, 20.0, 30.0];
        raw.pixdim[0] = -1.0;
        let geometry = geometry(&raw);
        assert_eq!(geometry.spacing(), [3.0, 0.75, 0.5]);
        assert_near(geometry.position_of([0.0, 0.0, 1.0]), [10.5, 20.0, 30.0]);
        assert_near(geometry.position_of([0.0, 1.0, 0.0]), [10.0, 20.0, 30.75]);
        assert_near(geometry.position_of([1.0, 0.0, 0.0]), [10.0, 23.0, 30.0]);
        assert_eq!(geometry.orientation().unwrap(), "RSA");
    }
}

#[test]
fn any_handedness_that_is_not_negative_counts_as_one() {
    for qfac in [0.0, 1.0, 7.0] {
        let mut raw = Raw::one();
        (raw.sform_code, raw.qform_code) = (0, 1);
        raw.pixdim[0] = qfac;
        assert_eq!(geometry(&raw).orientation().unwrap(), "RAS");
    }
}

#[test]
fn then_the_spacing_alone() {
    let mut raw = Raw::one();
    raw.sform_code = 0;
    raw.qoffset = [5.0; 3];
    let geometry = geometry(&raw);
    assert_eq!(geometry.position_of([1.0, 1.0, 1.0]), [0.5, 0.75, 3.0]);
    assert_eq!(geometry.position_of([0.0; 3]), [0.0; 3]);
}

#[test]
fn negative_spacings_count_by_their_size() {
    for (sform_code, qform_code) in [(0, 0), (0, 1), (1, 0)] {
        let mut raw = Raw::one();
        (raw.sform_code, raw.qform_code) = (sform_code, qform_code);
        raw.pixdim[1] = -0.5;
        assert_eq!(geometry(&raw).spacing(), [3.0, 0.75, 0.5]);
    }
}

#[test]
fn a_spacing_at_odds_with_the_sform_gives_way() {
    let mut raw = Raw::one();
    raw.pixdim = [1.0, 0.500_1, 0.0, f64::NAN, 1.0, 1.0, 1.0, 1.0];
    let [depth, height, width] = geometry(&raw).spacing();
    assert_eq!((depth, height), (3.0, 0.75));
    assert_eq!(
        width,
        f64::from(0.500_1_f32),
        "but for rounding pixdim stands"
    );
    raw.pixdim[1] = 0.6;
    assert_eq!(geometry(&raw).spacing(), [3.0, 0.75, 0.5]);
}

#[test]
fn metres_and_micrometres_become_millimetres() {
    for (units, factor) in [
        (0, 1.0),
        (1, 1000.0),
        (2, 1.0),
        (3, 1e-3),
        (10, 1.0),
        (11, 1e-3),
    ] {
        let mut raw = Raw::one();
        raw.units = units;
        let geometry = geometry(&raw);
        assert_near(
            geometry.spacing(),
            [3.0 * factor, 0.75 * factor, 0.5 * factor],
        );
        assert_near(
            geometry.position_of([0.0; 3]),
            [-8.0 * factor, 4.0 * factor, 16.0 * factor],
        );
    }
}

#[test]
fn missing_dimensions_are_one() {
    let mut raw = Raw::one();
    // What lies behind dim[0] dimensions is not looked at.
    raw.dim = [2, 6, 4, 0, -5, 0, 0, 0];
    raw.pixdim[3] = 0.0;
    raw.sform_code = 0;
    let geometry = geometry(&raw);
    assert_eq!(geometry.shape(), [1, 4, 6]);
    assert_eq!(geometry.spacing(), [1.0, 0.75, 0.5]);
}

#[test]
fn trailing_dimensions_of_one_are_accepted_and_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before.nii", "after.nii"].map(|name| folder.path().join(name));
    let mut raw = Raw::one();
    raw.dim = [5, 2, 3, 4, 1, 1, 1, 1];
    raw.pixdim[4] = 2.5;
    let labels = read_labels(raw.save(&before)).unwrap();
    assert_eq!(labels.shape(), [4, 3, 2]);
    write_labels(&after, &labels).unwrap();
    let (before, after) = (
        std::fs::read(before).unwrap(),
        std::fs::read(after).unwrap(),
    );
    assert_eq!(after[40..56], before[40..56], "dim");
    assert_eq!(after[76..108], before[76..108], "pixdim");
    assert_eq!(after[352..], before[352..], "voxels");
}

#[test]
fn every_geometry_field_is_written_as_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before.nii", "after.nii"].map(|name| folder.path().join(name));
    for two in [false, true] {
        let mut raw = Raw::version(two);
        (raw.qform_code, raw.sform_code) = (3, 4);
        raw.units = 0x5b;
        raw.quaternion = [0.1, -0.2, 0.3];
        raw.qoffset = [-17.3, 1e-3, 99.9];
        raw.srow = [
            [-0.4, 0.1, 0.2, 1.1],
            [0.1, 0.7, -0.3, 2.2],
            [0.05, 0.06, 2.9, 3.3],
        ];
        raw.pixdim = [-1.0, 0.415, 0.709, 2.924, 0.35, 0.0, -3.0, f64::NAN];
        write_labels(&after, &read_labels(raw.save(&before)).unwrap()).unwrap();
        let (before, after) = (
            std::fs::read(&before).unwrap(),
            std::fs::read(&after).unwrap(),
        );
        let geometry = if two {
            vec![16..80, 104..168, 344..496, 500..504]
        } else {
            vec![40..56, 76..108, 123..124, 252..328]
        };
        for range in geometry {
            assert_eq!(
                after[range.clone()],
                before[range.clone()],
                "{two} {range:?}"
            );
        }
    }
}

#[test]
fn numbers_that_nifti_1_can_hold_leave_nifti_2() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before.nii", "after.nii"].map(|name| folder.path().join(name));
    let raw = Raw::version(true);
    let labels = read_labels(raw.save(&before)).unwrap();
    write_labels(&after, &labels).unwrap();
    assert_eq!(std::fs::read(&after).unwrap()[344..348], *b"n+1\0");
    assert_eq!(read_labels(&after).unwrap(), labels);
}
