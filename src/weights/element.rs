//! Types of stored numbers, and their way to f32.

use half::{bf16, f16};

/// How the numbers of a tensor are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// Signed, two bytes.
    I16,
    /// Signed, four bytes.
    I32,
    /// Signed, eight bytes.
    I64,
    /// A byte that is 0 or 1.
    Bool,
}

impl StoredType {
    /// That of a storage class of PyTorch's, `FloatStorage`.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "ByteStorage" => Self::U8,
            "CharStorage" => Self::I8,
            "ShortStorage" => Self::I16,
            "IntStorage" => Self::I32,
            "LongStorage" => Self::I64,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    /// PyTorch's name of it, without `torch.`.
    pub(super) fn of_torch(name: &str) -> Option<Self> {
        Some(match name {
            "float16" => Self::F16,
            "bfloat16" => Self::BF16,
            "float32" => Self::F32,
            "float64" => Self::F64,
            "uint8" => Self::U8,
            "int8" => Self::I8,
            "int16" => Self::I16,
            "int32" => Self::I32,
            "int64" => Self::I64,
            "bool" => Self::Bool,
            _ => return None,
        })
    }

    /// That of a safetensors file.
    pub(super) fn of_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        use safetensors::Dtype;
        Some(match dtype {
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
            Dtype::U8 => Self::U8,
            Dtype::I8 => Self::I8,
            Dtype::I16 => Self::I16,
            Dtype::I32 => Self::I32,
            Dtype::I64 => Self::I64,
            Dtype::BOOL => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The element that starts at `bytes`, of which there must be enough, rounded to f32.
    pub(super) fn read(self, bytes: &[u8], big_endian: bool) -> f32 {
        match self {
            Self::F16 => f16::from_le_bytes(ordered(bytes, big_endian)).to_f32(),
            Self::BF16 => bf16::from_le_bytes(ordered(bytes, big_endian)).to_f32(),
            Self::F32 => f32::from_le_bytes(ordered(bytes, big_endian)),
            Self::F64 => f64::from_le_bytes(ordered(bytes, big_endian)) as f32,
            Self::U8 | Self::Bool => f32::from(bytes[0]),
            Self::I8 => f32::from(i8::from_le_bytes([bytes[0]])),
            Self::I16 => f32::from(i16::from_le_bytes(ordered(bytes, big_endian))),
            Self::I32 => i32::from_le_bytes(ordered(bytes, big_endian)) as f32,
            Self::I64 => i64::from_le_bytes(ordered(bytes, big_endian)) as f32,
        }
    }
}

/// The first `N` bytes, the lowest first.
fn ordered<const N: usize>(bytes: &[u8], big_endian: bool) -> [u8; N] {
    std::array::from_fn(|i| bytes[if big_endian { N - 1 - i } else { i }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_give_the_same_number() {
        for (element, bytes, expected) in [
            (StoredType::F16, &0xc000u16.to_le_bytes()[..], -2.0),
            (StoredType::F16, &1u16.to_le_bytes(), 2f32.powi(-24)),
            (StoredType::F16, &0x7bffu16.to_le_bytes(), 65504.0),
            (StoredType::F16, &0x7c00u16.to_le_bytes(), f32::INFINITY),
            (StoredType::BF16, &0x3fc0u16.to_le_bytes(), 1.5),
            (StoredType::F32, &0.1f32.to_le_bytes(), 0.1),
            (StoredType::F64, &0.1f64.to_le_bytes(), 0.1),
            (StoredType::U8, &[255], 255.0),
            (StoredType::I8, &[255], -1.0),
            (StoredType::I16, &(-2i16).to_le_bytes(), -2.0),
            (StoredType::I32, &70_000i32.to_le_bytes(), 70_000.0),
            (StoredType::I64, &(-3i64).to_le_bytes(), -3.0),
            (StoredType::Bool, &[1], 1.0),
        ] {
            assert_eq!(bytes.len(), element.bytes());
            assert_eq!(element.read(bytes, false), expected, "{element:?}");
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            assert_eq!(element.read(&reversed, true), expected, "{element:?}");
        }
        assert!(
            StoredType::F16
                .read(&0x7e00u16.to_le_bytes(), false)
                .is_nan()
        );
    }
}
