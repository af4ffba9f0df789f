use voxseg::metrics::{Class, Convention, MetricsError, Settings};
use voxseg::report::evaluated::{EvaluatedCases, PredictedCase, write_evaluation};
use voxseg::report::picture::{PictureCase, PictureError, picture_of_cases};

use crate::shapes::{cuboid, grid, labels};

const SHAPE: [usize; 3] = [2, 10, 10];

fn classes() -> [Class; 1] {
    [Class::new("organ", [1])]
}

/// A case of two channels whose prediction holds half of the organ.
fn case(name: &str) -> PredictedCase {
    let labels = |depth| -> Vec<u32> {
        let volume: Vec<u16> = labels(&cuboid(SHAPE, [0, 2, 2], [depth, 8, 8]), 1);
        volume.into_iter().map(u32::from).collect()
    };
    PredictedCase {
        name: name.to_owned(),
        image: (0..400).map(|i| (i % 200) as f32).collect(),
        truth: labels(2),
        prediction: labels(1),
        grid: grid(SHAPE, [1.0; 3]),
        rows_upwards: true,
    }
}

fn three(most_shown: usize) -> EvaluatedCases {
    let settings = Settings::new(classes().to_vec()).unwrap();
    let mut cases = EvaluatedCases::new(settings, most_shown);
    for name in ["a", "b", "c"] {
        cases.add(case(name)).unwrap();
    }
    cases
}

#[test]
fn all_cases_are_measured_and_the_first_are_drawn_as_they_would_be_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.png");
    let cases = three(2);
    cases.write_picture(&path).unwrap();
    let shown = [case("a"), case("b")];
    let rows = shown.each_ref().map(|case| PictureCase {
        name: &case.name,
        image: &case.image[..200],
        truth: &case.truth,
        prediction: Some(&case.prediction),
        grid: case.grid,
        dice: Some(2.0 / 3.0),
        rows_upwards: true,
    });
    let expected = picture_of_cases(&rows, &classes()).unwrap();
    assert_eq!(image::open(&path).unwrap().into_rgb8(), expected);

    let evaluation = cases.evaluation().unwrap();
    assert_eq!(evaluation.cases().len(), 3);
    let dice = evaluation.mean(Convention::FailureCounts).dice;
    assert!((dice - 2.0 / 3.0).abs() < 1e-12, "{dice}");
    let path = folder.path().join("cases.json");
    write_evaluation(&path, &evaluation).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text, format!("{:#}\n", evaluation.to_json()));
}

#[test]
fn cases_that_do_not_fit_and_pictures_of_none_are_refused() {
    let mut cases = three(0);
    let mut short = case("d");
    short.prediction.pop();
    assert!(cases.add(short).is_err());
    let path = std::path::Path::new("never.png");
    let error = cases.write_picture(path).unwrap_err();
    assert!(matches!(error, PictureError::NoCase), "{error}");
    cases.add(case("a")).unwrap();
    let error = cases.evaluation().unwrap_err();
    assert!(matches!(error, MetricsError::Cases { .. }), "{error}");
}
