use voxseg::metrics::{
    Class, Convention, Evaluation, MetricsError, Outcome, Scores, Settings, evaluate_case,
    missing_case,
};

use crate::shapes::grid;

fn settings() -> Settings {
    Settings::new(vec![Class::new("one", [1]), Class::new("two", [2])]).unwrap()
}

/// 2 x 2 pixels of 3 x 4 mm: the diagonal is 5 mm.
fn evaluation() -> Evaluation {
    let grid = grid([1, 2, 2], [1.0, 3.0, 4.0]);
    let case = |name, prediction: [u8; 4], truth: [u8; 4]| {
        evaluate_case(name, &prediction, &truth, &grid, &settings()).unwrap()
    };
    let cases = vec![
        case("good", [0, 1, 1, 2], [0, 1, 1, 2]),
        case("neither", [0, 0, 0, 2], [0, 0, 0, 2]),
        case("not found", [0, 0, 0, 2], [0, 1, 1, 2]),
        case("invented", [0, 1, 0, 2], [0, 0, 0, 2]),
        missing_case("missing", &[0u8, 1, 1, 2], &grid, &settings()).unwrap(),
    ];
    Evaluation::new(settings(), cases).unwrap()
}

fn figures(s: Scores) -> [f64; 4] {
    [s.dice, s.iou, s.hd95, s.nsd]
}

#[test]
fn every_special_case_is_named() {
    let evaluation = evaluation();
    let outcomes: Vec<_> = evaluation
        .cases()
        .iter()
        .map(|c| c.classes()[0].outcome())
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Measured,
            Outcome::BothEmpty,
            Outcome::PredictionEmpty,
            Outcome::TruthEmpty,
            Outcome::Missing
        ]
    );
    let missing = &evaluation.cases()[4];
    assert!(missing.is_missing());
    assert_eq!(missing.classes()[0].counts().r#fn, 2);
    assert_eq!(missing.classes()[0].counts().tn, 2);
}

#[test]
fn a_failure_counts_as_the_worst_possible() {
    let evaluation = evaluation();
    let scores = |case: usize| {
        let case = &evaluation.cases()[case];
        figures(case.scores(&case.classes()[0], Convention::FailureCounts))
    };
    let (best, worst) = ([1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 5.0, 0.0]);
    assert_eq!(scores(0), best);
    assert_eq!(scores(1), best);
    for failed in 2..5 {
        assert_eq!(scores(failed), worst);
    }
    let one = evaluation.class_mean(0, Convention::FailureCounts);
    assert_eq!(figures(one), [0.4, 0.4, 3.0, 0.4]);
    let two = evaluation.class_mean(1, Convention::FailureCounts);
    assert_eq!(figures(two), [0.8, 0.8, 1.0, 0.8]);
    let mean = evaluation.mean(Convention::FailureCounts);
    assert!((mean.dice - 0.6).abs() < 1e-12 && (mean.hd95 - 2.0).abs() < 1e-12);
    // Case means 1, 1, 0.5, 0.5, 0.
    assert_eq!(evaluation.median(Convention::FailureCounts).dice, 0.5);
    assert_eq!(
        evaluation.class_median(0, Convention::FailureCounts).dice,
        0.0
    );
}

#[test]
fn nnunets_convention_leaves_out_what_is_undefined() {
    let evaluation = evaluation();
    let one = evaluation.class_mean(0, Convention::NnUnet);
    // Counted: good 1, not found 0, invented 0; distances only of the good one.
    assert!((one.dice - 1.0 / 3.0).abs() < 1e-12);
    assert!((one.nsd - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(one.hd95, 0.0);
    assert_eq!(evaluation.class_mean(1, Convention::NnUnet).dice, 1.0);
    let mean = evaluation.mean(Convention::NnUnet);
    assert!((mean.dice - 2.0 / 3.0).abs() < 1e-12);
    let missing = evaluation.cases()[4].mean(Convention::NnUnet);
    assert!(figures(missing).iter().all(|v| v.is_nan()));
}

#[test]
fn a_missing_case_fails_even_where_the_truth_is_empty() {
    let grid = grid([1, 2, 2], [1.0, 3.0, 4.0]);
    let case = missing_case("nothing", &[0u8; 4], &grid, &settings()).unwrap();
    assert_eq!(
        figures(case.mean(Convention::FailureCounts)),
        [0.0, 0.0, 5.0, 0.0]
    );
}

#[test]
fn cases_that_do_not_belong_together_are_refused() {
    let grid = grid([1, 1, 1], [1.0; 3]);
    let case = |settings: &Settings| evaluate_case("c", &[1u8], &[1u8], &grid, settings).unwrap();
    let other = Settings::new(vec![Class::new("one", [1])]).unwrap();
    for cases in [
        vec![],
        vec![case(&settings()), case(&settings())],
        vec![case(&other)],
    ] {
        let refused = Evaluation::new(settings(), cases);
        assert!(matches!(refused, Err(MetricsError::Cases { .. })));
    }
}

#[test]
fn medians_of_even_counts_lie_between_the_middle_two() {
    let scores = [1.0, 4.0, 2.0, 3.0].map(|dice| Scores {
        dice,
        ..Scores::UNDEFINED
    });
    assert_eq!(Scores::median(&scores).dice, 2.5);
    assert!(Scores::median(&scores).iou.is_nan());
    assert!(Scores::mean(&[]).dice.is_nan());
}
