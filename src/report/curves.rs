//! Training curves as SVG: loss and validation score against the step.

use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::palette::class_colour;
use crate::fsio::write_atomic;

const SIZE_PX: (u32, u32) = (800, 640);
/// A log may hold a million steps; no screen shows more points than this on a line.
const MOST_POINTS: usize = 800;
/// Points on either side that the smooth line averages over.
const SMOOTHING: usize = 12;
/// Figures beyond this are a run that has diverged, and no axis can show them with the others.
const LARGEST: f64 = 1e6;

/// What a log knows at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record {
    /// Optimiser steps done.
    pub step: u64,
    /// Training loss of the step.
    pub loss: Option<f64>,
    /// Mean foreground Dice on the validation cases, 0 to 1.
    pub validation_dice: Option<f64>,
    /// Share of the validation images whose class is found, 0 to 1.
    pub validation_accuracy: Option<f64>,
}

/// Why curves could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum CurvesError {
    /// Nothing to draw.
    #[error("training curves need at least one record with a finite loss or a validation score")]
    NoRecord,
    /// The drawing failed.
    #[error("training curves could not be drawn: {0}")]
    Draw(String),
    /// The file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Where to.
        path: String,
        /// What the file system says.
        source: io::Error,
    },
}

/// One line to draw, as (step, value).
type Points = Vec<(f64, f64)>;

/// Draws the loss above the validation Dice or accuracy; what no record holds is left out.
/// Values that are not finite, or beyond 1e6, are skipped.
///
/// # Errors
/// [`CurvesError::NoRecord`] where nothing is left to draw, [`CurvesError::Draw`] otherwise.
pub fn curves_svg(records: &[Record]) -> Result<String, CurvesError> {
    let loss = points(records, |r| r.loss);
    let dice = points(records, |r| r.validation_dice);
    let accuracy = points(records, |r| r.validation_accuracy);
    let charts: Vec<(&str, Points, Option<Range<f64>>)> = [
        ("training loss", loss, None),
        ("validation Dice", dice, Some(0.0..1.0)),
        ("validation accuracy", accuracy, Some(0.0..1.0)),
    ]
    .into_iter()
    .filter(|(_, points, _)| !points.is_empty())
    .collect();
    if charts.is_empty() {
        return Err(CurvesError::NoRecord);
    }
    let steps = padded(charts.iter().flat_map(|(_, points, _)| points).map(|p| p.0));
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE_PX).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let areas = root.split_evenly((charts.len(), 1));
        for (area, (title, points, range)) in areas.iter().zip(charts) {
            let range = range.unwrap_or_else(|| padded(points.iter().map(|p| p.1)));
            draw_chart(area, title, steps.clone(), range, points)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// [`curves_svg`] as a file, written whole or not at all.
///
/// # Errors
/// Those of [`curves_svg`], and [`CurvesError::Write`].
pub fn write_curves(path: &Path, records: &[Record]) -> Result<(), CurvesError> {
    let svg = curves_svg(records)?;
    write_atomic(path, |file| file.write_all(svg.as_bytes())).map_err(|source| CurvesError::Write {
        path: path.display().to_string(),
        source,
    })
}

pub(super) fn failed(error: impl std::fmt::Display) -> CurvesError {
    CurvesError::Draw(error.to_string())
}

fn points(records: &[Record], get: fn(&Record) -> Option<f64>) -> Points {
    let usable = |value: &f64| value.abs() <= LARGEST;
    let all: Points = records
        .iter()
        .filter_map(|r| Some((r.step as f64, get(r).filter(usable)?)))
        .collect();
    let bucket = all.len().div_ceil(MOST_POINTS).max(1);
    all.chunks(bucket).map(mean_point).collect()
}

fn mean_point(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let sum = points
        .iter()
        .fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
    (sum.0 / n, sum.1 / n)
}

/// Mean over the neighbours of each point.
fn smoothed(points: &[(f64, f64)]) -> Points {
    (0..points.len())
        .map(|i| {
            let from = i.saturating_sub(SMOOTHING);
            let to = (i + SMOOTHING + 1).min(points.len());
            (points[i].0, mean_point(&points[from..to]).1)
        })
        .collect()
}

/// Smallest to largest value with a margin, which also keeps an axis of one value from being empty.
fn padded(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    let margin = if high > low {
        0.05 * (high - low)
    } else {
        0.5f64.max(high.abs() * 0.05)
    };
    low - margin..high + margin
}

fn draw_chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    steps: Range<f64>,
    values: Range<f64>,
    points: Points,
) -> Result<(), CurvesError> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(steps, values)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .x_label_formatter(&|step| format!("{step:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failed)?;
    let [r, g, b] = class_colour(4);
    let ink = RGBColor(r, g, b);
    let smooth = smoothed(&points);
    let is_dense = points.len() > 4 * SMOOTHING;
    let (measured, line) = if is_dense {
        (points, smooth)
    } else {
        (Vec::new(), points)
    };
    chart
        .draw_series(LineSeries::new(measured, ink.mix(0.3).stroke_width(1)))
        .map_err(failed)?;
    chart
        .draw_series(LineSeries::new(line.clone(), ink.stroke_width(2)))
        .map_err(failed)?;
    if !is_dense {
        let dots = line.into_iter().map(|p| Circle::new(p, 3, ink.filled()));
        chart.draw_series(dots).map_err(failed)?;
    }
    Ok(())
}
