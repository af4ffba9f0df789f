//! Solids that say which points lie inside them.

use super::smooth::{Vector, dot};

/// Three orthonormal axes.
#[derive(Clone, Copy)]
pub(super) struct Rotation([Vector; 3]);

impl Rotation {
    /// Turns by angles in radians about x, then y, then z.
    pub fn from_angles([about_x, about_y, about_z]: Vector) -> Self {
        let (sx, cx) = about_x.sin_cos();
        let (sy, cy) = about_y.sin_cos();
        let (sz, cz) = about_z.sin_cos();
        Self([
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ])
    }

    pub fn rows(&self) -> [Vector; 3] {
        self.0
    }

    pub fn apply(&self, v: Vector) -> Vector {
        self.0.map(|row| dot(row, v))
    }

    /// The inverse rotation.
    pub fn undo(&self, v: Vector) -> Vector {
        std::array::from_fn(|axis| (0..3).map(|row| self.0[row][axis] * v[row]).sum())
    }
}

/// An ellipsoid in any attitude.
#[derive(Clone, Copy)]
pub(super) struct Ellipsoid {
    pub centre: Vector,
    /// Half axes in mm.
    pub radii: Vector,
    pub attitude: Rotation,
}

impl Ellipsoid {
    pub fn ball(centre: Vector, radius: f64) -> Self {
        Self {
            centre,
            radii: [radius; 3],
            attitude: Rotation::from_angles([0.0; 3]),
        }
    }

    /// The ellipsoid of the same centre with other half axes.
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            radii: self.radii.map(|r| r * factor),
            ..*self
        }
    }

    /// The point of the ellipsoid that lies at `unit` when the ellipsoid is the unit ball.
    pub fn point(&self, unit: Vector) -> Vector {
        let local = std::array::from_fn(|axis| unit[axis] * self.radii[axis]);
        let turned = self.attitude.apply(local);
        std::array::from_fn(|axis| self.centre[axis] + turned[axis])
    }

    fn contains(&self, point: Vector) -> bool {
        let offset: Vector = std::array::from_fn(|axis| point[axis] - self.centre[axis]);
        let reach = self.radii.into_iter().fold(0.0, f64::max);
        if dot(offset, offset) > reach * reach {
            return false;
        }
        let local = self.attitude.undo(offset);
        let unit: Vector = std::array::from_fn(|axis| local[axis] / self.radii[axis]);
        dot(unit, unit) <= 1.0
    }
}

/// What an organ is made of.
pub(super) enum Solid {
    /// An ellipsoid with bites taken out of it.
    Carved {
        whole: Ellipsoid,
        bites: Vec<Ellipsoid>,
    },
    /// All points within `radius` of a line through `points`.
    Tube { points: Vec<Vector>, radius: f64 },
    /// An elliptic cylinder along z without ends; half axes along x and y.
    Column { centre: [f64; 2], radii: [f64; 2] },
}

impl Solid {
    pub fn contains(&self, point: Vector) -> bool {
        match self {
            Self::Carved { whole, bites } => {
                whole.contains(point) && !bites.iter().any(|bite| bite.contains(point))
            }
            Self::Tube { points, radius } => points.windows(2).any(|pair| {
                squared_distance_to_segment(point, pair[0], pair[1]) <= radius * radius
            }),
            Self::Column { centre, radii } => {
                let x = (point[0] - centre[0]) / radii[0];
                let y = (point[1] - centre[1]) / radii[1];
                x * x + y * y <= 1.0
            }
        }
    }
}

fn squared_distance_to_segment(point: Vector, start: Vector, end: Vector) -> f64 {
    let along: Vector = std::array::from_fn(|axis| end[axis] - start[axis]);
    let offset: Vector = std::array::from_fn(|axis| point[axis] - start[axis]);
    let share = (dot(offset, along) / dot(along, along).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    let rest: Vector = std::array::from_fn(|axis| offset[axis] - share * along[axis]);
    dot(rest, rest)
}

/// A cubic Bezier curve as `segments` straight pieces.
pub(super) fn bezier([a, b, c, d]: [Vector; 4], segments: usize) -> Vec<Vector> {
    let at = |t: f64| -> Vector {
        let s = 1.0 - t;
        std::array::from_fn(|axis| {
            s * s * s * a[axis]
                + 3.0 * s * s * t * b[axis]
                + 3.0 * s * t * t * c[axis]
                + t * t * t * d[axis]
        })
    };
    (0..=segments)
        .map(|i| at(i as f64 / segments as f64))
        .collect()
}
