//! Tensors of all types and layouts, as PyTorch writes them.

use std::collections::BTreeMap;
use std::path::Path;

use rawzip::{ZipArchive, ZipArchiveWriter};
use voxseg::weights::WeightsFile;

use crate::fixture;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(path: &Path) -> Tensors {
    let mut file = WeightsFile::open(path).unwrap_or_else(|e| panic!("{e}"));
    let shapes: Vec<(String, Vec<usize>)> = file
        .shapes()
        .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
        .collect();
    let read = shapes.into_iter().map(|(name, shape)| {
        let data = file.read(&name).unwrap_or_else(|e| panic!("{e}"));
        (name, (shape, data))
    });
    read.collect()
}

#[test]
fn all_types_and_layouts_are_those_of_pytorch() {
    let truth = tensors(&fixture("weights/numbers.safetensors"));
    assert_eq!(truth["negative"].1[..3], [0.0, -1.0, -2.0]);
    assert_eq!(truth["transposed"].0, [4, 3, 2]);
    assert_eq!(truth.len(), 17);
    for name in ["numbers.pth", "numbers_protocol4.pth"] {
        let found = tensors(&fixture("weights").join(name));
        assert_eq!(found, truth, "{name}");
    }
}

/// `numbers.pth` as a machine with the other byte order would have written it.
#[test]
fn the_other_byte_order_is_read_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.pth");
    let bytes = std::fs::read(fixture("weights/numbers.pth")).unwrap();
    let archive = ZipArchive::from_slice(&bytes).unwrap();
    let mut copy = Vec::new();
    let mut writer = ZipArchiveWriter::new(&mut copy);
    // Elements of the storages in the order of their keys: those of the tensors in the order of the generator.
    let widths = [2, 2, 4, 8, 1, 1, 2, 4, 8, 1, 8, 4, 4, 4, 4, 2];
    for entry in archive.entries() {
        let entry = entry.unwrap();
        let name = String::from_utf8(entry.file_path().as_ref().to_vec()).unwrap();
        let mut content = archive
            .get_entry(entry.wayfinder())
            .unwrap()
            .data()
            .to_vec();
        if name.ends_with("/byteorder") {
            content = b"big".to_vec();
        }
        if let Some((_, key)) = name.split_once("/data/") {
            let width = widths[key.parse::<usize>().unwrap()];
            content.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        crate::hostile::store(&mut writer, &name, &content);
    }
    writer.finish().unwrap();
    std::fs::write(&path, copy).unwrap();
    let truth = tensors(&fixture("weights/numbers.pth"));
    assert_eq!(tensors(&path), truth);
}
