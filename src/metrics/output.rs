//! An evaluation as JSON, CSV and text.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{CaseResult, Convention, Evaluation, Outcome, Scores};
use crate::table::{Align, Table};
use crate::words::counted;

impl Evaluation {
    /// The whole evaluation as a JSON object.
    ///
    /// `mean`, `median` and `mean_nnunet` hold `dice`, `iou`, `hd95` (in `unit`, mm or pixels) and `nsd` over the
    /// foreground classes; `classes` holds the same three by class name; `cases` holds by case name
    /// `missing`, `mean` and, under `classes`, the four figures with `outcome`, `tp`, `fp`, `fn`,
    /// `tn`, `n_pred` and `n_ref`. Means, medians and the figures of cases follow
    /// [`Convention::FailureCounts`], `mean_nnunet` follows [`Convention::NnUnet`]. A figure that is
    /// left out is `null`.
    pub fn to_json(&self) -> Value {
        let names = self.settings().classes().iter().map(|class| class.name());
        let classes: Map<String, Value> = names
            .enumerate()
            .map(|(i, name)| {
                let means = json!({
                    "mean": scores_json(self.class_mean(i, Convention::FailureCounts)),
                    "median": scores_json(self.class_median(i, Convention::FailureCounts)),
                    "mean_nnunet": scores_json(self.class_mean(i, Convention::NnUnet)),
                });
                (name.to_string(), means)
            })
            .collect();
        let cases: Map<String, Value> = self
            .cases()
            .iter()
            .map(|case| (case.name().to_string(), self.case_json(case)))
            .collect();
        let tolerance = format!("nsd_tolerance_{}", self.settings().unit().sign());
        json!({
            "mean": scores_json(self.mean(Convention::FailureCounts)),
            "median": scores_json(self.median(Convention::FailureCounts)),
            "mean_nnunet": scores_json(self.mean(Convention::NnUnet)),
            "unit": self.settings().unit().sign(),
            tolerance: self.settings().nsd_tolerance_mm(),
            "classes": classes,
            "cases": cases,
        })
    }

    fn case_json(&self, case: &CaseResult) -> Value {
        let names = self.settings().classes().iter().map(|class| class.name());
        let classes: Map<String, Value> = names
            .zip(case.classes())
            .map(|(name, result)| {
                let counts = result.counts();
                let mut object = scores_json(case.scores(result, Convention::FailureCounts));
                object["outcome"] = json!(result.outcome().as_str());
                object["tp"] = json!(counts.tp);
                object["fp"] = json!(counts.fp);
                object["fn"] = json!(counts.r#fn);
                object["tn"] = json!(counts.tn);
                object["n_pred"] = json!(counts.n_pred());
                object["n_ref"] = json!(counts.n_ref());
                (name.to_string(), object)
            })
            .collect();
        json!({
            "missing": case.is_missing(),
            "mean": scores_json(case.mean(Convention::FailureCounts)),
            "classes": classes,
        })
    }

    /// One line per case and class (RFC 4180), after a header line: `case`, `class`, `outcome`,
    /// the four figures under [`Convention::FailureCounts`], and the voxel counts. `outcome` tells
    /// measured figures from those that the convention sets.
    pub fn to_csv(&self) -> String {
        let unit = self.settings().unit().sign();
        let mut text =
            format!("case,class,outcome,dice,iou,hd95_{unit},nsd,tp,fp,fn,tn,n_pred,n_ref\n");
        for case in self.cases() {
            for (class, result) in self.settings().classes().iter().zip(case.classes()) {
                let s = case.scores(result, Convention::FailureCounts);
                let c = result.counts();
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "{},{},{},{},{},{},{},{},{},{},{},{},{}",
                    csv_cell(case.name()),
                    csv_cell(class.name()),
                    result.outcome().as_str(),
                    s.dice,
                    s.iou,
                    s.hd95,
                    s.nsd,
                    c.tp,
                    c.fp,
                    c.r#fn,
                    c.tn,
                    c.n_pred(),
                    c.n_ref()
                );
            }
        }
        text
    }

    /// Tables for the terminal: every case and class, then every class with mean and median, then
    /// both conventions, and how many failures there were.
    pub fn to_text(&self) -> String {
        format!(
            "{}\n{}\n{}",
            self.case_table(),
            self.class_table(),
            self.footnote()
        )
    }

    fn case_table(&self) -> Table {
        let distance = format!("HD95 {}", self.settings().unit().sign());
        let mut table = Table::new(&[
            ("case", Align::Left),
            ("class", Align::Left),
            ("Dice", Align::Right),
            ("IoU", Align::Right),
            (&distance, Align::Right),
            ("NSD", Align::Right),
            ("", Align::Left),
        ]);
        for case in self.cases() {
            for (class, result) in self.settings().classes().iter().zip(case.classes()) {
                let mut cells = vec![case.name().to_string(), class.name().to_string()];
                cells.extend(cells_of(case.scores(result, Convention::FailureCounts)));
                cells.push(remark(result.outcome()).to_string());
                table.row(cells);
            }
        }
        table
    }

    fn class_table(&self) -> Table {
        let distance = format!("HD95 {}", self.settings().unit().sign());
        let mut table = Table::new(&[
            ("over cases", Align::Left),
            ("", Align::Left),
            ("Dice", Align::Right),
            ("IoU", Align::Right),
            (&distance, Align::Right),
            ("NSD", Align::Right),
        ]);
        let [strict, nnunet] = [Convention::FailureCounts, Convention::NnUnet];
        for (i, class) in self.settings().classes().iter().enumerate() {
            summary_rows(
                &mut table,
                class.name(),
                [
                    self.class_mean(i, strict),
                    self.class_median(i, strict),
                    self.class_mean(i, nnunet),
                ],
            );
        }
        table.rule();
        summary_rows(
            &mut table,
            "all classes",
            [self.mean(strict), self.median(strict), self.mean(nnunet)],
        );
        table
    }

    fn footnote(&self) -> String {
        let outcomes = self.cases().iter().flat_map(CaseResult::classes);
        let empty = outcomes
            .filter(|c| c.outcome() == Outcome::PredictionEmpty)
            .count();
        let missing = self.cases().iter().filter(|c| c.is_missing()).count();
        format!(
            "{}, {missing} without a prediction, {empty} times a class was not found at all. NSD at {} {}.\n\
             mean and median count a missing or empty prediction as failure (Dice 0, HD95 the image diagonal)\n\
             and a class absent from both sides as success; nnU-Net's convention leaves out missing predictions,\n\
             classes absent from both sides, and distances to an empty mask.\n",
            counted(self.cases().len(), "case"),
            self.settings().nsd_tolerance_mm(),
            self.settings().unit().sign()
        )
    }
}

/// JSON knows no NaN: serde_json writes non-finite numbers as `null`.
fn scores_json(scores: Scores) -> Value {
    json!({
        "dice": scores.dice,
        "iou": scores.iou,
        "hd95": scores.hd95,
        "nsd": scores.nsd,
    })
}

fn summary_rows(table: &mut Table, name: &str, scores: [Scores; 3]) {
    let names = [name, "", ""];
    let statistics = ["mean", "median", "mean, nnU-Net"];
    for ((name, statistic), scores) in names.into_iter().zip(statistics).zip(scores) {
        let words = [name.to_string(), statistic.to_string()];
        table.row(words.into_iter().chain(cells_of(scores)));
    }
}

fn cells_of(scores: Scores) -> [String; 4] {
    let cell = |value: f64, digits: usize| match value {
        v if v.is_nan() => "-".to_string(),
        v => format!("{v:.digits$}"),
    };
    [
        cell(scores.dice, 4),
        cell(scores.iou, 4),
        cell(scores.hd95, 2),
        cell(scores.nsd, 4),
    ]
}

fn remark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Measured => "",
        Outcome::BothEmpty => "in neither",
        Outcome::PredictionEmpty => "not found",
        Outcome::TruthEmpty => "not in the truth",
        Outcome::Missing => "no prediction",
    }
}

fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
