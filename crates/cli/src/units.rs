//! Sizes and times for people, as Docker's `go-units` writes them.

use base::Timestamp;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Returns a size in units of 1000 with four significant digits (`units.HumanSize`).
pub(crate) fn human_size(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// Returns a size in units of 1000 with `digits` significant ones.
pub(crate) fn human_size_digits(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, &DECIMAL, digits)
}

/// Returns a size in units of 1024 with four significant digits (`units.BytesSize`).
pub(crate) fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(mut size: f64, base: f64, units: &[&'static str], digits: usize) -> String {
    let mut index = 0;
    while size >= base && index + 1 < units.len() {
        size /= base;
        index += 1;
    }
    let unit = units.get(index).copied().unwrap_or_default();
    format!("{}{unit}", significant(size, digits))
}

/// Formats as Go's `%.Ng`: N significant digits, no trailing zeros, an exponent only for what is too long.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:.*e}", digits.saturating_sub(1), value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent;
    trim(&format!("{value:.*}", usize::try_from(decimals).unwrap_or(0)))
}

/// Returns a time span the way people say it (`units.HumanDuration`).
pub(crate) fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Go rounds the hours, and only the hours, to the nearest.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Returns the present time.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// Returns how long ago a time was, with `ago`; nothing for "never".
pub(crate) fn ago(time: Timestamp) -> String {
    if time.is_zero() {
        return "N/A".to_owned();
    }
    let seconds = now().as_secs() - time.as_secs();
    format!("{} ago", human_duration(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expect) in [
            (0.0, "0B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (1_992_356.0, "1.992MB"),
            (1_500_000_000.0, "1.5GB"),
            (123_456_789.0, "123.5MB"),
        ] {
            assert_eq!(human_size(bytes), expect);
        }
        assert_eq!(human_size_digits(1_992_356.0, 3), "1.99MB");
        assert_eq!(binary_size(6_291_456.0), "6MiB");
        assert_eq!(binary_size(1_572_864.0), "1.5MiB");
    }

    #[test]
    fn spans() {
        let hour = 3600;
        for (seconds, expect) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (179, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (hour, "About an hour"),
            (hour + 1800, "2 hours"),
            (47 * hour, "47 hours"),
            (48 * hour, "2 days"),
            (14 * 24 * hour, "2 weeks"),
            (60 * 24 * hour, "2 months"),
            (3 * 365 * 24 * hour, "3 years"),
        ] {
            assert_eq!(human_duration(seconds), expect, "{seconds}");
        }
    }
}
