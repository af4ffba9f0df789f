//! Resampling against scikit-image and SciPy; resample.py made the numbers.

use std::collections::BTreeMap;

use voxseg::dataset::{Bounds, CropAndResample, Resampling, resampled_shape};

use crate::support::{PLAIN, describe, restored_whole};

const SHAPE: [usize; 3] = [4, 5, 6];

fn fixtures() -> BTreeMap<String, Vec<f64>> {
    serde_json::from_str(include_str!("resample.json")).unwrap()
}

fn image() -> Vec<f32> {
    fixtures()["image"].iter().map(|&v| v as f32).collect()
}

/// Weights and sums in `f32` over about 30 neighbours an axis, values up to 10.
fn assert_near(found: &[f32], name: &str) {
    let expected = &fixtures()[name];
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        assert!(
            difference < 1e-5,
            "{name} {i}: {found}, expected {expected}"
        );
    }
}

#[test]
fn images_are_those_of_scikit_image() {
    for (to, coarse_axis, name) in [
        ([6, 4, 9], None, "cubic_6_4_9"),
        ([2, 5, 13], None, "cubic_2_5_13"),
        ([6, 9, 4], Some(1), "separate_1_to_6_9_4"),
        ([3, 7, 6], Some(0), "separate_0_to_3_7_6"),
    ] {
        let resampling = Resampling {
            from: SHAPE,
            to,
            coarse_axis,
        };
        assert_near(&resampling.image(&image()), name);
    }
}

#[test]
fn labels_are_those_of_scikit_image() {
    let fixtures = fixtures();
    let whole = |name: &str| -> Vec<u32> { fixtures[name].iter().map(|&v| v as u32).collect() };
    for (to, name) in [([7, 4, 9], "labels_7_4_9"), ([3, 8, 5], "labels_3_8_5")] {
        let resampling = Resampling {
            from: SHAPE,
            to,
            coarse_axis: None,
        };
        assert_eq!(resampling.labels(&whole("labels")), whole(name), "{name}");
    }
}

/// The way back is linear: of two channels, the second of them the same everywhere, the larger is the first wherever it
/// lies above that level.
#[test]
fn logits_are_resampled_linearly() {
    let record = CropAndResample {
        original_shape: [7, 4, 9],
        bounds: Bounds::whole([7, 4, 9]),
        resampled_shape: SHAPE,
        original_spacing: [1.0; 3],
        spacing: [1.0; 3],
    };
    let labels = describe(PLAIN).labels;
    let expected = &fixtures()["linear_7_4_9"];
    let mut levels = expected.clone();
    levels.sort_by(f64::total_cmp);
    let between = levels.windows(2).filter(|pair| pair[1] - pair[0] > 1e-4);
    let between: Vec<f64> = between.map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    assert!(between.len() > 100, "{} levels", between.len());
    for level in between {
        let logits = [image(), vec![level as f32; 120]].concat();
        let found = restored_whole(record, &logits, &labels);
        let below: Vec<u32> = expected.iter().map(|&v| u32::from(v < level)).collect();
        assert_eq!(found, below, "at {level}");
    }
}

#[test]
fn shapes_are_rounded_and_never_empty() {
    assert_eq!(
        resampled_shape([10, 20, 3], [1.0, 2.0, 1.0], [3.0, 1.0, 100.0]),
        [3, 40, 1]
    );
    assert_eq!(resampled_shape([5, 7, 9], [1.0; 3], [2.0; 3]), [2, 4, 4]);
}

#[test]
fn the_same_grid_changes_nothing_and_a_constant_stays_constant() {
    let same = Resampling {
        from: SHAPE,
        to: SHAPE,
        coarse_axis: None,
    };
    assert_eq!(same.image(&image()), image());
    let other = Resampling {
        from: [1, 5, 6],
        to: [3, 2, 17],
        coarse_axis: None,
    };
    assert!(other.image(&[2.5; 30]).iter().all(|&v| v == 2.5));
}
