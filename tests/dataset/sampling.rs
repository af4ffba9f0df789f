//! Batches.

use std::path::Path;

use proptest::prelude::*;
use voxseg::dataset::{
    Bounds, CropAndResample, Drawing, PatchChoice, PreparedCase, Preprocessed, choose_patches,
    draw_batch, mirror,
};

use crate::support::{PLAIN, assert_blames, describe};

const PLAIN_DRAWING: Drawing = Drawing {
    batch: 4,
    patch: [4, 5, 6],
    foreground: 1.0 / 3.0,
    mirror_axes: &[],
};

/// A case of `shape` whose image is the offset of each voxel and whose label is 1 in `voxel` alone.
fn case(folder: &Path, id: &str, shape: [usize; 3], voxel: Option<usize>) -> PreparedCase {
    let voxels: usize = shape.iter().product();
    let case = Preprocessed {
        record: CropAndResample {
            original_shape: shape,
            bounds: Bounds::whole(shape),
            resampled_shape: shape,
            original_spacing: [1.0; 3],
            spacing: [1.0; 3],
        },
        channels: 1,
        image: (0..voxels).map(|v| v as f32 + 1.0).collect(),
        label: Some((0..voxels).map(|v| u32::from(Some(v) == voxel)).collect()),
    };
    let path = folder.join(format!("{id}.case"));
    PreparedCase::write(&path, id, &case, &describe(PLAIN).labels, 0).unwrap()
}

fn two_cases(folder: &Path) -> Vec<PreparedCase> {
    vec![
        case(folder, "a", [10, 12, 14], Some(777)),
        case(folder, "b", [3, 9, 6], Some(5)),
    ]
}

#[test]
fn seed_and_step_decide_everything() {
    let folder = tempfile::tempdir().unwrap();
    let cases = two_cases(folder.path());
    let how = Drawing {
        mirror_axes: &[0, 1, 2],
        ..PLAIN_DRAWING
    };
    let draw = |seed, step| draw_batch(&cases, seed, step, &how).unwrap();
    let batch = draw(3, 7);
    assert_eq!(batch.image.len(), 4 * 120);
    assert_eq!(batch.target.len(), 4 * 120);
    draw(3, 8);
    assert_eq!(draw(3, 7), batch);
    assert_ne!(draw(3, 8), batch);
    assert_ne!(draw(4, 7), batch);
}

#[test]
fn the_last_third_holds_foreground() {
    let folder = tempfile::tempdir().unwrap();
    let cases = two_cases(folder.path());
    for (batch, forced) in [(2, 1), (3, 1), (4, 1), (9, 3), (12, 4)] {
        let how = Drawing {
            batch,
            ..PLAIN_DRAWING
        };
        for step in 0..20 {
            let drawn = draw_batch(&cases, 1, step, &how).unwrap();
            let choices = choose_patches(&cases, 1, step, &how).unwrap();
            for (index, label) in drawn.target.chunks_exact(120).enumerate() {
                let is_forced = index >= batch - forced;
                assert_eq!(
                    choices[index].around.is_some(),
                    is_forced,
                    "{batch} {index}"
                );
                assert!(!is_forced || label.contains(&1.0), "{batch} {index}");
            }
        }
    }
}

#[test]
fn a_batch_of_one_holds_foreground_by_chance() {
    let folder = tempfile::tempdir().unwrap();
    let cases = two_cases(folder.path());
    let how = Drawing {
        batch: 1,
        ..PLAIN_DRAWING
    };
    let is_forced = |step| {
        choose_patches(&cases, 0, step, &how).unwrap()[0]
            .around
            .is_some()
    };
    let forced = (0..3000).filter(|&step| is_forced(step)).count();
    // 1000 expected, with a standard deviation of 26.
    assert!((870..1130).contains(&forced), "{forced}");
}

#[test]
fn a_case_without_foreground_gives_any_patch() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [case(folder.path(), "a", [10, 12, 14], None)];
    let choices = choose_patches(&cases, 0, 0, &PLAIN_DRAWING).unwrap();
    assert!(choices.iter().all(|choice| choice.around.is_none()));
}

#[test]
fn with_an_ignore_label_patches_lie_around_annotated_voxels() {
    let folder = tempfile::tempdir().unwrap();
    let text = PLAIN.replace("\"organ\": 1", "\"organ\": 1, \"ignore\": 2");
    let labels = describe(&text).labels;
    let shape = [1, 1, 100];
    let case = Preprocessed {
        record: CropAndResample {
            original_shape: shape,
            bounds: Bounds::whole(shape),
            resampled_shape: shape,
            original_spacing: [1.0; 3],
            spacing: [1.0; 3],
        },
        channels: 1,
        image: vec![0.0; 100],
        label: Some((0..100).map(|v| if v == 70 { 0 } else { 2 }).collect()),
    };
    let path = folder.path().join("a.case");
    let cases = [PreparedCase::write(&path, "a", &case, &labels, 0).unwrap()];
    let how = Drawing {
        patch: [1, 1, 10],
        ..PLAIN_DRAWING
    };
    let choices = choose_patches(&cases, 0, 0, &how).unwrap();
    assert!(choices.iter().all(|choice| choice.start == [0, 0, 65]));
}

#[test]
fn patches_reach_every_position_and_never_leave_a_volume_that_is_large_enough() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [case(folder.path(), "a", [3, 9, 6], Some(0))];
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..200 {
        for choice in choose_patches(&cases, 0, step, &PLAIN_DRAWING).unwrap() {
            assert_eq!((choice.start[0], choice.start[2]), (0, 0));
            seen.insert(choice.start[1]);
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let larger = Drawing {
        patch: [7, 9, 9],
        ..PLAIN_DRAWING
    };
    let choices = choose_patches(&cases, 0, 0, &larger).unwrap();
    assert!(choices.iter().all(|choice| choice.start == [-2, 0, -1]));
}

#[test]
fn mirrored_patches_are_the_patches_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let cases = two_cases(folder.path());
    let mirrored = Drawing {
        mirror_axes: &[1, 2],
        ..PLAIN_DRAWING
    };
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..30 {
        let choices = choose_patches(&cases, 5, step, &mirrored).unwrap();
        let batch = draw_batch(&cases, 5, step, &mirrored).unwrap();
        for (
            index,
            PatchChoice {
                case,
                start,
                mirrored: axes,
                ..
            },
        ) in choices.iter().enumerate()
        {
            let mut patch = cases[*case].read_patch(*start, [4, 5, 6]).unwrap();
            mirror(&mut patch.image, [4, 5, 6], axes);
            assert_eq!(batch.image[index * 120..][..120], patch.image);
            seen.insert(axes.clone());
        }
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [vec![], vec![1], vec![1, 2], vec![2]]
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = two_cases(folder.path());
    for (how, word) in [
        (
            Drawing {
                batch: 0,
                ..PLAIN_DRAWING
            },
            "batch",
        ),
        (
            Drawing {
                patch: [4, 0, 4],
                ..PLAIN_DRAWING
            },
            "patch",
        ),
        (
            Drawing {
                foreground: 1.5,
                ..PLAIN_DRAWING
            },
            "foreground",
        ),
        (
            Drawing {
                foreground: f64::NAN,
                ..PLAIN_DRAWING
            },
            "foreground",
        ),
        (
            Drawing {
                mirror_axes: &[3],
                ..PLAIN_DRAWING
            },
            "mirror",
        ),
    ] {
        assert_blames(&draw_batch(&cases, 0, 0, &how).unwrap_err(), &[word]);
    }
    assert_blames(
        &draw_batch(&[], 0, 0, &PLAIN_DRAWING).unwrap_err(),
        &["cases"],
    );
}

proptest! {
    #[test]
    fn mirroring_moves_each_voxel_to_the_other_side(
        extent in [1usize..5, 1usize..5, 1usize..5],
        axes in proptest::sample::subsequence(vec![0usize, 1, 2], 0..=3),
    ) {
        let [d, h, w] = extent;
        let original: Vec<f32> = (0..2 * d * h * w).map(|v| v as f32).collect();
        let mut data = original.clone();
        mirror(&mut data, extent, &axes);
        for (i, &value) in data.iter().enumerate() {
            let mut index = [i / (h * w) % d, i / w % h, i % w];
            for &axis in &axes {
                index[axis] = extent[axis] - 1 - index[axis];
            }
            let channel = i / (d * h * w);
            let from = ((channel * d + index[0]) * h + index[1]) * w + index[2];
            prop_assert_eq!(value, original[from]);
        }
    }
}
