//! Cases side by side: image, truth, prediction.

use std::io;
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ImageEncoder, RgbImage, imageops};

use super::font::{draw_text, fill, text_height, text_width};
use super::palette::{Colour, class_colour};
use super::panel::Slice;
use crate::fsio::write_atomic;
use crate::metrics::{Class, Grid, Label, MetricsError};

const PAPER: Colour = [255, 255, 255];
const INK: Colour = [40, 40, 40];
const GAP: u32 = 8;
const TEXT_SCALE: u32 = 2;
const COLUMNS: [&str; 3] = ["image", "truth", "prediction"];

/// What one row of the picture shows.
#[derive(Debug, Clone, Copy)]
pub struct PictureCase<'a, L> {
    /// Stands above the row.
    pub name: &'a str,
    /// One channel of the image, D·H·W.
    pub image: &'a [f32],
    /// Labels, D·H·W.
    pub truth: &'a [L],
    /// Labels, D·H·W; `None` leaves the third panel without an overlay and says so.
    pub prediction: Option<&'a [L]>,
    /// Shape and spacing of all three.
    pub grid: Grid,
    /// Mean foreground Dice, for the caption.
    pub dice: Option<f64>,
    /// Row 0 at the bottom, as is usual for NIfTI volumes, whose rows run from back to front;
    /// `false` for photographs and micrographs.
    pub rows_upwards: bool,
}

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Nothing to show.
    #[error("a picture of cases needs at least one case")]
    NoCase,
    /// An array that does not fit its grid.
    #[error("case '{case}': {source}")]
    Case {
        /// Name of the case.
        case: String,
        /// Which array, and what it holds.
        source: MetricsError,
    },
    /// The PNG could not be encoded.
    #[error("the picture could not be encoded as PNG: {0}")]
    Encode(#[from] image::ImageError),
    /// The file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Where to.
        path: String,
        /// What the file system says.
        source: io::Error,
    },
}

/// Draws one row per case: the slice with the most foreground in the truth, in grey, then with the
/// truth, then with the prediction drawn over it, in proportions of mm. Class number i has colour
/// number i of a palette for colour-blind readers, with a legend at the foot.
///
/// # Errors
/// [`PictureError::NoCase`], or [`PictureError::Case`] where an array does not fit its grid.
pub fn picture_of_cases<L: Label>(
    cases: &[PictureCase<'_, L>],
    classes: &[Class],
) -> Result<RgbImage, PictureError> {
    if cases.is_empty() {
        return Err(PictureError::NoCase);
    }
    let slices: Vec<Slice> = cases
        .iter()
        .map(|case| choose_slice(case, classes))
        .collect::<Result<_, _>>()?;
    let line = text_height(TEXT_SCALE) + GAP;
    let captions: Vec<String> = cases.iter().zip(&slices).map(caption).collect();
    let column = column_width(&slices);
    let legend = legend_width(classes);
    let texts = captions.iter().map(|c| text_width(c, TEXT_SCALE) + 2 * GAP);
    let width = texts.fold((3 * (column + GAP) + GAP).max(legend), u32::max);
    let rows: u32 = slices.iter().map(|slice| slice.size().1 + GAP + line).sum();
    let mut picture = RgbImage::from_pixel(width, GAP + line + rows + line, image::Rgb(PAPER));

    for (i, title) in COLUMNS.into_iter().enumerate() {
        let left = GAP + i as u32 * (column + GAP);
        draw_text(&mut picture, (left, GAP), title, TEXT_SCALE, INK);
    }
    let mut top = GAP + line;
    for ((case, slice), caption) in cases.iter().zip(&slices).zip(&captions) {
        draw_text(&mut picture, (GAP, top), caption, TEXT_SCALE, INK);
        top += line;
        for (i, panel) in panels(case, slice, classes).into_iter().enumerate() {
            let left = GAP + i as u32 * (column + GAP);
            imageops::replace(&mut picture, &panel, i64::from(left), i64::from(top));
        }
        top += slice.size().1 + GAP;
    }
    draw_legend(&mut picture, (GAP, top), classes);
    Ok(picture)
}

/// [`picture_of_cases`] as a PNG file, written whole or not at all.
///
/// # Errors
/// Those of [`picture_of_cases`], [`PictureError::Encode`] and [`PictureError::Write`].
pub fn write_picture<L: Label>(
    path: &Path,
    cases: &[PictureCase<'_, L>],
    classes: &[Class],
) -> Result<(), PictureError> {
    let picture = picture_of_cases(cases, classes)?;
    let mut png = Vec::new();
    let (width, height) = picture.dimensions();
    let kind = image::ExtendedColorType::Rgb8;
    PngEncoder::new(&mut png).write_image(&picture, width, height, kind)?;
    write_atomic(path, |file| file.write_all(&png)).map_err(|source| PictureError::Write {
        path: path.display().to_string(),
        source,
    })
}

/// The slice with the most foreground in the truth, else in the prediction, else the middle one.
fn choose_slice<L: Label>(
    case: &PictureCase<'_, L>,
    classes: &[Class],
) -> Result<Slice, PictureError> {
    let check = |what, len| {
        let checked = case.grid.check_len(what, len);
        checked.map_err(|source| PictureError::Case {
            case: case.name.to_string(),
            source,
        })
    };
    check("image", case.image.len())?;
    check("truth", case.truth.len())?;
    if let Some(prediction) = case.prediction {
        check("prediction", prediction.len())?;
    }
    let [depth, height, width] = case.grid.shape();
    let fullest = |labels: &[L]| {
        let is_foreground = |label: &&L| classes.iter().any(|c| c.contains((**label).into()));
        let slices = labels.chunks(height * width);
        let counts = slices.map(|slice| slice.iter().filter(is_foreground).count());
        // `max_by_key` takes the last of equals, so the reversal makes it the first.
        let fullest = counts.enumerate().collect::<Vec<_>>().into_iter().rev();
        let (d, count) = fullest.max_by_key(|(_, count)| *count)?;
        (count > 0).then_some(d)
    };
    let chosen = fullest(case.truth)
        .or_else(|| case.prediction.and_then(fullest))
        .unwrap_or(depth / 2);
    Ok(Slice::new(&case.grid, chosen, case.rows_upwards))
}

fn caption<L>((case, slice): (&PictureCase<'_, L>, &Slice)) -> String {
    let dice = match case.dice {
        Some(dice) if dice.is_finite() => format!("  Dice {dice:.3}"),
        _ => String::new(),
    };
    let place = match case.grid.shape()[0] {
        1 => String::new(),
        depth => format!("  slice {} of {depth}", slice.depth() + 1),
    };
    let failure = if case.prediction.is_none() {
        "  no prediction"
    } else {
        ""
    };
    format!("{}{dice}{place}{failure}", case.name)
}

/// Wide enough for every panel and every column title.
fn column_width(slices: &[Slice]) -> u32 {
    let titles = COLUMNS.iter().map(|title| text_width(title, TEXT_SCALE));
    let panels = slices.iter().map(|slice| slice.size().0);
    titles.chain(panels).fold(0, u32::max)
}

fn panels<L: Label>(case: &PictureCase<'_, L>, slice: &Slice, classes: &[Class]) -> [RgbImage; 3] {
    let grey = slice.grey(case.image);
    let (mut truth, mut prediction) = (grey.clone(), grey.clone());
    slice.overlay(&mut truth, case.truth, classes);
    if let Some(labels) = case.prediction {
        slice.overlay(&mut prediction, labels, classes);
    }
    [grey, truth, prediction]
}

/// A square of colour, then the name.
fn legend_entry_width(class: &Class) -> u32 {
    text_height(TEXT_SCALE) + GAP + text_width(class.name(), TEXT_SCALE) + GAP
}

fn legend_width(classes: &[Class]) -> u32 {
    GAP + classes.iter().map(legend_entry_width).sum::<u32>()
}

fn draw_legend(picture: &mut RgbImage, (mut x, y): (u32, u32), classes: &[Class]) {
    let square = text_height(TEXT_SCALE);
    for (i, class) in classes.iter().enumerate() {
        fill(picture, (x, y), (square, square), class_colour(i));
        let after = (x + square + GAP, y);
        draw_text(picture, after, class.name(), TEXT_SCALE, INK);
        x += legend_entry_width(class);
    }
}
