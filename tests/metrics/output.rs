use serde_json::Value;
use voxseg::metrics::{Class, Evaluation, Settings, evaluate_case, missing_case};

use crate::shapes::grid;

fn evaluation() -> Evaluation {
    let classes = vec![
        Class::new("organ", [1]),
        Class::new("lesion, \"rare\"", [2]),
    ];
    let settings = Settings::new(classes).unwrap();
    let grid = grid([1, 1, 4], [1.0; 3]);
    let cases = vec![
        evaluate_case("a", &[0u8, 1, 1, 0], &[0u8, 1, 0, 0], &grid, &settings).unwrap(),
        missing_case("b", &[0u8, 1, 1, 0], &grid, &settings).unwrap(),
    ];
    Evaluation::new(settings, cases).unwrap()
}

/// What was written is parsed again, so a NaN or an infinity would fail here.
fn parsed() -> Value {
    serde_json::from_str(&serde_json::to_string_pretty(&evaluation().to_json()).unwrap()).unwrap()
}

#[test]
fn json_holds_the_mean_with_classes_and_cases_below() {
    let json = parsed();
    let keys: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys[0], "mean");
    for figure in ["dice", "iou", "hd95", "nsd"] {
        assert!(json["mean"][figure].is_f64(), "{figure}");
    }
    // organ 2/3 and 0; lesion 1 (in neither) and 0 (missing).
    let mean = json["mean"]["dice"].as_f64().unwrap();
    assert!((mean - (1.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
    let nnunet = json["mean_nnunet"]["dice"].as_f64().unwrap();
    assert!((nnunet - 2.0 / 3.0).abs() < 1e-12);
    let organ = json["classes"]["organ"]["mean"]["dice"].as_f64().unwrap();
    assert!((organ - 1.0 / 3.0).abs() < 1e-12);
    let a = &json["cases"]["a"]["classes"]["organ"];
    assert_eq!(
        (&a["tp"], &a["fp"], &a["fn"], &a["tn"]),
        (&1.into(), &1.into(), &0.into(), &2.into())
    );
    assert_eq!((&a["n_pred"], &a["n_ref"]), (&2.into(), &1.into()));
    assert_eq!(a["outcome"], "measured");
    assert_eq!(json["cases"]["b"]["missing"], true);
}

#[test]
fn json_writes_null_for_what_is_left_out() {
    let json = parsed();
    let lesion = &json["classes"]["lesion, \"rare\""];
    assert_eq!(lesion["mean"]["dice"], 0.5);
    assert_eq!(lesion["mean_nnunet"]["dice"], Value::Null);
}

#[test]
fn csv_has_a_line_for_each_case_and_class() {
    let csv = evaluation().to_csv();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 2 * 2);
    assert!(lines[0].starts_with("case,class,outcome,dice,iou,hd95_mm,nsd,tp,fp,fn,tn,"));
    assert!(lines[1].starts_with("a,organ,measured,0.666"));
    assert!(lines[2].starts_with("a,\"lesion, \"\"rare\"\"\",both_empty,1,1,0,1,"));
    assert_eq!(lines[3], "b,organ,missing,0,0,3,0,0,0,2,2,0,2");
}

#[test]
fn text_shows_both_conventions_and_the_failures() {
    let text = evaluation().to_text();
    for expected in [
        "0.6667",
        "no prediction",
        "mean, nnU-Net",
        "1 without a prediction",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(!text.contains("NaN"));
}
