//! One slice as a square-pixel picture: grey image, and a segmentation drawn over it.

use image::imageops::{FilterType, flip_vertical, resize};
use image::{GrayImage, Luma, Rgb, RgbImage};

use super::palette::class_colour;
use crate::metrics::{Class, Grid, Label};

/// Longest side of a panel in pixels.
const LONGEST_PX: f64 = 288.0;
/// How much of the overlay's colour covers the grey inside a contour.
const OPACITY: f32 = 0.4;
/// Share of the grey values that are cut off at either end of the window.
const WINDOW_TAIL: f64 = 0.01;
/// The window is sought among this many pixels at most: a slide scan has 10⁹.
const MOST_SAMPLES: usize = 1 << 20;

/// Where a slice lies in its volume and how large it is on paper.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    depth: usize,
    height: usize,
    width: usize,
    /// Pixels of the panel: proportional to the slice in mm, whatever its voxels.
    size: (u32, u32),
    rows_upwards: bool,
}

impl Slice {
    /// Slice `depth` of a volume on `grid`; `rows_upwards` puts row 0 at the bottom.
    pub fn new(grid: &Grid, depth: usize, rows_upwards: bool) -> Self {
        let [_, height, width] = grid.shape();
        let [_, spacing_h, spacing_w] = grid.spacing();
        let (tall, wide) = (height as f64 * spacing_h, width as f64 * spacing_w);
        let pixels = |mm: f64| (mm / tall.max(wide) * LONGEST_PX).round().max(1.0) as u32;
        Self {
            depth,
            height,
            width,
            size: (pixels(wide), pixels(tall)),
            rows_upwards,
        }
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Width and height of the panel in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Index of the slice's voxels in the volume.
    fn voxels(&self) -> std::ops::Range<usize> {
        let plane = self.height * self.width;
        self.depth * plane..(self.depth + 1) * plane
    }

    /// The slice in grey, between the 1st and 99th percentile of its finite values.
    pub fn grey(&self, image: &[f32]) -> RgbImage {
        let values = &image[self.voxels()];
        let (low, high) = window(values);
        let shade = |x: u32, y: u32| {
            let value = values[y as usize * self.width + x as usize];
            let share = (value - low) / (high - low);
            // A value that is no number stays black, as does a slice of one value only.
            Luma([(share * 255.0).round().clamp(0.0, 255.0) as u8])
        };
        let native = GrayImage::from_fn(self.width as u32, self.height as u32, shade);
        let (width, height) = self.size;
        let scaled = resize(&native, width, height, FilterType::Triangle);
        let upright = if self.rows_upwards {
            flip_vertical(&scaled)
        } else {
            scaled
        };
        RgbImage::from_fn(width, height, |x, y| Rgb([upright.get_pixel(x, y)[0]; 3]))
    }

    /// Draws every class of `labels` over `panel`: a solid contour, closed at the border of
    /// the image, and a translucent inside. Where regions overlap, the later class lies on top.
    pub fn overlay<L: Label>(&self, panel: &mut RgbImage, labels: &[L], classes: &[Class]) {
        let labels = &labels[self.voxels()];
        let (width, height) = self.size;
        let class_at = |x: u32, y: u32| -> Option<usize> {
            let row = if self.rows_upwards { height - 1 - y } else { y };
            let source = |at: u32, pixels: u32, voxels: usize| {
                ((f64::from(at) + 0.5) / f64::from(pixels) * voxels as f64) as usize
            };
            let h = source(row, height, self.height);
            let w = source(x, width, self.width);
            let label = labels[h * self.width + w].into();
            classes.iter().rposition(|class| class.contains(label))
        };
        for (x, y, pixel) in panel.enumerate_pixels_mut() {
            let Some(class) = class_at(x, y) else {
                continue;
            };
            let neighbours = [
                (x > 0).then(|| (x - 1, y)),
                (y > 0).then(|| (x, y - 1)),
                (x + 1 < width).then(|| (x + 1, y)),
                (y + 1 < height).then(|| (x, y + 1)),
            ];
            let is_contour = neighbours
                .into_iter()
                .any(|at| at.and_then(|(x, y)| class_at(x, y)) != Some(class));
            let opacity = if is_contour { 1.0 } else { OPACITY };
            for (channel, ink) in pixel.0.iter_mut().zip(class_colour(class)) {
                let mixed = f32::from(*channel) * (1.0 - opacity) + f32::from(ink) * opacity;
                *channel = mixed.round() as u8;
            }
        }
    }
}

/// Grey values that become black and white.
fn window(values: &[f32]) -> (f32, f32) {
    let sampled = values.iter().step_by(values.len().div_ceil(MOST_SAMPLES));
    let mut finite: Vec<f32> = sampled.copied().filter(|v| v.is_finite()).collect();
    if finite.is_empty() {
        return (0.0, 1.0);
    }
    finite.sort_unstable_by(f32::total_cmp);
    let last = (finite.len() - 1) as f64;
    let at = |share: f64| finite[(last * share).round() as usize];
    (at(WINDOW_TAIL), at(1.0 - WINDOW_TAIL))
}
