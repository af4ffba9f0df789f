//! How the elements of a tensor are stored.

/// The type of a stored element. Arithmetic is in f32 whatever the storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16: 11 significant bits, at most 65504.
    F16,
}

impl Element {
    /// Size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}
