//! The figures of one case: every class of a prediction against its truth.

use super::overlap::LabelPairs;
use super::{Convention, Counts, Grid, MetricsError, Scores, SurfaceDistances};

/// Element of a label array: u8, u16 or u32.
pub trait Label: Copy + Into<u32> + Send + Sync {}

impl<L: Copy + Into<u32> + Send + Sync> Label for L {}

/// A foreground class, or a region: one or more labels that are joined before anything is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    name: String,
    labels: Vec<u32>,
}

impl Class {
    /// A class of one label, or a region of several.
    pub fn new(name: impl Into<String>, labels: impl Into<Vec<u32>>) -> Self {
        Self {
            name: name.into(),
            labels: labels.into(),
        }
    }

    /// As it is written in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a voxel with this label belongs to the class.
    pub fn contains(&self, label: u32) -> bool {
        self.labels.contains(&label)
    }
}

/// What is measured, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    classes: Vec<Class>,
    ignore: Option<u32>,
    nsd_tolerance_mm: f64,
    unit: Unit,
}

/// What distances are measured in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// Millimetres, by the spacing of the files.
    #[default]
    Millimetres,
    /// Pixels: pictures have no spacing, each pixel counts as 1.
    Pixels,
}

impl Unit {
    /// The unit's sign: `mm` or `pixels`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Millimetres => "mm",
            Self::Pixels => "pixels",
        }
    }
}

impl Settings {
    /// Tolerance of the NSD in mm unless [`Settings::with_nsd_tolerance`] says otherwise: between
    /// one and two voxels of usual CT and MR images, and in the range of differences between
    /// experts. Figures of different tolerances cannot be compared.
    pub const NSD_TOLERANCE_MM: f64 = 2.0;

    /// The foreground classes and regions to measure; the background is not among them.
    ///
    /// # Errors
    /// [`MetricsError::Classes`] where there is none, one has no label, one holds the background
    /// label 0, or two have the same name.
    pub fn new(classes: Vec<Class>) -> Result<Self, MetricsError> {
        let refuse = |found: String| Err(MetricsError::Classes { found });
        if classes.is_empty() {
            return refuse("no class at all".into());
        }
        for (i, class) in classes.iter().enumerate() {
            if class.labels.is_empty() {
                return refuse(format!("no label in class '{}'", class.name));
            }
            if class.contains(0) {
                return refuse(format!("the background label 0 in class '{}'", class.name));
            }
            if classes[..i].iter().any(|other| other.name == class.name) {
                return refuse(format!("two classes called '{}'", class.name));
            }
        }
        Ok(Self {
            classes,
            ignore: None,
            nsd_tolerance_mm: Self::NSD_TOLERANCE_MM,
            unit: Unit::default(),
        })
    }

    /// Names distances and the tolerance after another unit; no figure changes.
    pub fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// What distances are measured in.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Leaves out the voxels whose truth has this label: they are in neither mask.
    pub fn with_ignore(mut self, label: Option<u32>) -> Self {
        self.ignore = label;
        self
    }

    /// Another tolerance of the NSD in mm.
    ///
    /// # Errors
    /// [`MetricsError::Tolerance`] where it is negative or no number.
    pub fn with_nsd_tolerance(mut self, mm: f64) -> Result<Self, MetricsError> {
        if !mm.is_finite() || mm < 0.0 {
            return Err(MetricsError::Tolerance { found: mm });
        }
        self.nsd_tolerance_mm = mm;
        Ok(self)
    }

    /// The classes in the order of the results.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Tolerance of the NSD in mm.
    pub fn nsd_tolerance_mm(&self) -> f64 {
        self.nsd_tolerance_mm
    }
}

/// Why a case and class has the figures that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Prediction and truth both hold the class: all figures are measured.
    Measured,
    /// Neither holds it: nothing to find, and nothing was found.
    BothEmpty,
    /// Only the truth holds it.
    PredictionEmpty,
    /// Only the prediction holds it.
    TruthEmpty,
    /// There is no prediction of this case.
    Missing,
}

impl Outcome {
    /// The word for it in CSV and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::BothEmpty => "both_empty",
            Self::PredictionEmpty => "prediction_empty",
            Self::TruthEmpty => "truth_empty",
            Self::Missing => "missing",
        }
    }
}

/// One class of one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassResult {
    counts: Counts,
    outcome: Outcome,
    /// Only where the outcome is `Measured`: HD95 in mm and NSD.
    surface: Option<(f64, f64)>,
}

impl ClassResult {
    /// Voxels; those of a missing prediction are counted as an empty one.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Which of the conventions' special cases this is.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

/// One case: a result per class, in the order of [`Settings::classes`].
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    name: String,
    diagonal_mm: f64,
    classes: Vec<ClassResult>,
}

impl CaseResult {
    /// Name of the case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there was no prediction.
    pub fn is_missing(&self) -> bool {
        self.classes.iter().any(|c| c.outcome == Outcome::Missing)
    }

    /// A result per class.
    pub fn classes(&self) -> &[ClassResult] {
        &self.classes
    }

    /// The four figures of a class under a convention; NaN where it leaves the figure out.
    pub fn scores(&self, class: &ClassResult, convention: Convention) -> Scores {
        let worst = Scores {
            dice: 0.0,
            iou: 0.0,
            hd95: self.diagonal_mm,
            nsd: 0.0,
        };
        let best = Scores {
            dice: 1.0,
            iou: 1.0,
            hd95: 0.0,
            nsd: 1.0,
        };
        match (class.outcome, class.surface, convention) {
            (Outcome::Measured, Some((hd95, nsd)), _) => Scores {
                dice: class.counts.dice(),
                iou: class.counts.iou(),
                hd95,
                nsd,
            },
            (Outcome::BothEmpty, _, Convention::FailureCounts) => best,
            (_, _, Convention::FailureCounts) => worst,
            (Outcome::BothEmpty | Outcome::Missing, _, Convention::NnUnet) => Scores::UNDEFINED,
            (_, _, Convention::NnUnet) => Scores {
                hd95: f64::NAN,
                ..worst
            },
        }
    }

    /// Mean of the four figures over the classes.
    pub fn mean(&self, convention: Convention) -> Scores {
        let scores = self.classes.iter().map(|c| self.scores(c, convention));
        Scores::mean(&scores.collect::<Vec<_>>())
    }
}

/// Measures a prediction against its truth: D·H·W labels each, on the same `grid`.
///
/// # Errors
/// [`MetricsError::Length`] where an array does not fit the grid.
pub fn evaluate_case<P: Label, T: Label>(
    name: &str,
    prediction: &[P],
    truth: &[T],
    grid: &Grid,
    settings: &Settings,
) -> Result<CaseResult, MetricsError> {
    let ignore = settings.ignore;
    let table = LabelPairs::tabulate(prediction, truth, grid, ignore)?;
    let measure = |class: &Class| -> Result<ClassResult, MetricsError> {
        let counts = table.counts(class);
        let outcome = match (counts.n_pred(), counts.n_ref()) {
            (0, 0) => Outcome::BothEmpty,
            (0, _) => Outcome::PredictionEmpty,
            (_, 0) => Outcome::TruthEmpty,
            _ => Outcome::Measured,
        };
        let surface = match table.bounds(class) {
            Some(bounds) if outcome == Outcome::Measured => {
                SurfaceDistances::of_class((prediction, truth), grid, class, ignore, bounds)?
            }
            _ => None,
        };
        Ok(ClassResult {
            counts,
            outcome,
            surface: surface.map(|s| (s.hd95_mm(), s.nsd(settings.nsd_tolerance_mm))),
        })
    };
    Ok(CaseResult {
        name: name.into(),
        diagonal_mm: grid.diagonal_mm(),
        classes: settings
            .classes
            .iter()
            .map(measure)
            .collect::<Result<_, _>>()?,
    })
}

/// The result of a case that has a truth and no prediction.
///
/// # Errors
/// [`MetricsError::Length`] where `truth` does not hold D·H·W labels.
pub fn missing_case<T: Label>(
    name: &str,
    truth: &[T],
    grid: &Grid,
    settings: &Settings,
) -> Result<CaseResult, MetricsError> {
    let table = LabelPairs::tabulate(truth, truth, grid, settings.ignore)?;
    let missed = |class: &Class| {
        let Counts { tp, tn, .. } = table.counts(class);
        ClassResult {
            counts: Counts {
                r#fn: tp,
                tn,
                ..Counts::default()
            },
            outcome: Outcome::Missing,
            surface: None,
        }
    };
    Ok(CaseResult {
        name: name.into(),
        diagonal_mm: grid.diagonal_mm(),
        classes: settings.classes.iter().map(missed).collect(),
    })
}
