//! Files as scanners and other tools wrote them.

use std::path::{Path, PathBuf};

use nifti::{IntoNdArray, NiftiHeader, NiftiObject, ReaderOptions};
use voxseg::volume::{check_same_geometry, read_image, read_labels, write_labels};

/// The data folder, or `None` with a word about it.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("VOXSEG_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "did not run: no data in {}; set VOXSEG_DATA",
        folder.display()
    );
    None
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    assert!(
        !files.is_empty(),
        "nothing ends in {ending} in {}",
        folder.display()
    );
    files
}

fn is_label_map(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    ["_seg", "gmseg", "_labels"]
        .iter()
        .any(|part| name.contains(part))
}

#[test]
fn every_loose_volume_reads_like_the_nifti_crate_reads_it() {
    let Some(data) = data() else { return };
    for path in files(&data.join("volumes"), ".nii.gz") {
        let image = read_image(&path).unwrap();
        let object = ReaderOptions::new().read_file(&path).unwrap();
        let [x, y, z] = [1, 2, 3].map(|axis| usize::from(object.header().dim[axis]));
        assert_eq!(image.shape(), [z, y, x], "{}", path.display());
        let theirs = object.into_volume().into_ndarray::<f32>().unwrap();
        // Fortran order there: transposed, the voxels come in our order.
        for (ours, theirs) in image.voxels().iter().zip(theirs.t().iter()) {
            assert_eq!(ours, theirs, "{}", path.display());
        }
        assert_eq!(image.voxels().len(), x * y * z);
    }
}

#[test]
fn orientations_and_positions_agree_with_the_header() {
    let Some(data) = data() else { return };
    let volumes = data.join("volumes");
    for (name, orientation) in [
        ("sct_t2.nii.gz", "PSR"),
        ("sct_t2s.nii.gz", "LAS"),
        ("sct_mt1.nii.gz", "LAS"),
        ("sct_t1w.nii.gz", "RAS"),
        ("mni152_t1.nii.gz", "RAS"),
    ] {
        let path = volumes.join(name);
        let geometry = read_image(&path).unwrap().geometry().clone();
        assert_eq!(
            geometry.orientation().as_deref(),
            Some(orientation),
            "{name}"
        );
        let header = NiftiHeader::from_file(&path).unwrap();
        let (i, j, k) = (3.0, 5.0, 2.0);
        let position = geometry.position_of([k, j, i]);
        for (axis, row) in [header.srow_x, header.srow_y, header.srow_z]
            .iter()
            .enumerate()
        {
            let [a, b, c, d] = row.map(f64::from);
            let expected = a * i + b * j + c * k + d;
            assert!(
                (position[axis] - expected).abs() < 1e-9,
                "{name} axis {axis}"
            );
        }
        let back = geometry.affine().inverse().unwrap().apply(position);
        for (found, expected) in back.iter().zip([i, j, k]) {
            assert!((found - expected).abs() < 1e-9, "{name}");
        }
    }
}

#[test]
fn label_maps_among_the_loose_volumes_hold_whole_numbers() {
    let Some(data) = data() else { return };
    for path in files(&data.join("volumes"), ".nii.gz") {
        if is_label_map(&path) {
            assert!(
                read_labels(&path).unwrap().largest() > 0,
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn images_and_their_labels_lie_on_each_other_in_the_datasets() {
    let Some(data) = data() else { return };
    for (dataset, ending) in [
        ("Dataset101_LeftAtrium", ".nii.gz"),
        ("Dataset102_MembraneEM", ".png"),
        ("Dataset103_Glioma", ".nii.gz"),
        ("Dataset104_CardiacCine", ".nii.gz"),
    ] {
        for label in files(&data.join(dataset).join("labelsTr"), ending) {
            let case = label.file_name().unwrap().to_string_lossy();
            let case = case.strip_suffix(ending).unwrap();
            let image = data
                .join(dataset)
                .join("imagesTr")
                .join(format!("{case}_0000{ending}"));
            let (voxels, labels) = (read_image(&image).unwrap(), read_labels(&label).unwrap());
            check_same_geometry(&image, voxels.geometry(), &label, labels.geometry()).unwrap();
        }
    }
}

#[test]
fn a_label_map_written_with_the_geometry_of_an_image_has_its_header_fields() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    for path in files(&data.join("volumes"), ".nii.gz") {
        let geometry = read_image(&path).unwrap().geometry().clone();
        let labels = (0..geometry.voxels()).map(|i| i as u32 % 3).collect();
        let map = voxseg::volume::LabelMap::new(geometry, labels).unwrap();
        let written = folder.path().join("labels.nii.gz");
        write_labels(&written, &map).unwrap();
        let before = NiftiHeader::from_file(&path).unwrap();
        let after = NiftiHeader::from_file(&written).unwrap();
        assert_eq!(after.dim, before.dim);
        assert_eq!(after.pixdim, before.pixdim);
        assert_eq!(after.xyzt_units, before.xyzt_units);
        assert_eq!(
            (after.qform_code, after.sform_code),
            (before.qform_code, before.sform_code)
        );
        assert_eq!(
            [after.quatern_b, after.quatern_c, after.quatern_d],
            [before.quatern_b, before.quatern_c, before.quatern_d]
        );
        assert_eq!(
            [after.quatern_x, after.quatern_y, after.quatern_z],
            [before.quatern_x, before.quatern_y, before.quatern_z]
        );
        assert_eq!(
            [after.srow_x, after.srow_y, after.srow_z],
            [before.srow_x, before.srow_y, before.srow_z]
        );
        assert_eq!(read_labels(&written).unwrap(), map);
    }
}
