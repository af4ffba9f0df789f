//! Voxel counts: true and false positives and negatives, Dice and IoU.

use std::collections::BTreeMap;
use std::ops::{Add, AddAssign};

use rayon::prelude::*;

use super::grid::Bounds;
use super::{Class, Grid, Label, MetricsError};

/// Confusion counts of one class in voxels; sums over cases with `+`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In prediction and truth.
    pub tp: u64,
    /// In the prediction only.
    pub fp: u64,
    /// In the truth only.
    pub r#fn: u64,
    /// In neither.
    pub tn: u64,
}

impl Counts {
    /// Voxels of the class in the prediction.
    pub fn n_pred(&self) -> u64 {
        self.tp + self.fp
    }

    /// Voxels of the class in the truth (the reference).
    pub fn n_ref(&self) -> u64 {
        self.tp + self.r#fn
    }

    /// Dice 2·TP / (2·TP + FP + FN); NaN where prediction and truth are both empty.
    pub fn dice(&self) -> f64 {
        2.0 * self.tp as f64 / (2 * self.tp + self.fp + self.r#fn) as f64
    }

    /// IoU (Jaccard) TP / (TP + FP + FN); NaN where prediction and truth are both empty.
    pub fn iou(&self) -> f64 {
        self.tp as f64 / (self.tp + self.fp + self.r#fn) as f64
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tp: self.tp + other.tp,
            fp: self.fp + other.fp,
            r#fn: self.r#fn + other.r#fn,
            tn: self.tn + other.tn,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// How often each (predicted, true) pair of labels occurs, and where each label lies: one pass over
/// the voxels from which the counts and boxes of any number of classes and regions follow.
#[derive(Debug, Default)]
pub(crate) struct LabelPairs {
    pairs: BTreeMap<(u32, u32), u64>,
    boxes: BTreeMap<u32, Bounds>,
}

impl LabelPairs {
    /// Tabulates two label arrays of `grid`'s shape. Voxels whose truth is `ignore` do not count.
    pub fn tabulate<P: Label, T: Label>(
        prediction: &[P],
        truth: &[T],
        grid: &Grid,
        ignore: Option<u32>,
    ) -> Result<Self, MetricsError> {
        grid.check_len("prediction", prediction.len())?;
        grid.check_len("truth", truth.len())?;
        let [_, height, width] = grid.shape();
        let table = prediction
            .par_chunks(width)
            .zip(truth.par_chunks(width))
            .enumerate()
            .fold(Self::default, |mut table, (row, (prediction, truth))| {
                table.add_row([row / height, row % height], prediction, truth, ignore);
                table
            })
            .reduce(Self::default, Self::merge);
        Ok(table)
    }

    /// Labels come in runs, so a map is looked up once per run and not once per voxel.
    fn add_row<P: Label, T: Label>(
        &mut self,
        [d, h]: [usize; 2],
        prediction: &[P],
        truth: &[T],
        ignore: Option<u32>,
    ) {
        let pair_at = |w: usize| (prediction[w].into(), truth[w].into());
        let mut start = 0;
        while start < truth.len() {
            let pair = pair_at(start);
            let end = (start + 1..truth.len())
                .find(|&w| pair_at(w) != pair)
                .unwrap_or(truth.len());
            if ignore != Some(pair.1) {
                *self.pairs.entry(pair).or_default() += (end - start) as u64;
                let run = Bounds {
                    lo: [d, h, start],
                    hi: [d + 1, h + 1, end],
                };
                self.grow(pair.0, run);
                self.grow(pair.1, run);
            }
            start = end;
        }
    }

    fn grow(&mut self, label: u32, by: Bounds) {
        self.boxes
            .entry(label)
            .and_modify(|b| *b = b.union(by))
            .or_insert(by);
    }

    fn merge(mut self, other: Self) -> Self {
        for (pair, n) in other.pairs {
            *self.pairs.entry(pair).or_default() += n;
        }
        for (label, bounds) in other.boxes {
            self.grow(label, bounds);
        }
        self
    }

    /// Counts of one class or region.
    pub fn counts(&self, class: &Class) -> Counts {
        let mut counts = Counts::default();
        for (&(prediction, truth), &n) in &self.pairs {
            let cell = match (class.contains(prediction), class.contains(truth)) {
                (true, true) => &mut counts.tp,
                (true, false) => &mut counts.fp,
                (false, true) => &mut counts.r#fn,
                (false, false) => &mut counts.tn,
            };
            *cell += n;
        }
        counts
    }

    /// The box around the class in prediction and truth together; `None` where it is in neither.
    pub fn bounds(&self, class: &Class) -> Option<Bounds> {
        self.boxes
            .iter()
            .filter(|(label, _)| class.contains(**label))
            .map(|(_, bounds)| *bounds)
            .reduce(Bounds::union)
    }
}

/// Confusion counts of every class, without the surface distances: cheap enough to follow the
/// validation Dice while training.
///
/// `prediction` and `truth` hold D·H·W labels of `grid`; voxels whose truth is `ignore` do not count.
///
/// # Errors
/// [`MetricsError::Length`] where an array does not fit the grid.
pub fn class_counts<P: Label, T: Label>(
    prediction: &[P],
    truth: &[T],
    grid: &Grid,
    classes: &[Class],
    ignore: Option<u32>,
) -> Result<Vec<Counts>, MetricsError> {
    let table = LabelPairs::tabulate(prediction, truth, grid, ignore)?;
    Ok(classes.iter().map(|class| table.counts(class)).collect())
}
