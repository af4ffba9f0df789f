//! The way back to the grid of the file.

use voxseg::dataset::{Labels, Preprocessed, RestoredLabels};
use voxseg::volume::Geometry;

use crate::support::{PLAIN, describe, loaded, preprocessing, restored, restored_whole};

fn dice(a: &[u32], b: &[u32], label: u32) -> f64 {
    let count = |of: &[u32]| of.iter().filter(|&&v| v == label).count();
    let both = a
        .iter()
        .zip(b)
        .filter(|(a, b)| **a == label && **b == label)
        .count();
    2.0 * both as f64 / (count(a) + count(b)) as f64
}

/// Two balls in a border of zeros: image 1 inside of 24 x 30 x 34 mm.
fn two_balls(geometry: &Geometry) -> (Vec<f32>, Vec<u32>) {
    let spacing = geometry.spacing();
    let distance = |index: [usize; 3], centre: [f64; 3]| {
        let square = |a: usize| ((index[a] as f64 + 0.5) * spacing[a] - centre[a]).powi(2);
        (0..3).map(square).sum::<f64>().sqrt()
    };
    (0..geometry.voxels())
        .map(|offset| {
            let index = geometry.index_of(offset);
            let label = if distance(index, [14.0, 15.0, 12.0]) < 8.0 {
                1
            } else {
                2 * u32::from(distance(index, [14.0, 18.0, 26.0]) < 6.0)
            };
            let is_border = index.contains(&0) || index[2] > geometry.shape()[2] - 2;
            (f32::from(u8::from(!is_border)), label)
        })
        .unzip()
}

fn three_classes() -> Labels {
    describe(&PLAIN.replace("\"organ\": 1", "\"organ\": 1, \"other\": 2")).labels
}

#[test]
fn labels_survive_the_way_there_and_back() {
    for (shape, spacing, target, at_least) in [
        ([28, 30, 34], [1.0; 3], [0.8, 0.9, 1.1], 0.97),
        ([28, 30, 34], [1.0; 3], [1.0; 3], 1.0),
        ([7, 30, 34], [4.0, 1.0, 1.0], [4.0, 0.8, 0.8], 0.98),
        ([14, 60, 34], [2.0, 0.5, 1.0], [1.5, 0.75, 0.75], 0.95),
    ] {
        let geometry = Geometry::from_spacing(shape, spacing);
        let (image, label) = two_balls(&geometry);
        let case = loaded(geometry, image, Some(label.clone()));
        let done = preprocessing(target, 1).apply(case).unwrap();
        let resampled = done.label.unwrap();
        let logits: Vec<f32> = (0..3)
            .flat_map(|class| {
                resampled
                    .iter()
                    .map(move |&l| 20.0 * f32::from(u8::from(l == class)))
            })
            .collect();
        let back = restored_whole(done.record, &logits, &three_classes());
        assert_eq!(back.len(), label.len());
        for class in [1, 2] {
            let dice = dice(&back, &label, class);
            assert!(
                dice >= at_least,
                "{spacing:?} to {target:?}, class {class}: {dice}"
            );
        }
    }
}

#[test]
fn what_was_cropped_away_is_background() {
    let geometry = Geometry::from_spacing([3, 3, 3], [1.0; 3]);
    let mut image = vec![0.0; 27];
    image[13] = 1.0;
    let done = preprocessing([1.0; 3], 1)
        .apply(loaded(geometry, image, None))
        .unwrap();
    let labels = describe(PLAIN).labels;
    let found = restored_whole(done.record, &[0.0, 1.0], &labels);
    let mut expected = vec![0; 27];
    expected[13] = 1;
    assert_eq!(found, expected);
}

#[test]
fn later_regions_cover_earlier_ones() {
    let text = PLAIN
        .replace("\"organ\": 1", "\"whole\": [1, 2], \"core\": [2]")
        .replacen('{', "{\"regions_class_order\": [1, 2],", 1);
    let labels = describe(&text).labels;
    let geometry = Geometry::from_spacing([1, 1, 4], [1.0; 3]);
    let case = loaded(geometry, vec![1.0; 4], None);
    let done = preprocessing([1.0; 3], 1).apply(case).unwrap();
    let logits = [-1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0];
    let found = restored_whole(done.record, &logits, &labels);
    assert_eq!(found, [0, 1, 2, 2]);
}

#[test]
fn missing_logits_are_our_fault() {
    let geometry = Geometry::from_spacing([2, 1, 4], [1.0; 3]);
    let case = loaded(geometry, vec![1.0; 8], None);
    let record = preprocessing([1.0; 3], 1).apply(case).unwrap().record;
    let labels = three_classes();
    for slices in [vec![vec![0.0; 12]], vec![vec![0.0; 12], vec![0.0; 11]]] {
        let mut restored = RestoredLabels::new(record, &labels);
        restored.add(slices);
        assert!(!restored.finish().unwrap_err().is_users_fault());
    }
}

#[test]
fn slice_by_slice_gives_the_same_labels_as_all_at_once() {
    let regions = PLAIN
        .replace(
            "\"organ\": 1",
            "\"whole\": [1, 2, 3], \"core\": [2], \"other\": [3]",
        )
        .replacen('{', "{\"regions_class_order\": [1, 2, 3],", 1);
    for labels in [three_classes(), describe(&regions).labels] {
        for (shape, target) in [
            ([28, 30, 34], [0.6, 0.9, 1.1]),
            ([28, 30, 34], [2.3, 1.0, 1.0]),
            ([28, 30, 34], [1.0, 1.0, 5.0]),
            ([1, 30, 34], [1.0, 0.7, 1.5]),
        ] {
            let (image, _) = two_balls(&Geometry::from_spacing(shape, [1.0; 3]));
            let case = loaded(Geometry::from_spacing(shape, [1.0; 3]), image, None);
            let Preprocessed { record, .. } = preprocessing(target, 1).apply(case).unwrap();
            let voxels: usize = record.resampled_shape.iter().product();
            let logits: Vec<f32> = (0..labels.classes() * voxels)
                .map(|i| (i as f32 * 0.37).sin())
                .collect();
            let in_parts = restored(record, &logits, &labels, |z| 1 + z % 4).unwrap();
            let whole = restored_whole(record, &logits, &labels);
            assert!(whole.contains(&2));
            assert!(in_parts == whole, "{shape:?} {target:?}");
        }
    }
}
