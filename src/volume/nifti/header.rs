//! A header, read and checked, or made.

use std::path::Path;

use super::super::error::VolumeError;
use super::super::geometry::Geometry;
use super::layout::{ByteOrder, Fields, FieldsMut, Version};
use super::placement::Placement;
use super::voxel_type::VoxelType;

/// Most voxels of one volume: 8 GiB as `f32`, a CT of 1024 x 1024 x 2048.
pub(super) const MOST_VOXELS: u64 = 1 << 31;

/// What a valid header says.
#[derive(Debug)]
pub(super) struct Header {
    pub order: ByteOrder,
    /// Voxels are in the same file (`.nii`) rather than in an `.img`.
    pub single: bool,
    pub voxel_type: VoxelType,
    /// First byte of the voxels.
    pub data_offset: u64,
    /// Slope and intercept, where the header asks for scaling.
    pub scaling: Option<(f64, f64)>,
    pub geometry: Geometry,
}

impl Header {
    /// Checks every field that the voxels or the geometry depend on.
    ///
    /// `bytes` are [`Version::size`] long.
    pub(super) fn parse(
        path: &Path,
        bytes: &[u8],
        version: Version,
        order: ByteOrder,
    ) -> Result<Self, VolumeError> {
        let fields = Fields {
            bytes,
            version,
            order,
        };
        let single = single_by_magic(path, &fields)?;
        let extents = extents(path, &fields)?;
        let placement = Placement::parse(&fields);
        let (spacing, affine) = placement.resolve(path, extents)?;
        let [width, height, depth] = extents;
        Ok(Self {
            order,
            single,
            voxel_type: voxel_type(path, &fields)?,
            data_offset: data_offset(path, &fields, single)?,
            scaling: scaling(path, &fields)?,
            geometry: Geometry::from_file([depth, height, width], spacing, affine, placement),
        })
    }

    /// Bytes of all voxels.
    pub(super) fn data_bytes(&self) -> u64 {
        self.geometry.voxels() as u64 * u64::from(self.voxel_type.size())
    }
}

fn single_by_magic(path: &Path, fields: &Fields<'_>) -> Result<bool, VolumeError> {
    let single = fields.version.magic_of_single();
    let offset = fields.version.offsets().magic;
    let magic = &fields.bytes[offset..offset + single.len()];
    if magic == single {
        Ok(true)
    } else if magic == fields.version.magic_of_pair() {
        Ok(false)
    } else {
        Err(VolumeError::NotNifti {
            path: path.to_owned(),
            found: if magic[0] == 0 {
                "an ANALYZE 7.5 header, which does not say left from right".to_owned()
            } else {
                format!("the magic is \"{}\"", magic.escape_ascii())
            },
        })
    }
}

/// Voxels along x, y, z; missing dimensions are 1.
fn extents(path: &Path, fields: &Fields<'_>) -> Result<[usize; 3], VolumeError> {
    let at = fields.version.offsets().dim;
    let dimensions = fields.extent(at, 0);
    let count = match usize::try_from(dimensions) {
        Ok(count @ 1..=7) => count,
        _ => return Err(VolumeError::header(path, "dim[0]", "1 to 7", dimensions)),
    };
    const NAMES: [&str; 7] = [
        "dim[1]", "dim[2]", "dim[3]", "dim[4]", "dim[5]", "dim[6]", "dim[7]",
    ];
    let mut all = [1_u64; 7];
    for index in 0..count {
        let extent = fields.extent(at, index + 1);
        all[index] = match u64::try_from(extent) {
            Ok(positive @ 1..) => positive,
            _ => return Err(VolumeError::header(path, NAMES[index], "1 or more", extent)),
        };
    }
    let product = |extents: &[u64]| {
        extents.iter().fold(1_u128, |product, &extent| {
            product.saturating_mul(extent.into())
        })
    };
    let volumes = product(&all[3..]);
    if volumes > 1 {
        return Err(VolumeError::ManyVolumes {
            path: path.to_owned(),
            count: u64::try_from(volumes).unwrap_or(u64::MAX),
            dimensions: all[..count].iter().map(|&extent| extent as i64).collect(),
        });
    }
    let voxels = product(&all[..3]);
    if voxels > u128::from(MOST_VOXELS) {
        return Err(VolumeError::TooLarge {
            path: path.to_owned(),
            voxels,
            limit: MOST_VOXELS,
        });
    }
    // Each is at most the product, which fits u32.
    Ok([all[0] as usize, all[1] as usize, all[2] as usize])
}

fn voxel_type(path: &Path, fields: &Fields<'_>) -> Result<VoxelType, VolumeError> {
    let at = fields.version.offsets();
    let voxel_type = VoxelType::from_code(fields.short(at.datatype)).map_err(|found| {
        VolumeError::VoxelType {
            path: path.to_owned(),
            found,
        }
    })?;
    let bits = fields.short(at.bitpix);
    if i32::from(bits) == 8 * i32::from(voxel_type.size()) {
        Ok(voxel_type)
    } else {
        Err(VolumeError::header(
            path,
            "bitpix",
            format!(
                "{} for datatype {} ({voxel_type:?})",
                8 * voxel_type.size(),
                voxel_type.code()
            ),
            bits,
        ))
    }
}

fn data_offset(path: &Path, fields: &Fields<'_>, single: bool) -> Result<u64, VolumeError> {
    let at = fields.version.offsets().vox_offset;
    // The header is followed by four bytes that announce extensions.
    let least = if single {
        fields.version.size() as u64 + 4
    } else {
        0
    };
    match fields.byte_offset(at) {
        // Zero in a single file means "right after the header", as nibabel has it.
        Some(0) => Ok(least),
        Some(offset) if offset >= least => Ok(offset),
        _ => Err(VolumeError::header(
            path,
            "vox_offset",
            format!("a whole number of bytes from {least} on"),
            match fields.version {
                Version::One => fields.real(at, 0).to_string(),
                Version::Two => fields.extent(at, 0).to_string(),
            },
        )),
    }
}

/// A slope that is zero or not finite means no scaling (the standard for 0, nibabel for the rest).
fn scaling(path: &Path, fields: &Fields<'_>) -> Result<Option<(f64, f64)>, VolumeError> {
    let at = fields.version.offsets();
    let (slope, inter) = (fields.real(at.scl_slope, 0), fields.real(at.scl_inter, 0));
    if slope == 0.0 || !slope.is_finite() || (slope, inter) == (1.0, 0.0) {
        return Ok(None);
    }
    if !inter.is_finite() {
        return Err(VolumeError::header(path, "scl_inter", "finite", inter));
    }
    Ok(Some((slope, inter)))
}

/// The bytes of a little-endian single-file header and its empty extension flag, up to the voxels.
///
/// NIfTI-1 unless a dimension or a number of the geometry does not fit it.
pub(super) fn encode(geometry: &Geometry, voxel_type: VoxelType) -> Vec<u8> {
    let placement = geometry.placement();
    let [depth, height, width] = geometry.shape().map(|extent| extent as i64);
    let small = [depth, height, width]
        .iter()
        .all(|&n| n <= i64::from(i16::MAX));
    let version = if small && placement.fits_version_1() {
        Version::One
    } else {
        Version::Two
    };
    let size = version.size();
    let mut bytes = vec![0; size + 4];
    let at = version.offsets();
    let mut fields = FieldsMut {
        bytes: &mut bytes,
        version,
    };
    fields.raw(0, &(size as i32).to_le_bytes());
    fields.raw(at.magic, version.magic_of_single());
    for (index, extent) in [width, height, depth, 1, 1, 1, 1].into_iter().enumerate() {
        fields.extent(at.dim, index + 1, extent);
    }
    fields.short(at.datatype, voxel_type.code());
    fields.short(at.bitpix, 8 * voxel_type.size() as i16);
    fields.byte_offset(at.vox_offset, size as u16 + 4);
    fields.real(at.scl_slope, 0, 1.0);
    fields.raw(at.descrip, b"voxseg");
    placement.write(&mut fields);
    bytes
}
