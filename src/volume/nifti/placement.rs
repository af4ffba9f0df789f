//! The header fields that say where a volume lies.

use std::path::Path;

use super::super::affine::Affine;
use super::super::error::VolumeError;
use super::layout::{Fields, FieldsMut};

/// Relative difference up to which `pixdim` is believed to be the rounder form of the spacing in
/// the sform.
const PIXDIM_TOLERANCE: f64 = 1e-3;

/// The geometry as it stands in the header, kept raw so that it is written back unchanged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placement {
    /// Number of dimensions, `dim[0]`.
    pub(super) dimensions: i64,
    pixdim: [f64; 8],
    xyzt_units: i32,
    qform_code: i32,
    sform_code: i32,
    quaternion: [f64; 3],
    qoffset: [f64; 3],
    srow: [[f64; 4]; 3],
}

impl Placement {
    /// Header fields for an affine that comes from no file: an sform in scanner coordinates, in mm.
    /// Numbers are rounded to `f32`, which is what NIfTI-1 holds.
    pub(crate) fn from_affine(affine: &Affine) -> Self {
        let rounded = |value: f64| f64::from(value as f32);
        let [i, j, k] = affine.zooms().map(rounded);
        Self {
            dimensions: 3,
            pixdim: [1.0, i, j, k, 1.0, 1.0, 1.0, 1.0],
            xyzt_units: 2,
            qform_code: 0,
            sform_code: 1,
            quaternion: [0.0; 3],
            qoffset: [0.0; 3],
            srow: affine.rows().map(|row| row.map(rounded)),
        }
    }

    pub(super) fn parse(fields: &Fields<'_>) -> Self {
        let at = fields.version.offsets();
        Self {
            dimensions: fields.extent(at.dim, 0),
            pixdim: std::array::from_fn(|i| fields.real(at.pixdim, i)),
            xyzt_units: fields.units(at.xyzt_units),
            qform_code: fields.code(at.qform_code),
            sform_code: fields.code(at.sform_code),
            quaternion: fields.triple(at.quaternion),
            qoffset: fields.triple(at.qoffset),
            srow: std::array::from_fn(|row| {
                std::array::from_fn(|column| fields.real(at.srow, 4 * row + column))
            }),
        }
    }

    pub(super) fn write(&self, fields: &mut FieldsMut<'_>) {
        let at = fields.version.offsets();
        fields.extent(at.dim, 0, self.dimensions);
        fields.reals(at.pixdim, &self.pixdim);
        fields.units(at.xyzt_units, self.xyzt_units);
        fields.code(at.qform_code, self.qform_code);
        fields.code(at.sform_code, self.sform_code);
        fields.reals(at.quaternion, &self.quaternion);
        fields.reals(at.qoffset, &self.qoffset);
        fields.reals(at.srow, self.srow.as_flattened());
    }

    /// Whether a NIfTI-1 header holds every one of these numbers exactly.
    pub(super) fn fits_version_1(&self) -> bool {
        let narrow = |value: &f64| value.is_nan() || f64::from(*value as f32) == *value;
        let reals = self
            .pixdim
            .iter()
            .chain(&self.quaternion)
            .chain(&self.qoffset)
            .chain(self.srow.as_flattened());
        reals.into_iter().all(narrow)
            && i16::try_from(self.qform_code).is_ok()
            && i16::try_from(self.sform_code).is_ok()
            && u8::try_from(self.xyzt_units).is_ok()
    }

    /// Spacing (D, H, W, in mm) and affine of a volume of `extents` (x, y, z).
    ///
    /// The affine is the sform where its code is set, else the qform, else `pixdim` alone. The
    /// spacing is `pixdim` where that agrees with the affine, else the length of the affine's axes:
    /// both always describe the same voxel. Negative `pixdim` count by their size, as in nibabel; an
    /// axis of one voxel may lack its spacing (1 is taken).
    ///
    /// # Errors
    /// [`VolumeError::Header`] for a spacing that is zero or not finite and for axes that do not
    /// span space.
    pub(super) fn resolve(
        &self,
        path: &Path,
        extents: [usize; 3],
    ) -> Result<([f64; 3], Affine), VolumeError> {
        let unit = self.millimetres_per_unit();
        let (field, affine, zooms) = if self.sform_code > 0 {
            let affine = Affine::from_rows(self.srow);
            (
                "srow_x, srow_y, srow_z",
                affine,
                self.agreeing_zooms(&affine),
            )
        } else {
            let zooms = self.zooms(path, extents)?;
            if self.qform_code > 0 {
                let handedness = if self.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
                let affine =
                    Affine::from_quaternion(self.quaternion, self.qoffset, zooms, handedness);
                ("quatern_b, c, d and qoffset", affine, zooms)
            } else {
                let [i, j, k] = zooms;
                ("pixdim[1..3]", Affine::from_spacing([k, j, i]), zooms)
            }
        };
        let affine = affine.scaled(unit);
        if affine.inverse().is_none() {
            return Err(VolumeError::header(
                path,
                field,
                "finite and span three directions",
                format!("{:?}", affine.rows()),
            ));
        }
        let [i, j, k] = zooms.map(|zoom| zoom * unit);
        Ok(([k, j, i], affine))
    }

    /// `pixdim[1..=3]`, checked.
    fn zooms(&self, path: &Path, extents: [usize; 3]) -> Result<[f64; 3], VolumeError> {
        let mut zooms = [1.0; 3];
        for axis in 0..3 {
            let size = self.pixdim[axis + 1].abs();
            if size > 0.0 && size.is_finite() {
                zooms[axis] = size;
            } else if extents[axis] > 1 {
                return Err(VolumeError::header(
                    path,
                    ["pixdim[1]", "pixdim[2]", "pixdim[3]"][axis],
                    "a spacing above zero",
                    self.pixdim[axis + 1],
                ));
            }
        }
        Ok(zooms)
    }

    /// Lengths of the axes of `affine`, each replaced by its `pixdim` where that is the same but
    /// for rounding.
    fn agreeing_zooms(&self, affine: &Affine) -> [f64; 3] {
        let mut zooms = affine.zooms();
        for (axis, zoom) in zooms.iter_mut().enumerate() {
            let pixdim = self.pixdim[axis + 1].abs();
            if (pixdim - *zoom).abs() <= PIXDIM_TOLERANCE * *zoom {
                *zoom = pixdim;
            }
        }
        zooms
    }

    /// From the spatial bits of `xyzt_units`; unknown units are taken for mm.
    fn millimetres_per_unit(&self) -> f64 {
        const METRE: i32 = 1;
        const MICROMETRE: i32 = 3;
        match self.xyzt_units & 7 {
            METRE => 1e3,
            MICROMETRE => 1e-3,
            _ => 1.0,
        }
    }
}
