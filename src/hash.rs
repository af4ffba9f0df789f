//! One hash for cache keys, random streams and configurations.

/// FNV-1a with 64 bits: the standard library's hash may differ from one release to the next, and would have all cases
/// prepared again, weights start otherwise and checkpoints refused.
pub(crate) struct Fnv(u64);

impl Fnv {
    /// The hash of nothing.
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The hash of `bytes` alone.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::new();
        hash.add(bytes);
        hash.finish()
    }

    /// Takes in more bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash of all that was taken in.
    pub fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_standard() {
        assert_eq!(Fnv::of(b"foobar"), 0x8594_4171_f739_67e8);
        let mut parts = Fnv::new();
        parts.add(b"foo");
        parts.add(b"bar");
        assert_eq!(parts.finish(), Fnv::of(b"foobar"));
    }
}
