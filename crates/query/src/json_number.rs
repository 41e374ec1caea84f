//! Numbers inside json compared with a number that a caller wrote, with the same result in memory as in SQL.
//!
//! SQLite's conversion of decimal text can be off in the last bit, so a number of the document that lies within
//! [`NEAR`] of the needle is never compared as two floats that were read by two parsers. There, whole numbers of 64
//! bits are compared exactly, numbers that are written alike are equal, and numbers of at most [`MAX_BY_VALUE`]
//! characters are compared by value, as they differ by more than that last bit. What is left is unknown: two long
//! fractions that agree in their first 14 digits and are not written alike.

use std::cmp::Ordering;

use alyx_core::Value;

use crate::json_contains::{MAX_BY_VALUE, by_value};

/// Relative distance beyond which both parsers surely agree on the order: some 40 steps of a float.
const NEAR: f64 = 1e-14;
/// What is closer to zero counts as zero: there, floats lose their precision.
const TINY: f64 = 1e-290;

/// A number to compare with.
pub(crate) struct Needle<'n> {
    text: &'n str,
    /// The number, where it is whole and has 64 bits.
    pub(crate) whole: Option<i64>,
    /// Less than the first is less, more than the second is greater; between them it must be looked at.
    pub(crate) near: (f64, f64),
    /// Whether all that is near is equal.
    pub(crate) zero: bool,
    /// Whether short numbers are compared by value.
    pub(crate) by_value: Option<f64>,
}

impl<'n> Needle<'n> {
    /// The number of that JSON spelling.
    pub(crate) fn new(text: &'n str) -> Self {
        let value: f64 = text.parse().unwrap_or(0.0);
        let margin = (value.abs() * NEAR).max(TINY);
        Self {
            text,
            whole: text.parse().ok(),
            near: (value - margin, value + margin),
            zero: value.abs() < TINY,
            by_value: by_value(text),
        }
    }

    /// How the number that is written so in a document stands to this one; `None` where that is not certain.
    pub(crate) fn compare(&self, raw: &str) -> Option<Ordering> {
        let found = match raw.parse::<i64>() {
            Ok(whole) => Value::Int(whole),
            Err(_) => Value::Float(raw.parse().ok()?),
        };
        if let (Value::Int(found), Some(whole)) = (&found, self.whole) {
            return Some(found.cmp(&whole));
        }
        if found.sql_cmp(&Value::Float(self.near.0)).is_lt() {
            return Some(Ordering::Less);
        }
        if found.sql_cmp(&Value::Float(self.near.1)).is_gt() {
            return Some(Ordering::Greater);
        }
        if self.zero || raw == self.text {
            return Some(Ordering::Equal);
        }
        let value = self.by_value.filter(|_| raw.len() <= MAX_BY_VALUE)?;
        Some(found.sql_cmp(&Value::Float(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_exactly_or_not_at_all() {
        let check = |found: &str, needle: &str, expected: Option<Ordering>| {
            assert_eq!(
                Needle::new(needle).compare(found),
                expected,
                "{found} with {needle}"
            );
        };
        check("1", "2", Some(Ordering::Less));
        check("1.5", "1.50", Some(Ordering::Equal));
        check("1e2", "100", Some(Ordering::Equal));
        check("9007199254740993", "9007199254740992", Some(Ordering::Greater));
        check(
            "9223372036854775807",
            "9223372036854775806",
            Some(Ordering::Greater),
        );
        check("9223372036854775808", "9223372036854775807", None);
        check(
            "0.30000000000000004",
            "0.30000000000000004",
            Some(Ordering::Equal),
        );
        check("0.30000000000000004", "0.3", None);
        check("0.3000000001", "0.3", Some(Ordering::Greater));
        check("-0.0", "0", Some(Ordering::Equal));
        check("5e-324", "0", Some(Ordering::Equal));
        check("1e400", "1e308", Some(Ordering::Greater));
    }
}
