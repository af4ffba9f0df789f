//! Sizes in bytes as people write them: `512MiB`, `1.5 GiB`, `2GB`, `1048576`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Units, the largest binary ones first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "BytesText", into = "BytesText")]
pub struct Bytes(pub u64);

/// A size as it stands in files: a number of bytes, or text with a unit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum BytesText {
    Number(u64),
    Text(String),
}

impl TryFrom<BytesText> for Bytes {
    type Error = String;

    fn try_from(text: BytesText) -> Result<Self, String> {
        match text {
            BytesText::Number(n) => Ok(Self(n)),
            BytesText::Text(text) => text.parse(),
        }
    }
}

impl From<Bytes> for BytesText {
    fn from(bytes: Bytes) -> Self {
        Self::Text(bytes.to_string())
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let unit = unit.trim();
        let factor = match unit {
            "" => Some(1),
            unit => UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|&(_, factor)| factor),
        };
        let scale = |factor: u64| match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(factor),
            Err(_) => {
                let bytes = number.parse::<f64>().ok()? * factor as f64;
                (bytes < u64::MAX as f64).then_some(bytes.round() as u64)
            }
        };
        factor.and_then(scale).map(Self).ok_or_else(|| {
            format!("{text:?} is no size in bytes; write a number with or without a unit, such as 512MiB, 1.5GiB or 2GB")
        })
    }
}

impl fmt::Display for Bytes {
    /// With the largest binary unit in which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS[..4]
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            (" 2 GiB ", 2 << 30),
            ("1.5gib", 3 << 29),
            ("2GB", 2_000_000_000),
            ("7B", 7),
            (".5KiB", 512),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_examples() {
        for text in [
            "",
            "MiB",
            "12 apples",
            "-1",
            "1.2.3MiB",
            "99999999TiB",
            "1e3",
            "nan",
        ] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.contains("512MiB"), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_can_be_read() {
        for bytes in [0, 1, 1023, 1024, 3 << 20, (3 << 30) + 1, 5 << 40] {
            let text = Bytes(bytes).to_string();
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!(Bytes(512 << 20).to_string(), "512MiB");
    }
}
