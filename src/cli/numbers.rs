//! Numbers on the command line: counts, and the extents of patches.

use std::str::FromStr;

/// A whole number from 1 on.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n >= 1 => Ok(n),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}

/// The extent of a patch in voxels: D,H,W, or H,W in a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchExtent {
    /// H, W.
    Plane([usize; 2]),
    /// D, H, W.
    Volume([usize; 3]),
}

impl PatchExtent {
    /// D, H, W of data that lie in a plane or not; what is wrong where they do not.
    pub(super) fn extent(self, is_plane: bool) -> Result<[usize; 3], String> {
        match self {
            Self::Volume(extent) => Ok(extent),
            Self::Plane([height, width]) if is_plane => Ok([1, height, width]),
            Self::Plane([height, width]) => Err(format!(
                "--patch {height},{width} is H,W, for 2D data; these are volumes, give D,H,W"
            )),
        }
    }
}

impl FromStr for PatchExtent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[d, h, w]) if ![d, h, w].contains(&0) => Ok(Self::Volume([d, h, w])),
            Some(&[h, w]) if ![h, w].contains(&0) => Ok(Self::Plane([h, w])),
            _ => Err(format!(
                "expected three numbers above 0, D,H,W (H,W for 2D data), found `{text}`"
            )),
        }
    }
}

/// Digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_have_two_or_three_numbers_above_zero() {
        let plane: PatchExtent = "64,96".parse().unwrap();
        assert_eq!(plane.extent(true), Ok([1, 64, 96]));
        assert!(plane.extent(false).unwrap_err().contains("D,H,W"));
        let volume: PatchExtent = "8, 64,96".parse().unwrap();
        assert_eq!(volume.extent(true), Ok([8, 64, 96]));
        for wrong in ["", "64", "0,64,64", "8,64,64,1", "8,-64,64", "a,b,c"] {
            assert!(wrong.parse::<PatchExtent>().is_err(), "{wrong}");
        }
        assert_eq!(at_least_one("7"), Ok(7));
        assert!(at_least_one("0").is_err() && at_least_one("-5").is_err());
    }
}
