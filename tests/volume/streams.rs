//! Compressed, cut off, damaged and oversized files, and pairs.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use voxseg::volume::{VolumeError, read_image, read_labels, supported_endings};

use crate::raw::Raw;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn expected() -> Vec<u32> {
    (0..24).collect()
}

#[test]
fn gzip_is_told_by_content_not_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Raw::one().bytes();
    for (name, bytes) in [("a.nii", gzip(&plain)), ("b.nii.gz", plain.clone())] {
        let path = write(folder.path(), name, &bytes);
        assert_eq!(read_labels(path).unwrap().labels(), expected(), "{name}");
    }
}

#[test]
fn members_padding_and_appendices() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Raw::version(true).bytes();
    let three = [&plain[..100], &plain[100..545], &plain[545..]]
        .map(gzip)
        .concat();
    for (name, tail) in [
        ("members", &b""[..]),
        ("padding", &[0; 700]),
        ("an appendix", b"signed by nobody"),
    ] {
        let path = write(folder.path(), "a.nii.gz", &[&three[..], tail].concat());
        assert_eq!(read_labels(path).unwrap().labels(), expected(), "{name}");
    }
    let padded = [gzip(&plain[..300]), vec![0; 70_000], gzip(&plain[300..])].concat();
    let path = write(folder.path(), "a.nii.gz", &padded);
    assert_eq!(read_labels(path).unwrap().labels(), expected());
}

#[test]
fn a_plain_file_cut_off_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    for two in [false, true] {
        let whole = Raw::version(two).bytes();
        for length in 0..whole.len() {
            let path = write(folder.path(), "a.nii", &whole[..length]);
            let error = read_image(path).unwrap_err();
            assert!(
                matches!(error, VolumeError::Truncated { .. }),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn a_compressed_file_cut_off_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let whole = gzip(&Raw::one().bytes());
    for length in 0..whole.len() {
        let path = write(folder.path(), "a.nii.gz", &whole[..length]);
        let error = read_labels(path).unwrap_err();
        let fits = match &error {
            VolumeError::Truncated { .. } => true,
            // All voxels are there, but not the mark of their end and the checksum.
            VolumeError::Gzip { .. } => length + 10 >= whole.len(),
            VolumeError::NotNifti { .. } => length < 2,
            _ => false,
        };
        assert!(fits, "{length} of {}: {error}", whole.len());
    }
}

#[test]
fn a_wrong_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = gzip(&Raw::one().bytes());
    let crc = bytes.len() - 8;
    bytes[crc] ^= 1;
    let path = write(folder.path(), "a.nii.gz", &bytes);
    let error = read_labels(path).unwrap_err();
    assert!(matches!(error, VolumeError::Gzip { .. }), "{error}");
}

#[test]
fn a_bomb_is_not_inflated() {
    let folder = tempfile::tempdir().unwrap();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&Raw::one().bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..64 {
        bomb.write_all(&zeros).unwrap();
    }
    let path = write(folder.path(), "a.nii.gz", &bomb.finish().unwrap());
    let error = read_image(path).unwrap_err();
    assert!(
        matches!(error, VolumeError::Header { field: "dim", .. }),
        "{error}"
    );
}

#[test]
fn a_small_file_that_promises_gigabytes_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut raw = Raw::one();
    raw.dim = [3, 2048, 1024, 1024, 1, 1, 1, 1];
    let path = write(folder.path(), "a.nii.gz", &gzip(&raw.bytes()));
    let error = read_image(path).unwrap_err();
    assert!(
        matches!(
            error,
            VolumeError::Truncated {
                expected: 0x8000_0000,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn vox_offset_skips_extensions_and_zero_means_none() {
    let folder = tempfile::tempdir().unwrap();
    for two in [false, true] {
        let mut raw = Raw::version(two);
        raw.vox_offset = 0.0;
        let path = folder.path().join("a.nii");
        assert_eq!(read_labels(raw.save(&path)).unwrap().labels(), expected());
        // An extension behind the flag, and one that the flag does not announce.
        for flag in [1, 0] {
            raw.between = vec![flag, 0, 0, 0];
            raw.between.extend([0x55; 9000]);
            raw.vox_offset = f64::from(raw.size + 9004);
            assert_eq!(read_labels(raw.save(&path)).unwrap().labels(), expected());
        }
    }
}

#[test]
fn pairs_in_both_versions_compressed_and_not() {
    for two in [false, true] {
        let mut raw = Raw::version(two);
        raw.magic[1] = b'i';
        raw.magic[2] = if two { b'2' } else { b'1' };
        raw.vox_offset = 0.0;
        let header = raw.header();
        for (header_name, header, image_name, voxels) in [
            (
                "case_0.5mm.hdr",
                header.clone(),
                "case_0.5mm.img",
                raw.voxels.clone(),
            ),
            ("c.hdr.gz", gzip(&header), "c.img.gz", gzip(&raw.voxels)),
            ("d.hdr", header.clone(), "d.img.gz", gzip(&raw.voxels)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let header_path = write(folder.path(), header_name, &header);
            let missing = read_labels(&header_path).unwrap_err();
            assert!(matches!(missing, VolumeError::HalfPair { .. }), "{missing}");
            assert!(missing.is_users_fault());
            let image_path = write(folder.path(), image_name, &voxels);
            for path in [&header_path, &image_path] {
                let map = read_labels(path).unwrap();
                assert_eq!(map.labels(), expected(), "{}", path.display());
                assert_eq!(map.shape(), [4, 3, 2]);
            }
            std::fs::remove_file(header_path).unwrap();
            let missing = read_image(&image_path).unwrap_err();
            assert!(matches!(missing, VolumeError::HalfPair { .. }), "{missing}");
        }
    }
}

#[test]
fn a_pair_may_skip_bytes_and_may_be_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut raw = Raw::one();
    raw.magic = b"ni1\0".to_vec();
    raw.vox_offset = 5.0;
    let header = write(folder.path(), "a.hdr", &raw.header());
    write(folder.path(), "a.img", &[&[9; 5], &raw.voxels[..]].concat());
    assert_eq!(read_labels(&header).unwrap().labels(), expected());
    write(folder.path(), "a.img", &raw.voxels);
    let error = read_labels(&header).unwrap_err();
    assert!(
        matches!(
            error,
            VolumeError::Truncated {
                expected: 24,
                found: 19,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_single_file_named_like_half_a_pair_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let header = write(folder.path(), "a.hdr", &Raw::one().bytes());
    write(folder.path(), "a.img", &[0; 24]);
    let error = read_labels(header).unwrap_err();
    assert!(
        matches!(error, VolumeError::Header { field: "magic", .. }),
        "{error}"
    );
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read_image(folder.path().join("none.nii.gz")).unwrap_err();
    assert!(matches!(missing, VolumeError::Read { .. }), "{missing}");
    assert!(missing.is_users_fault());
    for ending in supported_endings() {
        let path = folder.path().join(format!("folder{ending}"));
        std::fs::create_dir_all(&path).unwrap();
        let error = read_image(&path).unwrap_err();
        assert!(error.is_users_fault(), "{error}");
    }
    let error = read_image(folder.path().join("scan.dcm")).unwrap_err();
    assert!(matches!(error, VolumeError::Ending { .. }), "{error}");
    assert!(error.to_string().contains(".nii.gz"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_instead_of_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.nii");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let error = read_image(&path).unwrap_err();
    assert!(matches!(error, VolumeError::Read { .. }), "{error}");
}
