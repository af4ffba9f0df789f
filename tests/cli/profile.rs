//! `--profile` of `voxseg train` and `voxseg predict`.

use crate::harness::{Run, voxseg};
use crate::phantom::Phantom;
use crate::runs::{folder_with, train};

/// A row of the table: operator, nodes, dispatches, ms, GFLOP/s, GB/s, share in percent.
type Row = (String, [f64; 6]);

/// The rows of the table on stderr and that of their sum, as far as it goes.
fn table(stderr: &str) -> (Vec<Row>, Vec<f64>) {
    let lines = stderr.lines().skip_while(|l| !l.starts_with("operator "));
    let mut rows = Vec::new();
    for line in lines.skip(1).filter(|l| !l.starts_with('-')) {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a name").to_owned();
        let figures: Vec<f64> = words.filter_map(|w| w.parse().ok()).collect();
        if name == "all" {
            return (rows, figures);
        }
        let figures = figures.try_into();
        rows.push((name, figures.unwrap_or_else(|_| panic!("not six: {line}"))));
    }
    panic!("no table with a sum: {stderr}");
}

/// Asserts what any profile holds, and that `operators` are among its rows.
fn check(stderr: &str, operators: &[&str]) {
    let (rows, sum) = table(stderr);
    for operator in operators {
        let row = rows.iter().find(|(name, _)| name == operator);
        let (_, [nodes, dispatches, ms, _, rate, _]) =
            row.unwrap_or_else(|| panic!("no {operator} in {stderr}"));
        assert!(*nodes >= 1.0 && *dispatches >= 1.0, "{stderr}");
        assert!(*ms > 0.0 && *rate > 0.0, "{stderr}");
    }
    let times: Vec<f64> = rows.iter().map(|(_, figures)| figures[2]).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{stderr}");
    let column = |i: usize| rows.iter().map(|(_, figures)| figures[i]).sum::<f64>();
    let rounding = 0.0005 * (1.0 + rows.len() as f64);
    assert!((column(2) - sum[2]).abs() <= rounding, "{stderr}");
    assert!((column(5) - 100.0).abs() <= 100.0 * rounding, "{stderr}");
    assert_eq!([column(0), column(1)], [sum[0], sum[1]], "{stderr}");
}

/// Asserts that the document on stdout has the operators of the table.
fn check_document(run: &Run) {
    let (rows, _) = table(&run.stderr);
    let document = run.json();
    let operators = document["profile"]["operators"].as_array().expect("a list");
    let names: Vec<&str> = operators.iter().filter_map(|o| o["op"].as_str()).collect();
    let shown: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, shown);
}

#[test]
fn a_training_step_and_a_window_are_timed_by_operator() {
    let folder = folder_with(&Phantom::balls(2));
    // Shorter than the step that a longer run would time.
    let run = train(&folder, &["--config", "quick.toml", "--profile", "--json"]).succeeded();
    let step = ["conv.forward", "conv.weight_grad", "conv.input_grad"];
    check(&run.stderr, &step);
    check_document(&run);

    let predict = |arguments: &[&str]| {
        let mut command = voxseg();
        command.args(["predict", "run", "-i", "data/imagesTr/ball0_0000.nii"]);
        command.args(["-o", "out.nii"]).args(arguments);
        Run::of(command.current_dir(folder.root())).succeeded()
    };
    let run = predict(&["--profile", "--json"]);
    check(&run.stderr, &["conv.forward"]);
    let (rows, _) = table(&run.stderr);
    assert!(rows.iter().all(|(name, _)| name != "conv.weight_grad"));
    check_document(&run);
    assert!(folder.path("out.nii").is_file());
    let plain = predict(&["--json"]);
    assert!(plain.json().get("profile").is_none() && !plain.stderr.contains("operator"));
}
