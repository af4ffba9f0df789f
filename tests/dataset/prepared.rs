//! Prepared cases on disk.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use voxseg::dataset::{
    Bounds, CropAndResample, Dataset, DatasetError, Labels, PreparedCase, Preprocessed,
    prepare_cases,
};

use crate::support::{Folder, PLAIN, assert_blames, describe, preprocessing};

const SHAPE: [usize; 3] = [3, 4, 5];

/// Two channels that count up; label 1 in the last slice.
fn case() -> Preprocessed {
    Preprocessed {
        record: CropAndResample {
            original_shape: SHAPE,
            bounds: Bounds::whole(SHAPE),
            resampled_shape: SHAPE,
            original_spacing: [1.0; 3],
            spacing: [1.0; 3],
        },
        channels: 2,
        image: (0..120).map(|v| v as f32 + 0.5).collect(),
        label: Some((0..60).map(|v| u32::from(v >= 40)).collect()),
    }
}

fn with_ignore() -> Labels {
    describe(&PLAIN.replace("\"organ\": 1", "\"organ\": 1, \"ignore\": 300")).labels
}

fn write(folder: &Path, labels: &Labels) -> PreparedCase {
    PreparedCase::write(&folder.join("a.case"), "a", &case(), labels, 0).unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(folder.path(), &describe(PLAIN).labels);
    let opened = PreparedCase::open(written.path()).unwrap();
    assert_eq!(opened, written);
    assert_eq!(
        (opened.id(), opened.channels(), opened.shape()),
        ("a", 2, SHAPE)
    );
    assert_eq!(opened.record(), &case().record);
    let whole = opened.read().unwrap();
    assert_eq!(whole.image, case().image);
    let label: Vec<f32> = case().label.unwrap().iter().map(|&v| v as f32).collect();
    assert_eq!(whole.label, label);
}

#[test]
fn patches_are_padded_outside() {
    let folder = tempfile::tempdir().unwrap();
    for (labels, outside) in [(describe(PLAIN).labels, 0.0), (with_ignore(), 300.0)] {
        let prepared = write(folder.path(), &labels);
        for (start, extent) in [
            ([0, 0, 0], [3, 4, 5]),
            ([1, 1, 2], [2, 2, 2]),
            ([-1, -2, -3], [5, 8, 11]),
            ([2, 3, 4], [4, 4, 4]),
            ([-2, 0, 0], [3, 4, 1]),
            ([5, 0, 0], [2, 4, 5]),
            ([0, -9, 0], [3, 4, 5]),
        ] {
            let patch = prepared.read_patch(start, extent).unwrap();
            let volume: usize = extent.iter().product();
            assert_eq!((patch.image.len(), patch.label.len()), (2 * volume, volume));
            for i in 0..2 * volume {
                let (channel, at) = (i / volume, i % volume);
                let row = at / extent[2];
                let index = [row / extent[1], row % extent[1], at % extent[2]];
                let position: [isize; 3] = std::array::from_fn(|a| start[a] + index[a] as isize);
                let is_inside = (0..3).all(|a| (0..SHAPE[a] as isize).contains(&position[a]));
                let [d, h, w] = position.map(|p| p as usize);
                let (value, label) = if is_inside {
                    let offset = (d * 4 + h) * 5 + w;
                    let value = (channel * 60 + offset) as f32 + 0.5;
                    (value, f32::from(u8::from(offset >= 40)))
                } else {
                    (0.0, outside)
                };
                assert_eq!(patch.image[i], value, "{start:?} {extent:?} {index:?}");
                assert_eq!(patch.label[at], label, "{start:?} {extent:?} {index:?}");
            }
        }
    }
}

#[test]
fn locations_are_voxels_of_their_class() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = write(folder.path(), &with_ignore());
    assert_eq!(prepared.foreground(), [20]);
    assert_eq!(prepared.annotated(), Some(60));
    let found: Vec<_> = (0..20).map(|n| prepared.location(0, n).unwrap()).collect();
    assert!(found.iter().all(|at| at[0] == 2));
    assert_eq!(found[7], [2, 1, 2]);
    assert_eq!(prepared.location(1, 59).unwrap(), [2, 3, 4]);
    assert!(prepared.location(0, 20).is_err());
    assert!(prepared.location(2, 0).is_err());
}

#[test]
fn a_large_class_is_sampled() {
    let folder = tempfile::tempdir().unwrap();
    let shape = [30, 40, 50];
    let mut case = case();
    case.record.resampled_shape = shape;
    case.image = vec![0.0; 120_000];
    case.label = Some((0..60_000).map(|v| u32::from(v % 2 == 1)).collect());
    let labels = describe(PLAIN).labels;
    let write = |seed| {
        let path = folder.path().join(format!("{seed}.case"));
        PreparedCase::write(&path, "a", &case, &labels, seed).unwrap();
        (PreparedCase::open(&path).unwrap(), fs::read(&path).unwrap())
    };
    let (prepared, bytes) = write(1);
    assert_eq!(prepared.foreground(), [10_000]);
    let column = |n| prepared.location(0, n).unwrap()[2];
    assert!((0..10_000).step_by(97).all(|n| column(n) % 2 == 1));
    assert_eq!(bytes, write(1).1);
    assert_ne!(bytes, write(2).1);
}

#[test]
fn every_cut_and_every_foreign_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &with_ignore()).path().to_owned();
    let whole = fs::read(&path).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len())
        .step_by(13)
        .map(|n| whole[..n].to_vec())
        .collect();
    damaged.push([&whole[..], &[0]].concat());
    damaged.push([b"GIF89a", &whole[6..]].concat());
    let text = String::from_utf8_lossy(&whole);
    let at = text.find("\"channels\":2").unwrap() + "\"channels\":".len();
    for byte in *b"9-{" {
        let mut other = whole.clone();
        other[at] = byte;
        damaged.push(other);
    }
    let mut endless = whole.clone();
    endless[16..24].fill(255);
    damaged.push(endless);
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        let error = PreparedCase::open(&path).unwrap_err();
        assert!(matches!(error, DatasetError::Prepared { .. }), "{error:?}");
        assert_blames(&error, &["a.case", "delete"]);
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_used_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = write(folder.path(), &with_ignore());
    let whole = fs::read(prepared.path()).unwrap();
    fs::write(prepared.path(), &whole[..300]).unwrap();
    assert!(matches!(
        prepared.read(),
        Err(DatasetError::Prepared { .. })
    ));
    fs::remove_file(prepared.path()).unwrap();
    assert!(matches!(prepared.read(), Err(DatasetError::Io { .. })));
}

#[test]
fn cases_are_prepared_once_and_again_when_something_changes() {
    let folder = Folder::two_cases();
    let dataset = Dataset::open(folder.path()).unwrap();
    let labels = &dataset.description.labels;
    let cache = folder.file("cache");
    let prepare = |spacing: [f64; 3]| {
        let done = AtomicUsize::new(0);
        let count = |_| {
            done.fetch_add(1, Ordering::Relaxed);
        };
        let how = preprocessing(spacing, 1);
        let cases = prepare_cases(&dataset.training, labels, &how, &cache, 0, count).unwrap();
        assert_eq!(done.into_inner(), 2);
        cases
    };
    let files = || fs::read_dir(&cache).unwrap().count();
    let first = prepare([1.0; 3]);
    assert_eq!((first[0].id(), first[1].id(), files()), ("a", "b", 2));
    let written = fs::metadata(first[0].path()).unwrap().modified().unwrap();
    assert_eq!(prepare([1.0; 3]), first);
    let unchanged = fs::metadata(first[0].path()).unwrap().modified().unwrap();
    assert_eq!(written, unchanged);
    assert_ne!(prepare([2.0; 3])[0].shape(), first[0].shape());
    assert_eq!(files(), 4);
    folder.add_case("a", [9, 9, 9], [1.0; 3], 1);
    let changed = prepare([1.0; 3]);
    assert_eq!((changed[0].shape(), &changed[1]), ([7; 3], &first[1]));
    fs::write(changed[1].path(), "cut").unwrap();
    assert_eq!(prepare([1.0; 3]), changed);
}

#[test]
fn a_bad_case_stops_the_preparation_with_its_name() {
    let folder = Folder::two_cases();
    let dataset = Dataset::open(folder.path()).unwrap();
    fs::write(folder.file("imagesTr/b_0000.nii"), "no image").unwrap();
    let how = preprocessing([1.0; 3], 1);
    let cache = folder.file("cache");
    let labels = &dataset.description.labels;
    let error = prepare_cases(&dataset.training, labels, &how, &cache, 0, |_| ()).unwrap_err();
    assert_blames(&error, &["b_0000.nii"]);
    let names = fs::read_dir(&cache)
        .unwrap()
        .map(|e| e.unwrap().file_name());
    assert!(
        names
            .into_iter()
            .all(|n| n.to_string_lossy().starts_with("a-"))
    );
}
