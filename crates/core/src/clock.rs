//! Time, in the one form that the product writes: RFC 3339, UTC, milliseconds (`2026-01-31T12:00:00.000Z`).

use std::time::SystemTime;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// Where the time comes from; tests inject their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time of day.
    fn now(&self) -> SystemTime;

    /// The time of day as the product writes it.
    fn timestamp(&self) -> String {
        format_timestamp(self.now())
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// RFC 3339, UTC, milliseconds: always 24 characters for the years 0 to 9999, so text order is time order.
pub fn format_timestamp(at: SystemTime) -> String {
    write_timestamp(OffsetDateTime::from(at))
}

/// Reads a timestamp leniently (RFC 3339 with any offset and precision, a space for the `T`, no zone meaning
/// UTC, or a date alone) and returns the one form that is stored. `None` where it is no time.
pub fn normalize_timestamp(text: &str) -> Option<String> {
    let text = text.trim();
    if let Ok(at) = OffsetDateTime::parse(&text.replacen(' ', "T", 1), &Rfc3339) {
        return in_range(at).map(write_timestamp);
    }
    let naive = format_description!(
        "[year]-[month]-[day][first [T][ ]][hour]:[minute]:[second][optional [.[subsecond]]]"
    );
    if let Ok(at) = PrimitiveDateTime::parse(text, &naive) {
        return in_range(at.assume_utc()).map(write_timestamp);
    }
    let date = format_description!("[year]-[month]-[day]");
    Date::parse(text, &date)
        .ok()
        .and_then(|date| in_range(date.midnight().assume_utc()))
        .map(write_timestamp)
}

fn in_range(at: OffsetDateTime) -> Option<OffsetDateTime> {
    let at = at.checked_to_offset(UtcOffset::UTC)?;
    (0..=9999).contains(&at.year()).then_some(at)
}

fn write_timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_one_form() {
        assert_eq!(
            format_timestamp(SystemTime::UNIX_EPOCH),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn reads_leniently() {
        let check = |input: &str, expected: Option<&str>| {
            assert_eq!(normalize_timestamp(input).as_deref(), expected, "{input}");
        };
        check("2026-01-31T12:00:00Z", Some("2026-01-31T12:00:00.000Z"));
        check(
            "2026-01-31T12:00:00.123456+02:00",
            Some("2026-01-31T10:00:00.123Z"),
        );
        check("2026-01-31 12:00:00", Some("2026-01-31T12:00:00.000Z"));
        check("2026-01-31T12:00:00.5", Some("2026-01-31T12:00:00.500Z"));
        check("2026-01-31", Some("2026-01-31T00:00:00.000Z"));
        check("2026-02-30", None);
        check("yesterday", None);
        check("", None);
    }
}
