//! Means and medians over cases and classes, under both conventions.

use std::collections::BTreeSet;

use super::{CaseResult, MetricsError, Settings};

/// What happens to a case and class where a figure is not simply measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// Every case and class counts. A missing prediction, and a class that only one side holds, are
    /// failures: Dice, IoU and NSD 0, HD95 the image diagonal. A class that neither side holds is a
    /// success: Dice, IoU and NSD 1, HD95 0.
    FailureCounts,
    /// As nnU-Net averages: missing predictions, and classes that neither side holds, are left out.
    /// A class that only one side holds has Dice, IoU and NSD 0, and its HD95 is left out.
    NnUnet,
}

/// The four figures; NaN where a figure is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Dice, 0 to 1.
    pub dice: f64,
    /// Intersection over union, 0 to 1.
    pub iou: f64,
    /// 95th percentile of the Hausdorff distance in mm.
    pub hd95: f64,
    /// Normalised surface Dice, 0 to 1.
    pub nsd: f64,
}

impl Scores {
    /// All figures left out.
    pub const UNDEFINED: Self = Self {
        dice: f64::NAN,
        iou: f64::NAN,
        hd95: f64::NAN,
        nsd: f64::NAN,
    };

    /// Mean of each figure over those that are not left out; NaN where none remains.
    pub fn mean(scores: &[Self]) -> Self {
        Self::reduce(scores, |values| {
            values.iter().sum::<f64>() / values.len() as f64
        })
    }

    /// Median of each figure over those that are not left out; NaN where none remains.
    pub fn median(scores: &[Self]) -> Self {
        Self::reduce(scores, |values| {
            values.sort_unstable_by(f64::total_cmp);
            let n = values.len();
            (values[(n - 1) / 2] + values[n / 2]) / 2.0
        })
    }

    /// `of` sees the defined values of one figure, at least one of them.
    fn reduce(scores: &[Self], of: impl Fn(&mut [f64]) -> f64) -> Self {
        let figure = |get: fn(&Self) -> f64| {
            let mut values: Vec<f64> = scores.iter().map(get).filter(|v| !v.is_nan()).collect();
            if values.is_empty() {
                f64::NAN
            } else {
                of(&mut values)
            }
        };
        Self {
            dice: figure(|s| s.dice),
            iou: figure(|s| s.iou),
            hd95: figure(|s| s.hd95),
            nsd: figure(|s| s.nsd),
        }
    }
}

/// All cases of an evaluation with what was asked of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    settings: Settings,
    cases: Vec<CaseResult>,
}

impl Evaluation {
    /// Joins cases that were measured with the same `settings`.
    ///
    /// # Errors
    /// [`MetricsError::Cases`] where there is no case, two have the same name, or one was measured
    /// with another number of classes.
    pub fn new(settings: Settings, cases: Vec<CaseResult>) -> Result<Self, MetricsError> {
        let refuse = |found: String| Err(MetricsError::Cases { found });
        if cases.is_empty() {
            return refuse("no case at all".into());
        }
        let mut names = BTreeSet::new();
        for case in &cases {
            if !names.insert(case.name()) {
                return refuse(format!("two cases called '{}'", case.name()));
            }
            if case.classes().len() != settings.classes().len() {
                return refuse(format!(
                    "{} classes in case '{}' and {} in the settings",
                    case.classes().len(),
                    case.name(),
                    settings.classes().len()
                ));
            }
        }
        Ok(Self { settings, cases })
    }

    /// What was measured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The cases in the order given.
    pub fn cases(&self) -> &[CaseResult] {
        &self.cases
    }

    /// Mean over the cases of class number `class` (of [`Settings::classes`]); NaN where no case
    /// counts or there is no such class.
    pub fn class_mean(&self, class: usize, convention: Convention) -> Scores {
        Scores::mean(&self.of_class(class, convention))
    }

    /// Median over the cases of class number `class`; NaN as for [`Evaluation::class_mean`].
    pub fn class_median(&self, class: usize, convention: Convention) -> Scores {
        Scores::median(&self.of_class(class, convention))
    }

    /// Mean over the foreground classes of their means over the cases.
    pub fn mean(&self, convention: Convention) -> Scores {
        let classes = 0..self.settings.classes().len();
        let means = classes.map(|class| self.class_mean(class, convention));
        Scores::mean(&means.collect::<Vec<_>>())
    }

    /// Median over the cases of their means over the foreground classes.
    pub fn median(&self, convention: Convention) -> Scores {
        let means = self.cases.iter().map(|case| case.mean(convention));
        Scores::median(&means.collect::<Vec<_>>())
    }

    fn of_class(&self, class: usize, convention: Convention) -> Vec<Scores> {
        let scores_of = |case: &CaseResult| {
            let result = case.classes().get(class)?;
            Some(case.scores(result, convention))
        };
        self.cases.iter().filter_map(scores_of).collect()
    }
}
