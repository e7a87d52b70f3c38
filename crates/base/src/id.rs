//! Identifiers: parsed once at the edge, then trusted.

use std::fmt;

/// 256 bits, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HexId([u8; 32]);

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid identifier {0:?}: 64 lower-case hexadecimal digits are needed")]
pub struct InvalidId(String);

impl HexId {
    /// Makes an identifier of 32 (random) bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId(text.to_owned());
        if text.len() != 64 {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let [high, low] = pair else { return Err(invalid()) };
            let (Some(high), Some(low)) = (nibble(*high), nibble(*low)) else { return Err(invalid()) };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    /// Returns the first 12 digits, as command lines show them.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for HexId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

/// Identifies a container.
pub type ContainerId = HexId;
/// Identifies a network.
pub type NetworkId = HexId;
/// Identifies an exec instance.
pub type ExecId = HexId;

/// The name of a volume: `[a-zA-Z0-9][a-zA-Z0-9_.-]+` (moby, `RestrictedNamePattern`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeName(String);

impl VolumeName {
    /// Parses a volume name; `None` if it has a character that is not allowed or fewer than two.
    pub fn parse(text: &str) -> Option<Self> {
        is_restricted_name(text).then(|| Self(text.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Says whether `text` matches `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, the pattern of container and volume names.
pub fn is_restricted_name(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|first| first.is_ascii_alphanumeric());
    first
        && text.len() >= 2
        && characters.all(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_is_the_inverse_of_display() {
        let id = HexId::from_bytes(std::array::from_fn(|index| u8::try_from(index * 7).unwrap()));
        assert_eq!(HexId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.short(), "00070e151c23");
        assert!(HexId::parse("00").is_err());
        assert!(HexId::parse(&"G".repeat(64)).is_err());
        assert!(HexId::parse(&"é".repeat(32)).is_err());
    }

    #[test]
    fn names_need_two_allowed_characters() {
        for (name, fits) in
            [("ab", true), ("a", false), ("", false), ("-a", false), ("a_.-9", true), ("a b", false)]
        {
            assert_eq!(is_restricted_name(name), fits, "{name}");
        }
    }
}
