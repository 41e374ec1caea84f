//! Durations (`500ms 30s 5m 1h 7d 2w`) and sizes (`128 kb mb gb`), one spelling everywhere.

use std::time::Duration;

use thiserror::Error;

/// Why a duration or size could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("`{0}` is not a duration: write a number with a unit, such as 500ms, 30s, 5m, 1h, 7d or 1h30m")]
    Duration(String),
    /// Not a size.
    #[error("`{0}` is not a size: write a number of bytes, or one with a unit, such as 512kb, 256mb or 1gb")]
    Size(String),
}

const DURATION_UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Reads `500ms`, `30s`, `5m`, `1h`, `7d`, `2w`, sums such as `1h30m`, fractions such as `1.5s`, and a bare `0`.
/// Precision is one millisecond; at most 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    const MAX_MILLIS: f64 = 100.0 * 365.0 * 86_400_000.0;
    let fail = || UnitError::Duration(text.to_owned());
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut millis = 0.0_f64;
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(fail)?;
        let number: f64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit = &rest[..letters];
        rest = &rest[letters..];
        let (_, factor) = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(fail)?;
        #[expect(clippy::cast_precision_loss, reason = "the factors are small")]
        {
            millis += number * *factor as f64;
        }
    }
    if millis > MAX_MILLIS {
        return Err(fail());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded and not negative"
    )]
    Ok(Duration::from_millis(millis.round() as u64))
}

/// Writes a duration in the largest unit that keeps it exact; [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor))
        .copied()
        .unwrap_or(("ms", 1));
    format!("{}{unit}", millis / factor)
}

/// Reads a size in bytes: `128`, `512kb`, `256mb`, `1gb` (powers of 1024; `k`, `m`, `g` and capitals too).
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let fail = || UnitError::Size(text.to_owned());
    let trimmed = text.trim().to_ascii_lowercase();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let number: u64 = trimmed[..digits].parse().map_err(|_| fail())?;
    let factor = match trimmed[digits..].trim() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return Err(fail()),
    };
    number.checked_mul(factor).ok_or_else(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        let check = |text: &str, millis: u64| {
            let parsed = parse_duration(text).expect(text);
            assert_eq!(parsed.as_millis(), u128::from(millis), "{text}");
            assert_eq!(parse_duration(&format_duration(parsed)), Ok(parsed));
        };
        check("0", 0);
        check("500ms", 500);
        check("30s", 30_000);
        check("1.5s", 1_500);
        check("1h30m", 5_400_000);
        check("7d", 604_800_000);
        for bad in ["", "5", "s", "5 parsecs", "-1s", "1e9d", "9999999w"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("128"), Ok(128));
        assert_eq!(parse_size("256mb"), Ok(256 << 20));
        assert_eq!(parse_size("1 GB"), Ok(1 << 30));
        for bad in ["", "mb", "1.5mb", "-1", "99999999999gb"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
