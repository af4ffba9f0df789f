//! From a body to voxels: partial volume, bias field, noise, and a place in the scanner.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::anatomy::{Anatomy, FIELD_OF_VIEW_MM, Tissue};
use super::smooth::{SmoothField, Vector, normal};
use super::solid::Rotation;
use crate::volume::{Affine, Geometry};

/// Points per voxel and axis lie at most this far apart, and there are at most four.
const FINEST_STEP_MM: f64 = 0.8;
const MOST_STEPS: usize = 4;
/// How much the spacing varies from scan to scan, and how far the scan is turned, in radians.
const SPACING_SPREAD: f64 = 0.06;
const OBLIQUITY: f64 = 0.15;
/// Standard deviation of the noise in each of the two channels of the receiver.
const NOISE: f64 = 9.0;
/// Standard deviations, relative to the signal, of the bias field and of the tissue's own texture.
const BIAS: f64 = 0.12;
const TEXTURE: f64 = 0.06;

/// One scan with its truth.
pub(super) struct Scan {
    pub geometry: Geometry,
    /// Intensities, D, H, W, whole numbers as a scanner stores them.
    pub voxels: Vec<f32>,
    /// Classes, D, H, W.
    pub labels: Vec<u32>,
}

/// Draws a body and scans it. `shape` and `spacing` (D, H, W) are those of the typical scan: this
/// one covers the same field of view with a spacing of its own.
pub(super) fn random_scan(rng: &mut ChaCha8Rng, shape: [usize; 3], spacing: [f64; 3]) -> Scan {
    let field_of_view: Vector = std::array::from_fn(|axis| shape[axis] as f64 * spacing[axis]);
    let smallest = field_of_view.into_iter().fold(f64::INFINITY, f64::min);
    let anatomy = Anatomy::random(rng, smallest / FIELD_OF_VIEW_MM);
    let geometry = random_geometry(rng, field_of_view, spacing);
    let receiver = Receiver::random(rng, smallest);
    let mut scan = Scan {
        voxels: Vec::with_capacity(geometry.voxels()),
        labels: Vec::with_capacity(geometry.voxels()),
        geometry,
    };
    for offset in 0..scan.geometry.voxels() {
        let voxel = Voxel::at(&scan.geometry, offset);
        let mixture = voxel.mixture(&anatomy);
        scan.labels.push(majority(&mixture));
        scan.voxels
            .push(receiver.measure(rng, &mixture, voxel.centre));
    }
    scan
}

/// A slightly oblique grid around the isocentre.
fn random_geometry(rng: &mut ChaCha8Rng, field_of_view: Vector, typical: [f64; 3]) -> Geometry {
    let mut spread = || rng.random_range(1.0 - SPACING_SPREAD..1.0 + SPACING_SPREAD);
    let (between_slices, in_plane) = (spread(), spread());
    let factors = [between_slices, in_plane, in_plane];
    // Three decimals, as scanners write it.
    let spacing: [f64; 3] =
        std::array::from_fn(|axis| (typical[axis] * factors[axis] * 1e3).round().max(1.0) / 1e3);
    let shape: [usize; 3] =
        std::array::from_fn(|axis| (field_of_view[axis] / spacing[axis]).round().max(1.0) as usize);

    let mut angle = || rng.random_range(-OBLIQUITY..OBLIQUITY);
    let rotation = Rotation::from_angles([angle(), angle(), angle()]);
    let middle: Vector = std::array::from_fn(|_| rng.random_range(-20.0..20.0));
    let mut rows = [[0.0; 4]; 3];
    for (axis, row) in rows.iter_mut().enumerate() {
        row[3] = middle[axis];
        for column in 0..3 {
            // Columns of the affine are i, j, k: W, H, D.
            row[column] = rotation.rows()[axis][column] * spacing[2 - column];
            row[3] -= row[column] * (shape[2 - column] as f64 - 1.0) / 2.0;
        }
    }
    Geometry::from_affine(shape, Affine::from_rows(rows))
}

struct Voxel {
    /// x, y, z in mm from the middle of the scan, along its own axes.
    centre: Vector,
    /// Edges along x, y, z in mm.
    size: Vector,
}

/// Share of each tissue in a voxel, by `Tissue as usize`.
type Mixture = [f64; Tissue::COUNT];

impl Voxel {
    fn at(geometry: &Geometry, offset: usize) -> Self {
        let (shape, spacing) = (geometry.shape(), geometry.spacing());
        let index = geometry.index_of(offset);
        let from_middle =
            |axis: usize| (index[axis] as f64 - (shape[axis] as f64 - 1.0) / 2.0) * spacing[axis];
        Self {
            centre: [from_middle(2), from_middle(1), from_middle(0)],
            size: [spacing[2], spacing[1], spacing[0]],
        }
    }

    /// Samples the voxel on a regular grid: what gives a border voxel its in-between intensity.
    fn mixture(&self, anatomy: &Anatomy) -> Mixture {
        let steps = self
            .size
            .map(|size| ((size / FINEST_STEP_MM).ceil() as usize).clamp(1, MOST_STEPS));
        let [nx, ny, nz] = steps;
        let share = 1.0 / (nx * ny * nz) as f64;
        let displacement = anatomy.displacement(self.centre);
        let mut mixture = [0.0; Tissue::COUNT];
        for sample in 0..nx * ny * nz {
            let step = [sample % nx, sample / nx % ny, sample / (nx * ny)];
            let position = std::array::from_fn(|axis| {
                let within = (step[axis] as f64 + 0.5) / steps[axis] as f64 - 0.5;
                self.centre[axis] + within * self.size[axis]
            });
            mixture[anatomy.tissue(position, displacement) as usize] += share;
        }
        mixture
    }
}

/// The class with the largest share; of equals the smallest.
fn majority(mixture: &Mixture) -> u32 {
    let mut shares = [0.0; 4];
    for tissue in Tissue::ALL {
        shares[tissue.label() as usize] += mixture[tissue as usize];
    }
    let ahead = |best: usize, label: usize| {
        // Sums of the same shares in another order differ in the last digits.
        if shares[label] > shares[best] + 1e-9 {
            label
        } else {
            best
        }
    };
    (1..shares.len()).fold(0, ahead) as u32
}

/// What makes the signal of the same tissue differ between scans and across one scan.
struct Receiver {
    signals: [f64; Tissue::COUNT],
    bias: SmoothField,
    texture: SmoothField,
}

impl Receiver {
    /// `size` is the smallest edge of the field of view in mm.
    fn random(rng: &mut ChaCha8Rng, size: f64) -> Self {
        let gain = rng.random_range(0.8..1.3);
        Self {
            signals: Tissue::ALL
                .map(|tissue| tissue.signal() * gain * rng.random_range(0.95..1.05)),
            bias: SmoothField::random(rng, 3, size..2.0 * size, BIAS),
            texture: SmoothField::random(rng, 12, 0.08 * size..0.25 * size, TEXTURE),
        }
    }

    /// The magnitude of the signal and of Gaussian noise in two channels, which is Rician
    /// (Gudbjartsson and Patz 1995).
    fn measure(&self, rng: &mut ChaCha8Rng, mixture: &Mixture, position: Vector) -> f32 {
        let parts = mixture.iter().zip(&self.signals);
        let mean: f64 = parts.map(|(share, signal)| share * signal).sum();
        let field = self.bias.at(position).exp() * (1.0 + self.texture.at(position));
        let (real, imaginary) = (mean * field + NOISE * normal(rng), NOISE * normal(rng));
        real.hypot(imaginary).round() as f32
    }
}
