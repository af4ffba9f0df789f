use voxseg::report::curves::{CurvesError, Record, curves_svg, write_curves};

fn records(n: u64) -> Vec<Record> {
    let record = |step: u64| Record {
        step,
        loss: Some(1.0 / (1.0 + step as f64)),
        validation_dice: step.is_multiple_of(10).then_some(0.5),
        validation_accuracy: None,
    };
    (0..n).map(record).collect()
}

/// Names of the elements, if every one that opens closes again in the right order.
fn elements(svg: &str) -> Vec<&str> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.trim()));
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).next().unwrap();
        all.push(name);
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} still open");
    all
}

#[test]
fn both_curves_are_drawn_into_one_well_formed_svg() {
    let svg = curves_svg(&records(100)).unwrap();
    let elements = elements(&svg);
    assert_eq!(elements[0], "svg");
    assert!(elements.contains(&"polyline"));
    for label in ["training loss", "validation Dice", "step"] {
        assert!(svg.contains(label), "{label}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn a_curve_without_values_is_left_out() {
    let only_loss: Vec<Record> = records(50)
        .into_iter()
        .map(|r| Record {
            validation_dice: None,
            validation_accuracy: None,
            ..r
        })
        .collect();
    let svg = curves_svg(&only_loss).unwrap();
    assert!(svg.contains("training loss") && !svg.contains("validation Dice"));
    let of = |loss| Record {
        step: 0,
        loss,
        validation_dice: None,
        validation_accuracy: None,
    };
    for empty in [
        vec![],
        vec![of(None)],
        vec![of(Some(f64::NAN)), of(Some(f64::INFINITY))],
    ] {
        assert!(matches!(curves_svg(&empty), Err(CurvesError::NoRecord)));
    }
}

#[test]
fn odd_records_are_drawn_all_the_same() {
    for loss in [0.0, -3.0, 1e6, 1e-300] {
        let one = Record {
            step: u64::MAX,
            loss: Some(loss),
            validation_dice: Some(1.0),
            validation_accuracy: None,
        };
        elements(&curves_svg(&[one]).unwrap());
        elements(&curves_svg(&[one, one, Record { step: 0, ..one }]).unwrap());
    }
}

#[test]
fn a_long_log_gives_a_small_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.svg");
    write_curves(&path, &records(300_000)).unwrap();
    let svg = std::fs::read_to_string(&path).unwrap();
    assert!(svg.len() < 100_000, "{} bytes", svg.len());
    elements(&svg);
}
