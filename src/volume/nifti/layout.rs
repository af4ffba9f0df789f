//! Where the fields lie in the two versions of the header, and how wide they are.

/// Order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// Version of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Byte offsets of the fields that matter for geometry and voxels.
pub(super) struct Offsets {
    pub magic: usize,
    pub dim: usize,
    pub datatype: usize,
    pub bitpix: usize,
    pub pixdim: usize,
    pub vox_offset: usize,
    pub scl_slope: usize,
    pub scl_inter: usize,
    pub descrip: usize,
    pub xyzt_units: usize,
    pub qform_code: usize,
    pub sform_code: usize,
    pub quaternion: usize,
    pub qoffset: usize,
    pub srow: usize,
}

const ONE: Offsets = Offsets {
    magic: 344,
    dim: 40,
    datatype: 70,
    bitpix: 72,
    pixdim: 76,
    vox_offset: 108,
    scl_slope: 112,
    scl_inter: 116,
    xyzt_units: 123,
    descrip: 148,
    qform_code: 252,
    sform_code: 254,
    quaternion: 256,
    qoffset: 268,
    srow: 280,
};

const TWO: Offsets = Offsets {
    magic: 4,
    datatype: 12,
    bitpix: 14,
    dim: 16,
    pixdim: 104,
    vox_offset: 168,
    scl_slope: 176,
    scl_inter: 184,
    descrip: 240,
    qform_code: 344,
    sform_code: 348,
    quaternion: 352,
    qoffset: 376,
    srow: 400,
    xyzt_units: 500,
};

impl Version {
    /// Bytes of the header.
    pub(super) fn size(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }

    pub(super) fn offsets(self) -> &'static Offsets {
        match self {
            Self::One => &ONE,
            Self::Two => &TWO,
        }
    }

    /// The magic of a single file.
    pub(super) fn magic_of_single(self) -> &'static [u8] {
        match self {
            Self::One => b"n+1\0",
            Self::Two => b"n+2\0\r\n\x1a\n",
        }
    }

    /// The magic of a header whose voxels are in another file.
    pub(super) fn magic_of_pair(self) -> &'static [u8] {
        match self {
            Self::One => b"ni1\0",
            Self::Two => b"ni2\0\r\n\x1a\n",
        }
    }

    /// Version and byte order from the first four bytes, the header's own size.
    pub(super) fn detect(size: [u8; 4]) -> Option<(Self, ByteOrder)> {
        let orders = [
            (i32::from_le_bytes(size), ByteOrder::Little),
            (i32::from_be_bytes(size), ByteOrder::Big),
        ];
        orders.into_iter().find_map(|(size, order)| match size {
            348 => Some((Self::One, order)),
            540 => Some((Self::Two, order)),
            _ => None,
        })
    }
}

/// Reads numbers out of header bytes that are [`Version::size`] long.
pub(super) struct Fields<'a> {
    pub bytes: &'a [u8],
    pub version: Version,
    pub order: ByteOrder,
}

impl Fields<'_> {
    fn number<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut number: [u8; N] = std::array::from_fn(|i| self.bytes[offset + i]);
        if self.order == ByteOrder::Big {
            number.reverse();
        }
        number
    }

    /// `short` in both versions.
    pub(super) fn short(&self, offset: usize) -> i16 {
        i16::from_le_bytes(self.number(offset))
    }

    /// `short` in version 1, `int64_t` in version 2.
    pub(super) fn extent(&self, offset: usize, index: usize) -> i64 {
        match self.version {
            Version::One => i64::from(self.short(offset + 2 * index)),
            Version::Two => i64::from_le_bytes(self.number(offset + 8 * index)),
        }
    }

    /// `short` in version 1, `int` in version 2.
    pub(super) fn code(&self, offset: usize) -> i32 {
        match self.version {
            Version::One => i32::from(self.short(offset)),
            Version::Two => i32::from_le_bytes(self.number(offset)),
        }
    }

    /// `char` in version 1, `int` in version 2.
    pub(super) fn units(&self, offset: usize) -> i32 {
        match self.version {
            Version::One => i32::from(self.bytes[offset]),
            Version::Two => i32::from_le_bytes(self.number(offset)),
        }
    }

    /// `float` in version 1, `double` in version 2.
    pub(super) fn real(&self, offset: usize, index: usize) -> f64 {
        match self.version {
            Version::One => f64::from(f32::from_le_bytes(self.number(offset + 4 * index))),
            Version::Two => f64::from_le_bytes(self.number(offset + 8 * index)),
        }
    }

    /// Three reals in a row.
    pub(super) fn triple(&self, offset: usize) -> [f64; 3] {
        std::array::from_fn(|i| self.real(offset, i))
    }

    /// `vox_offset`: `float` in version 1, `int64_t` in version 2. `None` where it is no whole
    /// number of bytes.
    pub(super) fn byte_offset(&self, offset: usize) -> Option<u64> {
        match self.version {
            Version::Two => u64::try_from(self.extent(offset, 0)).ok(),
            Version::One => {
                let value = self.real(offset, 0);
                // Above 2^53 the cast would invent digits; no file is that long.
                (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
            }
        }
    }
}

/// Writes numbers, little-endian, into header bytes that are [`Version::size`] long.
pub(super) struct FieldsMut<'a> {
    pub bytes: &'a mut [u8],
    pub version: Version,
}

impl FieldsMut<'_> {
    pub(super) fn raw(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn short(&mut self, offset: usize, value: i16) {
        self.raw(offset, &value.to_le_bytes());
    }

    /// The caller picks version 2 for extents beyond `i16`.
    pub(super) fn extent(&mut self, offset: usize, index: usize, value: i64) {
        match self.version {
            Version::One => self.short(offset + 2 * index, value as i16),
            Version::Two => self.raw(offset + 8 * index, &value.to_le_bytes()),
        }
    }

    /// The caller picks version 2 for codes beyond `i16`.
    pub(super) fn code(&mut self, offset: usize, value: i32) {
        match self.version {
            Version::One => self.short(offset, value as i16),
            Version::Two => self.raw(offset, &value.to_le_bytes()),
        }
    }

    /// The caller picks version 2 for units beyond a byte.
    pub(super) fn units(&mut self, offset: usize, value: i32) {
        match self.version {
            Version::One => self.raw(offset, &[value as u8]),
            Version::Two => self.raw(offset, &value.to_le_bytes()),
        }
    }

    /// The caller picks version 2 where `f32` would round.
    pub(super) fn real(&mut self, offset: usize, index: usize, value: f64) {
        match self.version {
            Version::One => self.raw(offset + 4 * index, &(value as f32).to_le_bytes()),
            Version::Two => self.raw(offset + 8 * index, &value.to_le_bytes()),
        }
    }

    pub(super) fn reals(&mut self, offset: usize, values: &[f64]) {
        for (index, &value) in values.iter().enumerate() {
            self.real(offset, index, value);
        }
    }

    pub(super) fn byte_offset(&mut self, offset: usize, value: u16) {
        match self.version {
            Version::One => self.real(offset, 0, f64::from(value)),
            Version::Two => self.extent(offset, 0, i64::from(value)),
        }
    }
}
