//! Sizes as Docker's `go-units` reads them.

/// What `k`, `m`, `g` multiply by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiple {
    /// 1000, as of disks (`units.FromHumanSize`).
    Decimal,
    /// 1024, as of memory (`units.RAMInBytes`).
    Binary,
}

/// Parses a size in bytes: `64m`, `1.5 GB`, `64KiB`, in any letter case; an `i` changes nothing.
///
/// # Errors
///
/// `go-units`' texts: `invalid size: 'TEXT'`, `invalid suffix: 'UNIT'`.
pub fn parse(text: &str, multiple: Multiple) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|letter: char| letter.is_ascii_digit() || letter == '.').ok_or_else(invalid)? + 1;
    let (number, suffix) = text.split_at_checked(end).ok_or_else(invalid)?;
    let value: f64 = number.parse().map_err(|_not_a_number| invalid())?;
    if value < 0.0 {
        return Err(invalid());
    }
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    let factor: f64 = match multiple {
        Multiple::Decimal => 1000.0,
        Multiple::Binary => 1024.0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "sizes beyond the range saturate, as is right")]
    let bytes = (value * factor.powi(power)) as i64;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_leniently() {
        for (text, binary, decimal) in [
            ("32", 32, 32),
            ("32b", 32, 32),
            ("32 kb", 32_768, 32_000),
            ("1.5GiB", 1_610_612_736, 1_500_000_000),
            ("0.5k", 512, 500),
        ] {
            assert_eq!(parse(text, Multiple::Binary), Ok(binary), "{text}");
            assert_eq!(parse(text, Multiple::Decimal), Ok(decimal), "{text}");
        }
        for (text, why) in [
            ("", "invalid size: ''"),
            ("x", "invalid size: 'x'"),
            ("-1", "invalid size: '-1'"),
            ("1.2.3", "invalid size: '1.2.3'"),
            ("1x", "invalid suffix: 'x'"),
            ("1  k", "invalid suffix: ' k'"),
        ] {
            assert_eq!(parse(text, Multiple::Binary), Err(why.to_owned()));
        }
    }
}
