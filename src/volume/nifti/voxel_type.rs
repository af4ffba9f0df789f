//! Types of voxels and their bytes.

use super::layout::ByteOrder;

/// A type of voxel that can be an intensity or a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VoxelType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl VoxelType {
    /// From the header's `datatype`; the name of the type where it is none of these.
    pub(super) fn from_code(code: i16) -> Result<Self, String> {
        Ok(match code {
            2 => Self::U8,
            4 => Self::I16,
            8 => Self::I32,
            16 => Self::F32,
            64 => Self::F64,
            256 => Self::I8,
            512 => Self::U16,
            768 => Self::U32,
            1024 => Self::I64,
            1280 => Self::U64,
            other => {
                let name = match other {
                    1 => "binary (1 bit)",
                    32 => "complex64",
                    128 => "RGB24",
                    1536 => "float128",
                    1792 => "complex128",
                    2048 => "complex256",
                    2304 => "RGBA32",
                    _ => return Err(format!("unknown (datatype {other})")),
                };
                return Err(name.to_owned());
            }
        })
    }

    /// The header's `datatype`.
    pub(super) fn code(self) -> i16 {
        match self {
            Self::U8 => 2,
            Self::I16 => 4,
            Self::I32 => 8,
            Self::F32 => 16,
            Self::F64 => 64,
            Self::I8 => 256,
            Self::U16 => 512,
            Self::U32 => 768,
            Self::I64 => 1024,
            Self::U64 => 1280,
        }
    }

    /// Bytes of one voxel.
    pub(super) fn size(self) -> u16 {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Calls `visit` with each voxel in `bytes`, a whole number of voxels.
    ///
    /// `f64` holds all of them exactly but for integers beyond 2^53, which are neither labels nor
    /// distinguishable intensities.
    pub(super) fn decode(self, order: ByteOrder, bytes: &[u8], visit: impl FnMut(f64)) {
        match self {
            Self::U8 => each(order, bytes, |b| f64::from(u8::from_le_bytes(b)), visit),
            Self::I8 => each(order, bytes, |b| f64::from(i8::from_le_bytes(b)), visit),
            Self::U16 => each(order, bytes, |b| f64::from(u16::from_le_bytes(b)), visit),
            Self::I16 => each(order, bytes, |b| f64::from(i16::from_le_bytes(b)), visit),
            Self::U32 => each(order, bytes, |b| f64::from(u32::from_le_bytes(b)), visit),
            Self::I32 => each(order, bytes, |b| f64::from(i32::from_le_bytes(b)), visit),
            Self::U64 => each(order, bytes, |b| u64::from_le_bytes(b) as f64, visit),
            Self::I64 => each(order, bytes, |b| i64::from_le_bytes(b) as f64, visit),
            Self::F32 => each(order, bytes, |b| f64::from(f32::from_le_bytes(b)), visit),
            Self::F64 => each(order, bytes, f64::from_le_bytes, visit),
        }
    }
}

fn each<const N: usize>(
    order: ByteOrder,
    bytes: &[u8],
    from_little_endian: impl Fn([u8; N]) -> f64,
    mut visit: impl FnMut(f64),
) {
    let (voxels, _) = bytes.as_chunks::<N>();
    for &(mut voxel) in voxels {
        if order == ByteOrder::Big {
            voxel.reverse();
        }
        visit(from_little_endian(voxel));
    }
}
