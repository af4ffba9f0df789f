//! PNG and TIFF.

use std::io::Cursor;

use image::{DynamicImage, ExtendedColorType, ImageFormat, write_buffer_with_format};
use voxseg::volume::{
    Geometry, Image, LabelMap, VolumeError, read_geometry, read_image, read_labels, write_image,
    write_labels,
};

fn grid(labels: &[u32]) -> LabelMap {
    let geometry = Geometry::from_spacing([1, 2, labels.len() / 2], [1.0; 3]);
    LabelMap::new(geometry, labels.to_vec()).unwrap()
}

fn bytes(samples: &[u8], width: u32, colour: ExtendedColorType, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let height = samples.len() as u32 * 8 / u32::from(colour.bits_per_pixel()) / width;
    write_buffer_with_format(&mut file, samples, width, height, colour, format).unwrap();
    file.into_inner()
}

const FORMATS: [(&str, ImageFormat); 3] = [
    ("a.png", ImageFormat::Png),
    ("a.tif", ImageFormat::Tiff),
    ("a.TIFF", ImageFormat::Tiff),
];

#[test]
fn labels_come_back_exactly_in_8_or_16_bits() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in FORMATS {
        let path = folder.path().join(name);
        for (labels, bits) in [([0, 1, 2, 255, 7, 0], 8), ([0, 1, 256, 65_535, 7, 0], 16)] {
            write_labels(&path, &grid(&labels)).unwrap();
            let map = read_labels(&path).unwrap();
            assert_eq!(map.labels(), labels);
            assert_eq!(map.shape(), [1, 2, 3]);
            assert_eq!(map.geometry().spacing(), [1.0; 3]);
            assert_eq!(read_geometry(&path).unwrap(), *map.geometry());
            let theirs =
                image::load_from_memory_with_format(&std::fs::read(&path).unwrap(), format);
            match (theirs.unwrap(), bits) {
                (DynamicImage::ImageLuma8(_), 8) | (DynamicImage::ImageLuma16(_), 16) => {}
                (other, _) => panic!("{name}: {:?}", other.color()),
            }
        }
    }
}

#[test]
fn colour_gives_three_channels_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in FORMATS {
        let path = folder.path().join(name);
        let file = bytes(&[1, 2, 3, 4, 5, 6], 2, ExtendedColorType::Rgb8, format);
        std::fs::write(&path, file).unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!((image.channels(), image.shape()), (3, [1, 1, 2]));
        assert_eq!(image.voxels(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        write_image(&path, &image).unwrap();
        assert_eq!(read_image(&path).unwrap(), image);
        let error = read_labels(&path).unwrap_err();
        assert!(matches!(error, VolumeError::PictureKind { .. }), "{error}");
    }
}

#[test]
fn alpha_may_be_opaque_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let save = |samples: &[u8], colour| {
        std::fs::write(&path, bytes(samples, 1, colour, ImageFormat::Png)).unwrap();
    };
    save(&[9, 255, 8, 255], ExtendedColorType::La8);
    assert_eq!(read_image(&path).unwrap().voxels(), [9.0, 8.0]);
    save(&[9, 255, 8, 254], ExtendedColorType::La8);
    let error = read_image(&path).unwrap_err();
    assert!(matches!(error, VolumeError::PictureKind { .. }), "{error}");
    save(&[1, 2, 3, 255], ExtendedColorType::Rgba8);
    assert_eq!(read_image(&path).unwrap().voxels(), [1.0, 2.0, 3.0]);
}

/// Grey PNG of 1, 2 or 4 bits, whose values decoders stretch over a byte.
fn shallow_png(bits: u8, row: u8) -> Vec<u8> {
    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let body = [&kind[..], content].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        [
            &(content.len() as u32).to_be_bytes()[..],
            &body,
            &crc.sum().to_be_bytes(),
        ]
        .concat()
    }
    let mut header = Vec::new();
    header.extend(u32::from(8 / bits).to_be_bytes());
    header.extend(1_u32.to_be_bytes());
    header.extend([bits, 0, 0, 0, 0]);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zlib, &[0, row]).unwrap();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &zlib.finish().unwrap()),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// Grey TIFF of 1 bit, 11 x 1 pixels; layout from TIFF 6.0, section 4.
fn one_bit_tiff(row: [u8; 2]) -> Vec<u8> {
    const SHORT: u16 = 3;
    let entries: [(u16, u32); 8] = [
        (256, 11),                 // width
        (257, 1),                  // height
        (258, 1),                  // bits per sample
        (259, 1),                  // not compressed
        (262, 1),                  // 0 is black
        (273, 8 + 2 + 8 * 12 + 4), // where the rows are
        (278, 1),                  // rows per strip
        (279, 2),                  // bytes of the strip
    ];
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(SHORT.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file.extend(row);
    file
}

#[test]
fn labels_of_few_bits_keep_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    for (bits, row, labels) in [
        (1, 0b0110_0001, vec![0, 1, 1, 0, 0, 0, 0, 1]),
        (2, 0b00_01_10_11, vec![0, 1, 2, 3]),
        (4, 0x3d, vec![3, 13]),
    ] {
        std::fs::write(&path, shallow_png(bits, row)).unwrap();
        assert_eq!(read_labels(&path).unwrap().labels(), labels);
    }
    let path = folder.path().join("a.tif");
    std::fs::write(&path, one_bit_tiff([0b0110_0001, 0b0100_0000])).unwrap();
    let labels = [0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0];
    assert_eq!(read_labels(&path).unwrap().labels(), labels);
}

#[test]
fn float_colour_tiff_keeps_its_values_and_shows_nan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tif");
    let save = |samples: [f32; 3]| {
        let samples: Vec<u8> = samples.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let file = bytes(&samples, 1, ExtendedColorType::Rgb32F, ImageFormat::Tiff);
        std::fs::write(&path, file).unwrap();
    };
    save([0.25, -1.5, 3e7]);
    assert_eq!(read_image(&path).unwrap().voxels(), [0.25, -1.5, 3e7]);
    save([0.25, f32::NAN, 1.0]);
    let error = read_image(&path).unwrap_err();
    assert!(
        matches!(error, VolumeError::NonFinite { count: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_tiff_of_several_pages_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let mut file = bytes(&[1, 2], 2, ExtendedColorType::L8, ImageFormat::Tiff);
    std::fs::write(&path, &file).unwrap();
    assert!(read_image(&path).is_ok());
    // Let the first directory name a second one, itself.
    let first = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
    let entries = u16::from_le_bytes([file[first], file[first + 1]]) as usize;
    let next = first + 2 + 12 * entries;
    file.copy_within(4..8, next);
    std::fs::write(&path, &file).unwrap();
    let error = read_image(&path).unwrap_err();
    assert!(error.to_string().contains("several pages"), "{error}");
}

#[test]
fn what_a_picture_cannot_hold_is_refused_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let flat = Geometry::from_spacing([1, 1, 2], [1.0; 3]);
    let deep = Geometry::from_spacing([2, 1, 1], [1.0; 3]);
    let image = |geometry: &Geometry, channels, values: &[f32]| {
        Image::new(geometry.clone(), channels, values.to_vec()).unwrap()
    };
    let refusals = [
        write_labels(&path, &grid(&[0, 65_536])).unwrap_err(),
        write_labels(&path, &LabelMap::new(deep.clone(), vec![0, 1]).unwrap()).unwrap_err(),
        write_image(&path, &image(&deep, 1, &[0.0, 1.0])).unwrap_err(),
        write_image(&path, &image(&flat, 1, &[0.0, 0.5])).unwrap_err(),
        write_image(&path, &image(&flat, 1, &[0.0, -1.0])).unwrap_err(),
        write_image(&path, &image(&flat, 1, &[0.0, f32::NAN])).unwrap_err(),
        write_image(&path, &image(&flat, 2, &[0.0; 4])).unwrap_err(),
    ];
    for error in refusals {
        assert!(matches!(error, VolumeError::CannotHold { .. }), "{error}");
    }
    assert!(!path.exists());
}

#[test]
fn broken_pictures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let whole = bytes(&[1; 64], 8, ExtendedColorType::L8, ImageFormat::Png);
    let tiff = bytes(&[1; 64], 8, ExtendedColorType::L8, ImageFormat::Tiff);
    for file in [
        &whole[..0],
        &whole[..20],
        &whole[..whole.len() - 20],
        &tiff,
        b"text",
    ] {
        std::fs::write(&path, file).unwrap();
        let error = read_image(&path).unwrap_err();
        assert!(matches!(error, VolumeError::Picture { .. }), "{error}");
        assert!(error.to_string().contains("a.png"), "{error}");
        assert!(error.is_users_fault());
    }
}
