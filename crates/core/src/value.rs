//! A value as the database stores it.

use std::cmp::Ordering;
use std::sync::Arc;

/// A storage value of SQLite (<https://www.sqlite.org/datatype3.html>), cheap to clone.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// SQL `NULL`.
    #[default]
    Null,
    /// `INTEGER`: signed, 64 bits.
    Int(i64),
    /// `REAL`: IEEE 754, 64 bits; never NaN.
    Float(f64),
    /// `TEXT`: UTF-8.
    Text(Arc<str>),
    /// `BLOB`.
    Blob(Arc<[u8]>),
}

impl Value {
    /// A text value.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// Whether this is SQL `NULL`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, where this is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Int(_) | Self::Float(_) | Self::Blob(_) => None,
        }
    }

    /// The integer, where this is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            Self::Null | Self::Float(_) | Self::Text(_) | Self::Blob(_) => None,
        }
    }

    /// Order of `ORDER BY … ASC` with the `BINARY` collation: NULL, then numbers, text, blobs.
    /// Integers and floats compare by exact numeric value, as SQLite does. Total.
    pub fn sql_cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Int(a), Self::Float(b)) => cmp_int_float(*a, *b),
            (Self::Float(a), Self::Int(b)) => cmp_int_float(*b, *a).reverse(),
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            _ => self.storage_class().cmp(&other.storage_class()),
        }
    }

    fn storage_class(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Int(_) | Self::Float(_) => 1,
            Self::Text(_) => 2,
            Self::Blob(_) => 3,
        }
    }
}

/// Exact comparison: converting the integer to a float first would lose precision above 2^53.
fn cmp_int_float(int: i64, float: f64) -> Ordering {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    if float >= TWO_POW_63 {
        return Ordering::Less;
    }
    if float < -TWO_POW_63 {
        return Ordering::Greater;
    }
    let truncated = float.trunc();
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let whole = truncated as i64;
    int.cmp(&whole).then_with(|| {
        0.0_f64
            .partial_cmp(&(float - truncated))
            .unwrap_or(Ordering::Equal)
    })
}

/// Equality of storage values: `NULL` equals `NULL` here (identity, not SQL's `=`), and `1` equals `1.0`.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.sql_cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<f64> for Value {
    fn from(float: f64) -> Self {
        Self::Float(float)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Int(i64::from(truth))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_sqlite_orders() {
        let ascending = [
            Value::Null,
            Value::Float(f64::NEG_INFINITY),
            Value::Int(i64::MIN),
            Value::Float(-0.5),
            Value::Int(0),
            Value::Float(0.5),
            Value::Int(9_007_199_254_740_992),
            Value::Int(9_007_199_254_740_993),
            Value::Int(i64::MAX),
            Value::Float(9_223_372_036_854_775_808.0),
            Value::text(""),
            Value::text("Z"),
            Value::text("a"),
            Value::Blob([0_u8].as_slice().into()),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.sql_cmp(b), i.cmp(&j), "{a:?} against {b:?}");
            }
        }
    }

    #[test]
    fn an_integer_equals_the_float_of_the_same_value() {
        assert_eq!(Value::Int(1), Value::Float(1.0));
        assert_ne!(
            Value::Int(9_007_199_254_740_993),
            Value::Float(9_007_199_254_740_992.0)
        );
    }
}
