//! API versions: `1.51`, compared by number.

use std::fmt;
use std::str::FromStr;

/// A version of the Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

impl ApiVersion {
    /// The oldest version that is served.
    pub const MIN: Self = Self::new(1, 24);
    /// The newest version that is served.
    pub const MAX: Self = Self::new(1, 51);

    /// Makes a version of its two numbers.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

/// A text that is no API version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version: {0}")]
pub struct InvalidVersion(pub String);

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    /// Takes `1.51`, with or without a leading `v`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVersion(text.to_owned());
        let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.').ok_or_else(invalid)?;
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten().ok_or_else(invalid)
        };
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_by_number() {
        let parse = |text: &str| text.parse::<ApiVersion>();
        assert!(parse("1.9").unwrap() < parse("1.24").unwrap());
        assert_eq!(parse("v1.51"), Ok(ApiVersion::MAX));
        assert_eq!(parse("1.24").map(|version| version.to_string()), Ok("1.24".to_owned()));
        for bad in ["", "1", "1.", "1.x", "1.+5", "vv1.2"] {
            assert_eq!(parse(bad), Err(InvalidVersion(bad.to_owned())));
        }
    }
}
