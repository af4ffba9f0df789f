//! Geometry: the size of a volume and where it lies.

use super::affine::Affine;
use super::nifti::Placement;

/// Relative difference of spacing, and share of a voxel by which two volumes may be displaced,
/// below which they count as lying on each other. Far above what rounding to `f32` and the
/// quaternion of a qform cost (1e-6 to 1e-4), far below anything that moves a label.
const SPACING_TOLERANCE: f64 = 1e-3;
const DISPLACEMENT_TOLERANCE: f64 = 0.05;

/// Shape in voxels, spacing in mm and affine of a volume, with the header fields of its file.
///
/// Axes are always D, H, W, the order of the voxels in memory: W is fastest. A 2D image has D = 1.
/// Whatever is written with the geometry of an input gets that input's header fields unchanged
/// (dimensions, `pixdim`, qform, sform, their codes and units).
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    shape: [usize; 3],
    spacing: [f64; 3],
    affine: Affine,
    placement: Placement,
}

impl Geometry {
    /// Axes along x, y, z with the first voxel at the origin.
    ///
    /// `shape` is D, H, W in voxels, `spacing` D, H, W in mm (finite and above zero, or the
    /// geometry will be refused when it is read back).
    pub fn from_spacing(shape: [usize; 3], spacing: [f64; 3]) -> Self {
        Self::from_affine(shape, Affine::from_spacing(spacing))
    }

    /// A geometry with any affine; the spacing is the length of its axes.
    pub fn from_affine(shape: [usize; 3], affine: Affine) -> Self {
        let [i, j, k] = affine.zooms();
        Self {
            shape,
            spacing: [k, j, i],
            affine,
            placement: Placement::from_affine(&affine),
        }
    }

    /// What a reader found. `spacing` and `affine` must agree.
    pub(super) fn from_file(
        shape: [usize; 3],
        spacing: [f64; 3],
        affine: Affine,
        placement: Placement,
    ) -> Self {
        Self {
            shape,
            spacing,
            affine,
            placement,
        }
    }

    /// Voxels along D, H, W.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// D * H * W.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// Distance in mm between neighbours along D, H, W.
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// From a voxel index (i along W, j along H, k along D) to a position in mm.
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// The header fields a file of this geometry carries.
    pub(super) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Index `[d, h, w]` of the voxel at `offset` in memory.
    pub fn index_of(&self, offset: usize) -> [usize; 3] {
        let [_, height, width] = self.shape;
        let row = offset / width.max(1);
        [
            row / height.max(1),
            row % height.max(1),
            offset % width.max(1),
        ]
    }

    /// Position in mm (x right, y front, z head) of the voxel `[d, h, w]`.
    pub fn position_of(&self, [d, h, w]: [f64; 3]) -> [f64; 3] {
        self.affine.apply([w, h, d])
    }

    /// Three letters such as `RAS` for the axes W, H, D (the order of the file), or `None` where
    /// the affine is flat. See [`Affine::orientation`].
    pub fn orientation(&self) -> Option<String> {
        self.affine.orientation()
    }

    /// Whether a voxel here and the voxel of the same index in `other` are the same place.
    ///
    /// Shapes must be equal, spacings equal within one part in a thousand, and no corner of the
    /// volume may be displaced by more than a twentieth of the finest spacing.
    ///
    /// # Errors
    /// The first [`GeometryDifference`] in that order.
    pub fn matches(&self, other: &Self) -> Result<(), GeometryDifference> {
        if self.shape != other.shape {
            return Err(GeometryDifference::Shape {
                first: self.shape,
                second: other.shape,
            });
        }
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= SPACING_TOLERANCE * a.abs().max(b.abs());
        if !self.spacing.iter().zip(&other.spacing).all(near) {
            return Err(GeometryDifference::Spacing {
                first: self.spacing,
                second: other.spacing,
            });
        }
        let millimetres = self.displacement(other);
        let finest = self.spacing.iter().copied().fold(f64::INFINITY, f64::min);
        // Written so that a NaN counts as displaced.
        if millimetres <= DISPLACEMENT_TOLERANCE * finest {
            Ok(())
        } else {
            Err(GeometryDifference::Position { millimetres })
        }
    }

    /// Largest distance in mm between a corner of this volume and the same corner of `other`.
    fn displacement(&self, other: &Self) -> f64 {
        (0..8)
            .map(|corner: usize| {
                let voxel = std::array::from_fn(|axis| {
                    let last = self.shape[axis].saturating_sub(1) as f64;
                    if corner >> axis & 1 == 1 { last } else { 0.0 }
                });
                let (a, b) = (self.position_of(voxel), other.position_of(voxel));
                a.iter()
                    .zip(b)
                    .map(|(a, b)| (a - b) * (a - b))
                    .sum::<f64>()
                    .sqrt()
            })
            .fold(0.0, |largest, distance| {
                if distance.is_nan() {
                    f64::NAN
                } else {
                    distance.max(largest)
                }
            })
    }
}

/// In what two geometries differ.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GeometryDifference {
    /// Other numbers of voxels along D, H, W.
    #[error("{} voxels against {}", by(first), by(second))]
    Shape {
        /// D, H, W of the first.
        first: [usize; 3],
        /// D, H, W of the second.
        second: [usize; 3],
    },
    /// Other spacings.
    #[error("spacing (D, H, W) {} mm against {} mm", by(first), by(second))]
    Spacing {
        /// D, H, W in mm of the first.
        first: [f64; 3],
        /// D, H, W in mm of the second.
        second: [f64; 3],
    },
    /// Same shape and spacing, but elsewhere or turned.
    #[error("their affines place the same corner {millimetres:.3} mm apart")]
    Position {
        /// Largest displacement of a corner.
        millimetres: f64,
    },
}

fn by<T: std::fmt::Display>([a, b, c]: &[T; 3]) -> String {
    format!("{a} x {b} x {c}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_order_is_w_fastest() {
        let geometry = Geometry::from_spacing([4, 3, 2], [5.0, 0.7, 0.6]);
        assert_eq!(geometry.voxels(), 24);
        assert_eq!(geometry.index_of(0), [0, 0, 0]);
        assert_eq!(geometry.index_of(1), [0, 0, 1]);
        assert_eq!(geometry.index_of(2), [0, 1, 0]);
        assert_eq!(geometry.index_of(23), [3, 2, 1]);
        assert_eq!(geometry.position_of([1.0, 2.0, 0.0]), [0.0, 1.4, 5.0]);
        assert_eq!(geometry.spacing(), [5.0, 0.7, 0.6]);
    }

    #[test]
    fn shape_is_compared_before_spacing_before_position() {
        let base = Geometry::from_spacing([4, 3, 2], [1.0; 3]);
        let other = Geometry::from_spacing([4, 2, 3], [2.0; 3]);
        assert!(matches!(
            base.matches(&other),
            Err(GeometryDifference::Shape { .. })
        ));
        let other = Geometry::from_spacing([4, 3, 2], [1.0, 1.0, 1.01]);
        assert!(matches!(
            base.matches(&other),
            Err(GeometryDifference::Spacing { .. })
        ));
        let mut rows = base.affine().rows();
        rows[1][3] = 0.06;
        let other = Geometry::from_affine([4, 3, 2], Affine::from_rows(rows));
        let difference = base.matches(&other).unwrap_err();
        assert!(difference.to_string().contains("0.060 mm"), "{difference}");
    }

    #[test]
    fn rounding_does_not_part_two_geometries() {
        let base = Geometry::from_spacing([44, 80, 66], [1.25; 3]);
        let mut rows = base.affine().rows();
        rows[0][0] *= 1.0 + 1e-5;
        rows[2][3] += 1e-3;
        let other = Geometry::from_affine([44, 80, 66], Affine::from_rows(rows));
        assert_eq!(base.matches(&other), Ok(()));
    }

    #[test]
    fn an_affine_of_nan_matches_nothing() {
        let base = Geometry::from_spacing([2, 2, 2], [1.0; 3]);
        let mut rows = base.affine().rows();
        rows[0][3] = f64::NAN;
        let other = Geometry::from_affine([2, 2, 2], Affine::from_rows(rows));
        assert!(base.matches(&other).is_err());
        assert!(other.matches(&base).is_err());
    }
}
