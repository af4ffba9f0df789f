//! Every type of voxel, in both byte orders and both versions.

use voxseg::volume::{VolumeError, read_image, read_labels};

use crate::raw::Raw;

/// A shape of 2 x 1 x 2 and its four voxels, little-endian, as bytes and as values.
struct Case {
    name: &'static str,
    datatype: i16,
    bytes: Vec<[u8; 8]>,
    size: usize,
    values: [f64; 4],
}

macro_rules! case {
    ($type:ty, $datatype:literal, $values:expr) => {{
        let values: [$type; 4] = $values;
        Case {
            name: stringify!($type),
            datatype: $datatype,
            bytes: values
                .iter()
                .map(|value| {
                    let mut eight = [0; 8];
                    let bytes = value.to_le_bytes();
                    eight[..bytes.len()].copy_from_slice(&bytes);
                    eight
                })
                .collect(),
            size: size_of::<$type>(),
            values: values.map(|value| value as f64),
        }
    }};
}

fn cases() -> Vec<Case> {
    vec![
        case!(u8, 2, [0, 1, 200, u8::MAX]),
        case!(i16, 4, [i16::MIN, -1, 258, i16::MAX]),
        case!(i32, 8, [i32::MIN, -1, 66_051, i32::MAX]),
        case!(f32, 16, [-0.0, 1.5e-40, -3.25e37, f32::MAX]),
        case!(f64, 64, [0.1, -1e-300, 3e38, 2.0]),
        case!(i8, 256, [i8::MIN, -1, 3, i8::MAX]),
        case!(u16, 512, [0, 258, 40_000, u16::MAX]),
        case!(u32, 768, [0, 66_051, 4_000_000_000, u32::MAX]),
        case!(i64, 1024, [i64::MIN, -1, 1 << 33, i64::MAX]),
        case!(u64, 1280, [0, 72_623_859_790_382_856, 1 << 63, u64::MAX]),
    ]
}

/// The file of a case in one of the four forms.
fn raw(case: &Case, two: bool, big_endian: bool) -> Raw {
    let mut raw = Raw::version(two);
    raw.big_endian = big_endian;
    raw.dim = [3, 2, 1, 2, 1, 1, 1, 1];
    let voxels = case.bytes.iter().flat_map(|eight| {
        let mut bytes = eight[..case.size].to_vec();
        if big_endian {
            bytes.reverse();
        }
        bytes
    });
    raw.with_voxels(case.datatype, voxels.collect())
}

#[test]
fn images_of_every_type_order_and_version() {
    let folder = tempfile::tempdir().unwrap();
    for case in cases() {
        for (two, big_endian) in [(false, false), (false, true), (true, false), (true, true)] {
            let path = folder.path().join("image.nii");
            let image = read_image(raw(&case, two, big_endian).save(&path)).unwrap();
            assert_eq!(image.shape(), [2, 1, 2]);
            assert_eq!(image.channels(), 1);
            let expected = case.values.map(|value| value as f32);
            assert_eq!(image.voxels(), expected, "{} {two} {big_endian}", case.name);
            assert_eq!(image.geometry().spacing(), [3.0, 0.75, 0.5]);
        }
    }
}

#[test]
fn labels_of_every_type_order_and_version() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        case!(u8, 2, [0, 1, 7, 255]),
        case!(i16, 4, [0, 1, 7, 32_767]),
        case!(i32, 8, [0, 1, 7, i32::MAX]),
        case!(f32, 16, [0.0, 1.0, -0.0, 16_777_216.0]),
        case!(f64, 64, [0.0, 1.0, 7.0, 4_294_967_295.0]),
        case!(i8, 256, [0, 1, 7, 127]),
        case!(u16, 512, [0, 1, 7, 65_535]),
        case!(u32, 768, [0, 1, 7, u32::MAX]),
        case!(i64, 1024, [0, 1, 7, 4_294_967_295]),
        case!(u64, 1280, [0, 1, 7, 4_294_967_295]),
    ];
    for case in cases {
        for (two, big_endian) in [(false, false), (false, true), (true, false), (true, true)] {
            let path = folder.path().join("labels.nii");
            let map = read_labels(raw(&case, two, big_endian).save(&path)).unwrap();
            let expected = case.values.map(|value| value as u32);
            assert_eq!(map.labels(), expected, "{} {two} {big_endian}", case.name);
        }
    }
}

#[test]
fn what_is_no_label_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (case, bad) in [
        (case!(f32, 16, [0.0, 1.0, 0.5, 2.5]), 0.5),
        (case!(f64, 64, [0.0, 1.0, 1.000_000_1, 2.0]), 1.000_000_1),
        (case!(i16, 4, [0, 1, -1, 2]), -1.0),
        (case!(u64, 1280, [0, 1, 1 << 32, 2]), 4_294_967_296.0),
        (
            case!(f32, 16, [0.0, 1.0, f32::INFINITY, 2.0]),
            f64::INFINITY,
        ),
    ] {
        let path = folder.path().join("labels.nii");
        let error = read_labels(raw(&case, false, false).save(&path)).unwrap_err();
        let VolumeError::NotALabel { value, at, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((*value, *at), (bad, [1, 0, 0]), "{}", case.name);
        assert!(error.to_string().contains("labels.nii"), "{error}");
        assert!(error.is_users_fault());
    }
}

#[test]
fn nan_is_no_label() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.nii");
    let case = case!(f32, 16, [0.0, f32::NAN, 1.0, 2.0]);
    let error = read_labels(raw(&case, false, false).save(&path)).unwrap_err();
    assert!(
        matches!(error, VolumeError::NotALabel { at: [0, 0, 1], .. }),
        "{error}"
    );
}

#[test]
fn not_finite_voxels_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.nii");
    for case in [
        case!(f32, 16, [0.0, 1.0, f32::NAN, f32::NEG_INFINITY]),
        // Finite, but not as f32.
        case!(f64, 64, [0.0, 1.0, 1e39, -1e300]),
    ] {
        let error = read_image(raw(&case, true, true).save(&path)).unwrap_err();
        assert!(
            matches!(
                error,
                VolumeError::NonFinite {
                    count: 2,
                    total: 4,
                    first: [1, 0, 0],
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn types_that_are_no_intensities_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.nii");
    for (datatype, bytes, name) in [
        (1, 1, "binary"),
        (32, 8, "complex64"),
        (128, 3, "RGB24"),
        (1536, 16, "float128"),
        (1792, 16, "complex128"),
        (2048, 32, "complex256"),
        (2304, 4, "RGBA32"),
        (77, 1, "datatype 77"),
        (0, 1, "datatype 0"),
    ] {
        let raw = Raw::one().with_voxels(datatype, vec![0; 24 * bytes]);
        let error = read_image(raw.save(&path)).unwrap_err();
        assert!(matches!(error, VolumeError::VoxelType { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn slope_and_intercept_scale_after_the_cast() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.nii");
    for two in [false, true] {
        let mut raw = raw(&case!(i16, 4, [1000, -1000, 3, 0]), two, false);
        (raw.slope, raw.inter) = (0.125, -2.0);
        let image = read_image(raw.save(&path)).unwrap();
        assert_eq!(image.voxels(), [123.0, -127.0, -1.625, -2.0]);
    }
}

#[test]
fn slopes_that_are_zero_or_not_finite_do_not_scale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.nii");
    for slope in [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for inter in [0.0, 5.0, f64::NAN] {
            let mut raw = Raw::one();
            (raw.slope, raw.inter) = (slope, inter);
            let expected: Vec<f32> = (0..24_u8).map(f32::from).collect();
            assert_eq!(read_image(raw.save(&path)).unwrap().voxels(), expected);
            let expected: Vec<u32> = (0..24).collect();
            assert_eq!(read_labels(&path).unwrap().labels(), expected);
        }
    }
}

#[test]
fn an_intercept_that_is_not_finite_is_refused_where_there_is_a_slope() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.nii");
    let mut raw = Raw::one();
    (raw.slope, raw.inter) = (2.0, f64::NAN);
    let error = read_image(raw.save(&path)).unwrap_err();
    assert!(
        matches!(
            error,
            VolumeError::Header {
                field: "scl_inter",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn scaled_labels_may_be_off_by_the_rounding_of_the_slope_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.nii");
    // 3 / 255 as a tool that stretches labels over the whole range stores it.
    let mut raw = raw(&case!(u8, 2, [0, 85, 170, 255]), false, false);
    raw.slope = 3.0 / 255.0;
    assert_eq!(read_labels(raw.save(&path)).unwrap().labels(), [0, 1, 2, 3]);
    raw.slope = 3.001 / 255.0;
    let error = read_labels(raw.save(&path)).unwrap_err();
    assert!(matches!(error, VolumeError::NotALabel { .. }), "{error}");
}
