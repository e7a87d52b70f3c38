//! The texts of flags and answers as values, with Go's wording of what is wrong with them.

use base::size::{self, Multiple};

/// Parses Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text))),
    }
}

/// Parses Go's `strconv.ParseInt` of base 0: decimal, or `0x`, `0o`, `0b`, `0`.
pub(crate) fn int(text: &str) -> Result<i64, String> {
    let failed = |why: &str| format!("strconv.ParseInt: parsing {}: {why}", quote(text));
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = magnitude(digits).ok_or_else(|| failed("invalid syntax"))?;
    let value = if negative { -value } else { value };
    i64::try_from(value).map_err(|_out_of_range| failed("value out of range"))
}

/// Parses Go's `strconv.ParseUint` of base 0, up to `max`.
pub(crate) fn uint(text: &str, max: u64) -> Result<u64, String> {
    let failed = |why: &str| format!("strconv.ParseUint: parsing {}: {why}", quote(text));
    let value = magnitude(text).ok_or_else(|| failed("invalid syntax"))?;
    match u64::try_from(value) {
        Ok(value) if value <= max => Ok(value),
        Ok(_) | Err(_) => Err(failed("value out of range")),
    }
}

fn magnitude(text: &str) -> Option<i128> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, text.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, text.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, text.get(2..)?),
        [b'0', _, ..] => (8, text.get(1..)?),
        _ => (10, text),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
        return None;
    }
    i128::from_str_radix(digits, radix).ok().or(Some(i128::MAX))
}

/// Parses a size in bytes, in units of 1024 (`units.RAMInBytes`).
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    size::parse(text, Multiple::Binary)
}

/// Parses a size in bytes, or `-1`; the empty text is 0.
pub(crate) fn swap_bytes(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        "" => Ok(0),
        _ => bytes(text),
    }
}

/// Parses a number of processors into billionths (`opts.ParseCPUs`).
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let failed = || format!("failed to parse {text} as a rational number");
    if let Some((numerator, denominator)) = text.split_once('/') {
        let number = |part: &str| part.parse::<i128>().map_err(|_not_a_number| failed());
        let (numerator, denominator) = (number(numerator)?, number(denominator)?);
        let scaled = numerator.checked_mul(1_000_000_000).ok_or_else(failed)?;
        return match (scaled.checked_rem(denominator), scaled.checked_div(denominator)) {
            (Some(0), Some(value)) => i64::try_from(value).map_err(|_out_of_range| failed()),
            (Some(_), _) => Err("value is too precise".to_owned()),
            (None, _) => Err(failed()),
        };
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let all_digits = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(failed());
    }
    if fraction.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let value: i64 = format!("{whole}{fraction:0<9}").parse().map_err(|_out_of_range| failed())?;
    Ok(if negative { -value } else { value })
}

/// Parses Go's `time.ParseDuration` into nanoseconds; the empty text is 0.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_f64;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(end).ok_or_else(invalid)?;
        let number: f64 = number.parse().map_err(|_not_a_number| invalid())?;
        let end = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).ok_or_else(invalid)?;
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            _ => return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text))),
        };
        total += number * scale;
        rest = after;
    }
    if total > 9.2e18 {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let nanos = total.round() as i64;
    Ok(if negative { -nanos } else { nanos })
}

/// Quotes a text as Go's `%q` does.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            letter if letter.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Splits one record of comma-separated values (RFC 4180), as Go's `encoding/csv` reads it.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, String> {
    let wrong = |at: usize, what: &str| Err(format!("parse error on line 1, column {}: {what}", at + 1));
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut letters = text.char_indices().peekable();
    loop {
        let mut field = String::new();
        if letters.next_if(|(_, letter)| *letter == '"').is_some() {
            const QUOTE: &str = "extraneous or missing \" in quoted-field";
            loop {
                match letters.next() {
                    None => return wrong(text.len(), QUOTE),
                    Some((_, '"')) if letters.next_if(|(_, letter)| *letter == '"').is_some() => {
                        field.push('"');
                    }
                    Some((at, '"')) => match letters.peek() {
                        None | Some((_, ',')) => break,
                        Some(_) => return wrong(at, QUOTE),
                    },
                    Some((_, letter)) => field.push(letter),
                }
            }
        } else {
            while let Some((at, letter)) = letters.next_if(|(_, letter)| *letter != ',') {
                if letter == '"' {
                    return wrong(at, "bare \" in non-quoted field");
                }
                field.push(letter);
            }
        }
        fields.push(field);
        if letters.next().is_none() {
            return Ok(fields);
        }
    }
}

/// Splits `key=value`; the value is empty if there is no `=`.
pub(crate) fn key_value(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

/// Turns `key=value` texts into a map; later ones win.
pub(crate) fn map(texts: &[String]) -> api::StringMap {
    texts
        .iter()
        .map(|text| {
            let (key, value) = key_value(text);
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(int("-12"), Ok(-12));
        assert_eq!(int("0x10"), Ok(16));
        assert_eq!(int("x"), Err("strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()));
        assert_eq!(
            int("99999999999999999999"),
            Err("strconv.ParseInt: parsing \"99999999999999999999\": value out of range".to_owned())
        );
        assert_eq!(
            uint("70000", 65_535),
            Err("strconv.ParseUint: parsing \"70000\": value out of range".to_owned())
        );
    }

    #[test]
    fn processors() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".5"), Ok(500_000_000));
        assert_eq!(nano_cpus("1/4"), Ok(250_000_000));
        assert_eq!(nano_cpus("0.0000000001"), Err("value is too precise".to_owned()));
        assert_eq!(nano_cpus("x"), Err("failed to parse x as a rational number".to_owned()));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m30s"), Ok(90_000_000_000));
        assert_eq!(duration("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(duration("-2ms"), Ok(-2_000_000));
        assert_eq!(duration("5"), Err("time: missing unit in duration \"5\"".to_owned()));
        assert_eq!(duration("5y"), Err("time: unknown unit \"y\" in duration \"5y\"".to_owned()));
        assert_eq!(duration("x"), Err("time: invalid duration \"x\"".to_owned()));
    }

    #[test]
    fn records() {
        let split = |text: &str| fields(text).unwrap();
        assert_eq!(split("a,b=c"), ["a", "b=c"]);
        assert_eq!(split(r#"a,"b,c""#), ["a", "b,c"]);
        assert_eq!(split("a,"), ["a", ""]);
        assert_eq!(split(r#""x=""y"" z""#), [r#"x="y" z"#]);
        for (text, why) in [
            ("", "EOF"),
            (r#"a,d"e"#, "parse error on line 1, column 4: bare \" in non-quoted field"),
            (r#"a,"b"#, "parse error on line 1, column 5: extraneous or missing \" in quoted-field"),
            (r#""a"b"#, "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(fields(text), Err(why.to_owned()));
        }
    }
}
