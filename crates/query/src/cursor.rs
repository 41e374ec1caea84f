//! Cursors: where a page ended, as a text that callers hand back as they got it.
//!
//! A cursor holds the sort keys of the last row and is bound to the order that it was made for. It is no secret and
//! not signed: its values are bound as parameters like any other that a caller sends.

use alyx_core::{Error, ErrorKind, Result, Value};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ast::Query;

/// First byte of every cursor; another layout gets another one.
const VERSION: u8 = 1;
/// Bytes of a cursor before its encoding at most: keys of more than that cannot be handed back in a URL.
const MAX_BYTES: usize = 6 * 1024;

const NULL: u8 = 0;
const INT: u8 = 1;
const FLOAT: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;

impl Query {
    /// The cursor of the page that ends with that row; `None` where its sort keys are too long for one.
    pub fn cursor(&self, row: &[Value]) -> Option<String> {
        let mut out = Vec::with_capacity(64);
        out.push(VERSION);
        out.extend_from_slice(&self.order_mark().to_le_bytes());
        for key in &self.sort {
            match row.get(key.field).unwrap_or(&Value::Null) {
                Value::Null => out.push(NULL),
                Value::Int(int) => put(&mut out, INT, &int.to_le_bytes()),
                Value::Float(float) => put(&mut out, FLOAT, &float.to_le_bytes()),
                Value::Text(text) => put_long(&mut out, TEXT, text.as_bytes())?,
                Value::Blob(bytes) => put_long(&mut out, BLOB, bytes)?,
            }
        }
        (out.len() <= MAX_BYTES).then(|| URL_SAFE_NO_PAD.encode(out))
    }

    /// The sort keys in a cursor, for [`Query::select_from`].
    ///
    /// # Errors
    /// `INVALID_QUERY` where it is no cursor, or one of another order.
    pub fn read_cursor(&self, cursor: &str) -> Result<Vec<Value>> {
        let invalid =
            |message: &str| Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message).with_field("after");
        let not_one = || invalid("`after` is no cursor: give the `next` of the page before, as it is");
        if cursor.len() > MAX_BYTES * 2 {
            return Err(not_one());
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| not_one())?;
        let mut rest = Bytes(&bytes);
        if rest.take(1) != Some(&[VERSION]) {
            return Err(not_one());
        }
        let mark = rest.number().map(u64::from_le_bytes).ok_or_else(not_one)?;
        if mark != self.order_mark() {
            return Err(invalid(
                "`after` is the cursor of another order: ask with the collection and `sort` that it came with, or \
                 begin without `after`",
            ));
        }
        let keys = self.sort.iter().map(|_| rest.value().ok_or_else(not_one));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        if rest.0.is_empty() {
            Ok(keys)
        } else {
            Err(not_one())
        }
    }

    /// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>) of the collection and the sort keys by name and type, so
    /// that it outlives a restart and a schema that only gains fields.
    fn order_mark(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes.iter().chain(&[0]) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        add(self.collection.name.as_bytes());
        for key in &self.sort {
            let field = &self.collection.fields[key.field];
            add(field.name.as_bytes());
            add(field.kind.name().as_bytes());
            add(if key.descending { b"-" } else { b"+" });
        }
        hash
    }
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn put_long(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) -> Option<()> {
    let length = u16::try_from(bytes.len()).ok()?;
    put(out, tag, &length.to_le_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

/// What is not read yet.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.try_into().ok()
    }

    fn long(&mut self) -> Option<&'b [u8]> {
        let length = self.take(2)?.try_into().ok().map(u16::from_le_bytes)?;
        self.take(usize::from(length))
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.take(1)? {
            [NULL] => Value::Null,
            [INT] => Value::Int(i64::from_le_bytes(self.number()?)),
            [FLOAT] => {
                Value::Float(Some(f64::from_le_bytes(self.number()?)).filter(|float| !float.is_nan())?)
            }
            [TEXT] => {
                let text = std::str::from_utf8(self.long()?).ok()?;
                Value::from(Some(text).filter(|text| !text.contains('\0'))?)
            }
            [BLOB] => Value::Blob(self.long()?.into()),
            _ => return None,
        })
    }
}
