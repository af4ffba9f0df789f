//! What we write, others and we read back.

use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use voxseg::volume::{
    Affine, Geometry, Image, LabelMap, VolumeError, read_geometry, read_image, read_labels,
    write_image, write_labels,
};

fn oblique() -> Geometry {
    Geometry::from_affine(
        [3, 4, 5],
        Affine::from_rows([
            [-0.6, -0.4, 0.01, 12.5],
            [0.4, -0.6, 0.02, -7.3],
            [0.0, 0.015, 3.0, 1e-3],
        ]),
    )
}

fn labels_up_to(largest: u32, geometry: &Geometry) -> LabelMap {
    let mut labels = vec![0; geometry.voxels()];
    labels[1] = 1;
    labels[geometry.voxels() - 1] = largest;
    LabelMap::new(geometry.clone(), labels).unwrap()
}

#[test]
fn label_maps_come_back_in_the_narrowest_type() {
    let folder = tempfile::tempdir().unwrap();
    for (largest, datatype) in [(0, 2), (255, 2), (256, 512), (65535, 512), (65536, 8)] {
        for ending in ["nii", "nii.gz"] {
            let path = folder.path().join(format!("case_0.5mm.{ending}"));
            let map = labels_up_to(largest, &oblique());
            write_labels(&path, &map).unwrap();
            let object = ReaderOptions::new().read_file(&path).unwrap();
            assert_eq!(object.header().datatype, datatype);
            let theirs = object.into_volume().into_ndarray::<f64>().unwrap();
            assert!(
                map.labels()
                    .iter()
                    .zip(theirs.t().iter())
                    .all(|(&ours, &theirs)| f64::from(ours) == theirs)
            );
            assert_eq!(read_labels(&path).unwrap().labels(), map.labels());
        }
    }
}

#[test]
fn a_label_beyond_i32_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let error = write_labels(&path, &labels_up_to(1 << 31, &oblique())).unwrap_err();
    assert!(matches!(error, VolumeError::CannotHold { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn an_oblique_image_comes_back_exactly_and_a_second_time_identically() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first.nii", "second.nii"].map(|name| folder.path().join(name));
    let voxels = (0..60).map(|i| (i as f32).sin() * 1e3).collect();
    let image = Image::new(oblique(), 1, voxels).unwrap();
    write_image(&first, &image).unwrap();
    let read = read_image(&first).unwrap();
    assert_eq!(read.voxels(), image.voxels());
    assert_eq!(read.geometry().matches(image.geometry()), Ok(()));
    write_image(&second, &read).unwrap();
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&second).unwrap()
    );
    assert_eq!(read_image(&second).unwrap(), read);
    assert_eq!(read_geometry(&first).unwrap(), *read.geometry());
}

#[test]
fn an_extent_beyond_i16_is_written_as_nifti_2() {
    let folder = tempfile::tempdir().unwrap();
    for (width, magic_at, magic) in [(32767, 344, b"n+1"), (32768, 4, b"n+2")] {
        let path = folder.path().join("long.nii");
        let geometry = Geometry::from_spacing([1, 2, width], [1.0, 0.7, 0.1]);
        write_labels(&path, &labels_up_to(7, &geometry)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[magic_at..magic_at + 3], magic);
        let read = read_labels(&path).unwrap();
        assert_eq!(read.shape(), [1, 2, width]);
        assert_eq!(read.labels()[2 * width - 1], 7);
        assert_eq!(read.geometry().matches(&geometry), Ok(()));
    }
}

#[test]
fn several_channels_do_not_fit_one_nifti_file() {
    let folder = tempfile::tempdir().unwrap();
    let geometry = Geometry::from_spacing([1, 2, 2], [1.0; 3]);
    let image = Image::new(geometry, 3, vec![0.0; 12]).unwrap();
    let error = write_image(folder.path().join("a.nii.gz"), &image).unwrap_err();
    assert!(
        error.to_string().contains("one file per channel"),
        "{error}"
    );
}

#[test]
fn voxels_must_fill_their_geometry() {
    let geometry = Geometry::from_spacing([2, 2, 2], [1.0; 3]);
    let error = LabelMap::new(geometry, vec![0; 7]).unwrap_err();
    assert!(matches!(
        error,
        VolumeError::VoxelCount {
            expected: 8,
            found: 7,
            ..
        }
    ));
    assert!(!error.is_users_fault());
}
