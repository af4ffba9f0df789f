//! Whatever bytes come, reading ends with a volume or an error.

use std::io::Write;

use proptest::prelude::*;
use voxseg::volume::{read_image, read_labels};

use crate::raw::Raw;

/// Reads `bytes` under `name` both ways; a volume, if there is one, must be whole.
fn read(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    if let Ok(image) = read_image(&path) {
        let voxels = image.geometry().voxels() * image.channels();
        assert_eq!(image.voxels().len(), voxels);
        assert!(image.voxels().iter().all(|value| value.is_finite()));
        assert!(image.geometry().affine().inverse().is_some());
        assert!(image.geometry().spacing().iter().all(|&mm| mm > 0.0));
    }
    if let Ok(map) = read_labels(&path) {
        assert_eq!(map.labels().len(), map.geometry().voxels());
    }
}

fn overwrite(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, value) in changes {
        let at = at % bytes.len();
        bytes[at] = value;
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((any::<usize>(), any::<u8>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        for name in ["a.nii", "a.nii.gz", "a.png", "a.tif"] {
            read(name, &bytes);
        }
    }

    #[test]
    fn random_bytes_behind_a_valid_beginning(
        bytes in prop::collection::vec(any::<u8>(), 0..800),
        two in any::<bool>(),
    ) {
        let mut file = Raw::version(two).header();
        for (to, from) in file.iter_mut().skip(16).zip(&bytes) {
            *to = *from;
        }
        if !two {
            file[344..348].copy_from_slice(b"n+1\0");
        }
        read("a.nii", &[file, bytes].concat());
    }

    #[test]
    fn changed_headers(changes in changes(), two in any::<bool>(), big_endian in any::<bool>()) {
        let mut raw = Raw::version(two);
        raw.big_endian = big_endian;
        read("a.nii", &overwrite(raw.bytes(), &changes));
    }

    #[test]
    fn changed_gzip(changes in changes()) {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&Raw::one().bytes()).unwrap();
        read("a.nii.gz", &overwrite(encoder.finish().unwrap(), &changes));
    }

    #[test]
    fn changed_pictures(changes in changes(), length in any::<usize>()) {
        for (name, format) in [("a.png", image::ImageFormat::Png), ("a.tif", image::ImageFormat::Tiff)] {
            let mut file = std::io::Cursor::new(Vec::new());
            let grey = image::ExtendedColorType::L8;
            image::write_buffer_with_format(&mut file, &[7; 64], 8, 8, grey, format).unwrap();
            let mut bytes = overwrite(file.into_inner(), &changes);
            read(name, &bytes);
            bytes.truncate(length % bytes.len());
            read(name, &bytes);
        }
    }
}
