//! The affine: where a voxel lies in the patient, in mm.

/// Four by four matrix that takes a voxel index to a position.
///
/// `[x, y, z, 1] = matrix * [i, j, k, 1]` with `i` along W (the axis that is fastest on disk), `j`
/// along H, `k` along D, and the position in mm with x growing to the patient's right, y to the
/// front and z to the head (RAS+, as in the NIfTI-1 standard). The last row is `0 0 0 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine([[f64; 4]; 3]);

impl Affine {
    /// The affine with these three upper rows.
    pub fn from_rows(rows: [[f64; 4]; 3]) -> Self {
        Self(rows)
    }

    /// Axes along x, y, z and the first voxel at the origin. `spacing` is in mm, in D, H, W order.
    pub fn from_spacing([depth, height, width]: [f64; 3]) -> Self {
        Self([
            [width, 0.0, 0.0, 0.0],
            [0.0, height, 0.0, 0.0],
            [0.0, 0.0, depth, 0.0],
        ])
    }

    /// The affine of the NIfTI-1 quaternion (method 2 of `nifti1.h`).
    ///
    /// `bcd` are the quaternion's vector parts, `offset` the position of the first voxel in mm,
    /// `zooms` the spacings along i, j, k in mm and `handedness` (qfac) is +1 or -1. A vector part
    /// longer than 1, which rounding to `f32` produces for rotations by 180 degrees, is normalised.
    pub fn from_quaternion(
        bcd: [f64; 3],
        offset: [f64; 3],
        zooms: [f64; 3],
        handedness: f64,
    ) -> Self {
        let [mut b, mut c, mut d] = bcd;
        let squared = b * b + c * c + d * d;
        let a = if squared > 1.0 {
            let length = squared.sqrt();
            b /= length;
            c /= length;
            d /= length;
            0.0
        } else {
            (1.0 - squared).sqrt()
        };
        let rotation = [
            [
                a * a + b * b - c * c - d * d,
                2.0 * (b * c - a * d),
                2.0 * (b * d + a * c),
            ],
            [
                2.0 * (b * c + a * d),
                a * a + c * c - b * b - d * d,
                2.0 * (c * d - a * b),
            ],
            [
                2.0 * (b * d - a * c),
                2.0 * (c * d + a * b),
                a * a + d * d - b * b - c * c,
            ],
        ];
        let scale = [zooms[0], zooms[1], zooms[2] * handedness];
        Self(std::array::from_fn(|row| {
            [
                rotation[row][0] * scale[0],
                rotation[row][1] * scale[1],
                rotation[row][2] * scale[2],
                offset[row],
            ]
        }))
    }

    /// The three upper rows.
    pub fn rows(&self) -> [[f64; 4]; 3] {
        self.0
    }

    /// All four rows.
    pub fn matrix(&self) -> [[f64; 4]; 4] {
        let [x, y, z] = self.0;
        [x, y, z, [0.0, 0.0, 0.0, 1.0]]
    }

    /// The position in mm of the voxel index `[i, j, k]` (fractions allowed).
    pub fn apply(&self, [i, j, k]: [f64; 3]) -> [f64; 3] {
        self.0
            .map(|[a, b, c, offset]| a * i + b * j + c * k + offset)
    }

    /// The inverse, from a position in mm to `[i, j, k]`, or `None` where the three axes do not
    /// span space (or an entry is not finite).
    pub fn inverse(&self) -> Option<Self> {
        let determinant = self.determinant();
        let [x, y, z] = self.zooms();
        // Relative to the box the axes would span if they were orthogonal, so that a volume of
        // micrometre voxels is not taken for a flat one.
        if !determinant.is_finite() || determinant.abs() <= 1e-9 * x * y * z {
            return None;
        }
        let m = &self.0;
        let cofactor = |r0: usize, r1: usize, c0: usize, c1: usize| {
            (m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0]) / determinant
        };
        let linear = [
            [
                cofactor(1, 2, 1, 2),
                -cofactor(0, 2, 1, 2),
                cofactor(0, 1, 1, 2),
            ],
            [
                -cofactor(1, 2, 0, 2),
                cofactor(0, 2, 0, 2),
                -cofactor(0, 1, 0, 2),
            ],
            [
                cofactor(1, 2, 0, 1),
                -cofactor(0, 2, 0, 1),
                cofactor(0, 1, 0, 1),
            ],
        ];
        let rows = linear.map(|[a, b, c]| {
            let offset = -(a * m[0][3] + b * m[1][3] + c * m[2][3]);
            [a, b, c, offset]
        });
        rows.iter()
            .flatten()
            .all(|entry| entry.is_finite())
            .then_some(Self(rows))
    }

    /// Lengths in mm of the three voxel axes i, j, k.
    pub fn zooms(&self) -> [f64; 3] {
        let [x, y, z] = self.0;
        // hypot, because the squares of tiny or huge axes leave the range of f64.
        std::array::from_fn(|axis| x[axis].hypot(y[axis]).hypot(z[axis]))
    }

    /// Three letters: to which side of the patient the axes i, j, k grow (`RAS`: i to the right, j
    /// to the front, k to the head). An oblique axis gets the side it is nearest to, each pair of
    /// sides being used once. `None` where the affine has no inverse.
    pub fn orientation(&self) -> Option<String> {
        self.inverse()?;
        let zooms = self.zooms();
        let cosine = |world: usize, axis: usize| self.0[world][axis] / zooms[axis];
        let alignment = |worlds: &[usize; 3]| -> f64 {
            (0..3).map(|axis| cosine(worlds[axis], axis).abs()).sum()
        };
        const ASSIGNMENTS: [[usize; 3]; 6] = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        let worlds = ASSIGNMENTS
            .iter()
            .max_by(|a, b| alignment(a).total_cmp(&alignment(b)))?;
        Some(
            (0..3)
                .map(|axis| {
                    let [positive, negative] = [['R', 'L'], ['A', 'P'], ['S', 'I']][worlds[axis]];
                    if cosine(worlds[axis], axis) > 0.0 {
                        positive
                    } else {
                        negative
                    }
                })
                .collect(),
        )
    }

    /// The same affine in another unit of length (`factor` = 1000 from metres to mm).
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self(self.0.map(|row| row.map(|entry| entry * factor)))
    }

    fn determinant(&self) -> f64 {
        let m = &self.0;
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
            - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 degrees about z, anisotropic, mirrored in i.
    fn oblique() -> Affine {
        let (sin, cos) = (0.5_f64, 0.75_f64.sqrt());
        Affine::from_rows([
            [-0.8 * cos, -1.1 * sin, 0.0, 12.0],
            [-0.8 * sin, 1.1 * cos, 0.0, -7.5],
            [0.0, 0.0, 4.0, 3.25],
        ])
    }

    #[test]
    fn the_inverse_takes_a_position_back_to_its_voxel() {
        let affine = oblique();
        let inverse = affine.inverse().unwrap();
        for voxel in [[0.0, 0.0, 0.0], [17.0, 3.5, 88.0], [-4.0, 250.0, 1.0]] {
            let back = inverse.apply(affine.apply(voxel));
            for axis in 0..3 {
                assert!(
                    (back[axis] - voxel[axis]).abs() < 1e-10,
                    "{back:?} != {voxel:?}"
                );
            }
        }
    }

    #[test]
    fn flat_and_non_finite_affines_have_no_inverse() {
        let mut rows = oblique().rows();
        rows[2] = [0.0, 0.0, 0.0, 1.0];
        assert_eq!(Affine::from_rows(rows).inverse(), None);
        assert_eq!(Affine::from_rows(rows).orientation(), None);
        rows[2] = [0.0, 0.0, f64::NAN, 1.0];
        assert_eq!(Affine::from_rows(rows).inverse(), None);
        assert_eq!(Affine::from_rows([[0.0; 4]; 3]).inverse(), None);
    }

    #[test]
    fn micrometre_voxels_are_not_flat() {
        assert!(Affine::from_spacing([1e-4, 1e-4, 1e-4]).inverse().is_some());
    }

    #[test]
    fn zooms_are_the_lengths_of_the_axes() {
        let zooms = oblique().zooms();
        for (found, expected) in zooms.iter().zip([0.8, 1.1, 4.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn orientation_names_the_sides() {
        assert_eq!(Affine::from_spacing([1.0; 3]).orientation().unwrap(), "RAS");
        assert_eq!(oblique().orientation().unwrap(), "LAS");
        let sagittal = Affine::from_rows([
            [0.0, 0.0, 1.0, 0.0],
            [-1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0],
        ]);
        assert_eq!(sagittal.orientation().unwrap(), "PSR");
    }

    #[test]
    fn quaternions_give_their_rotations() {
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let quarter_turn_about_z =
            Affine::from_quaternion([0.0, 0.0, half], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0], -1.0);
        let expected = [
            [0.0, -3.0, 0.0, 1.0],
            [2.0, 0.0, 0.0, 2.0],
            [0.0, 0.0, -4.0, 3.0],
        ];
        for (found, expected) in quarter_turn_about_z
            .rows()
            .iter()
            .flatten()
            .zip(expected.iter().flatten())
        {
            assert!((found - expected).abs() < 1e-12, "{found} != {expected}");
        }
    }

    #[test]
    fn a_quaternion_rounded_past_unit_length_is_normalised() {
        let half_turn = Affine::from_quaternion([0.0, 1.000_000_1, 0.0], [0.0; 3], [1.0; 3], 1.0);
        assert_eq!(half_turn.orientation().unwrap(), "LAI");
        assert!(half_turn.rows().iter().flatten().all(|x| x.is_finite()));
    }
}
