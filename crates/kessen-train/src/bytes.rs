//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A number of bytes, written as `2GB`, `1.5 GiB`, `800MB`: kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB of
/// 1024; without a unit it is bytes.
///
/// ```
/// use kessen_train::Bytes;
/// assert_eq!("1.5 GiB".parse::<Bytes>()?, Bytes(3 << 29));
/// assert_eq!(Bytes(2_000_000_000).to_string(), "2GB");
/// assert!("2 apples".parse::<Bytes>().is_err());
/// # Ok::<(), kessen_train::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub usize);

/// Units with their bytes, larger ones first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse =
            || Error::option("memory_limit", format!("`{text}`"), "a size such as 2GB, 1.5GiB or 800MB");
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = (text[..split].trim(), text[split..].trim());
        let unit = if unit.is_empty() { "B" } else { unit };
        let (_, scale) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(refuse)?;
        let bytes = number.parse::<f64>().map_err(|_| refuse())? * *scale as f64;
        if !(bytes >= 1.0 && bytes < usize::MAX as f64) {
            return Err(refuse());
        }
        Ok(Self(bytes as usize))
    }
}

impl fmt::Display for Bytes {
    /// In the largest unit that leaves a whole number, so that it reads back as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let (unit, scale) = UNITS.iter().find(|(_, scale)| bytes.is_multiple_of(*scale)).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", bytes / scale)
    }
}

impl TryFrom<String> for Bytes {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_they_were_written() {
        for bytes in [1, 999, 1000, 1024, 123_456_789, 2_000_000_000, 3 << 29, 5 << 40] {
            assert_eq!(Bytes(bytes).to_string().parse::<Bytes>().unwrap(), Bytes(bytes));
        }
        assert_eq!("0.5kb".parse::<Bytes>().unwrap(), Bytes(500));
        assert_eq!(" 800 MB".trim().parse::<Bytes>().unwrap(), Bytes(800_000_000));
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "GB", "-1GB", "2 apples", "1.2.3MB", "0", "1e3MB", "nan", "99999999999TB"] {
            let error = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(error.contains("such as 2GB"), "{text}: {error}");
        }
    }
}
