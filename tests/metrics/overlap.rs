use voxseg::metrics::{Class, Counts, Grid, MetricsError, Settings, class_counts};

use crate::shapes::{cuboid, grid, labels};

#[test]
fn shifted_cubes_have_the_dice_of_their_intersection() {
    let shape = [10, 12, 14];
    let truth = labels(&cuboid(shape, [2, 2, 2], [8, 8, 8]), 1);
    let prediction = labels(&cuboid(shape, [2, 2, 4], [8, 8, 10]), 1);
    let classes = [Class::new("cube", [1])];
    let grid = grid(shape, [1.0; 3]);
    let counts = class_counts(&prediction, &truth, &grid, &classes, None).unwrap()[0];
    let (both, one) = (6 * 6 * 4, 6 * 6 * 2);
    assert_eq!(
        counts,
        Counts {
            tp: both,
            fp: one,
            r#fn: one,
            tn: 10 * 12 * 14 - both - 2 * one
        }
    );
    assert_eq!((counts.n_pred(), counts.n_ref()), (216, 216));
    assert_eq!(counts.dice(), 2.0 / 3.0);
    assert_eq!(counts.iou(), 0.5);
}

#[test]
fn a_region_joins_its_labels_before_counting() {
    let grid = grid([1, 1, 6], [1.0; 3]);
    let truth = [0u8, 1, 2, 3, 3, 0];
    let prediction = [0u16, 2, 1, 3, 1, 2];
    let classes = [
        Class::new("whole", [1, 2, 3]),
        Class::new("core", [2, 3]),
        Class::new("absent", [9]),
    ];
    let counts = class_counts(&prediction, &truth, &grid, &classes, None).unwrap();
    let of = |tp, fp, r#fn, tn| Counts { tp, fp, r#fn, tn };
    assert_eq!(counts, [of(4, 1, 0, 1), of(1, 2, 2, 1), of(0, 0, 0, 6)]);
    assert!(counts[2].dice().is_nan() && counts[2].iou().is_nan());
}

#[test]
fn ignored_voxels_count_nowhere() {
    let grid = grid([1, 1, 4], [1.0; 3]);
    let classes = [Class::new("one", [1])];
    let found = class_counts(&[1u8, 1, 0, 1], &[1u8, 7, 7, 0], &grid, &classes, Some(7)).unwrap();
    let expected = Counts {
        tp: 1,
        fp: 1,
        ..Counts::default()
    };
    assert_eq!(found, [expected]);
}

#[test]
fn bad_input_is_refused_with_what_was_found() {
    let wrong = class_counts(&[1u8; 3], &[1u8; 4], &grid([1, 2, 2], [1.0; 3]), &[], None);
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "prediction: 3 voxels where shape [1, 2, 2] has 4"
    );
    for shape in [[0, 1, 1], [70_000, 1, 1], [2, usize::MAX, 2]] {
        assert!(matches!(
            Grid::new(shape, [1.0; 3]),
            Err(MetricsError::Shape { .. })
        ));
    }
    for spacing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            Grid::new([1, 1, 1], [1.0, spacing, 1.0]),
            Err(MetricsError::Spacing { .. })
        ));
    }
    let no_label: [u32; 0] = [];
    for classes in [
        vec![],
        vec![Class::new("none", no_label)],
        vec![Class::new("background", [0])],
        vec![Class::new("twice", [1]), Class::new("twice", [2])],
    ] {
        assert!(matches!(
            Settings::new(classes),
            Err(MetricsError::Classes { .. })
        ));
    }
    let settings = Settings::new(vec![Class::new("one", [1])]).unwrap();
    assert!(settings.clone().with_nsd_tolerance(-1.0).is_err());
    assert!(settings.with_nsd_tolerance(f64::NAN).is_err());
}
