//! Bodies of create and update requests.

use alyx_core::{Result, Row, Value, new_short_id, new_uuid_v7};

use super::problems::{Problems, quoted};
use super::scalar;
use super::token::{Token, for_each_member};
use crate::model::{Collection, DefaultValue, Field, FieldType};
use alyx_core::nearest;

/// Reads the JSON object of a create request into a complete row, in column order. Defaults are filled in; a
/// `uuid` or `id` with `default: auto` gets a fresh one where the body has none, null, `""` or `"auto"`; an
/// `int` one stays [`Value::Null`] for the database to number. `now` is the time of the request in the
/// product's form.
///
/// # Errors
/// `INVALID_JSON` with line and column, or `VALIDATION_ERROR` with every problem in `details`.
pub fn read_create(collection: &Collection, body: &[u8], now: &str) -> Result<Row> {
    let mut reader = Reader::new(collection, now);
    for_each_member(body, |key, token| {
        let Some(position) = reader.locate(&key) else {
            return;
        };
        let field = &collection.fields[position];
        let value = if means_absent(field, token) {
            None
        } else {
            Some(reader.value(field, token))
        };
        reader.put(position, value);
    })?;
    for (field, slot) in collection.fields.iter().zip(&mut reader.slots) {
        if slot.value.is_none() {
            slot.value = absent(field, now);
        }
        if slot.value.is_none() {
            require(field, &mut reader.problems);
        }
    }
    reader.problems.into_result()?;
    Ok(reader
        .slots
        .into_iter()
        .map(|slot| slot.value.unwrap_or_default())
        .collect())
}

/// Reads the JSON object of an update into the fields it sets, by ascending position. The primary field and
/// fields with `onUpdate: now` may be present and are not taken from the body; the latter are always set.
///
/// # Errors
/// As [`read_create`]; naming an internal field is a problem too.
pub fn read_update(collection: &Collection, body: &[u8], now: &str) -> Result<Vec<(usize, Value)>> {
    let mut reader = Reader::new(collection, now);
    for_each_member(body, |key, token| {
        let Some(position) = reader.locate(&key) else {
            return;
        };
        let field = &collection.fields[position];
        let value = if field.primary || field.on_update_now {
            None
        } else if field.internal {
            let message = format!("`{key}` is internal: it can be set on create and not changed");
            reader.problems.add(&key, "read_only", message);
            None
        } else {
            Some(reader.value(field, token))
        };
        reader.put(position, value);
    })?;
    reader.problems.into_result()?;
    let fields = collection.fields.iter().zip(reader.slots).enumerate();
    Ok(fields
        .filter_map(|(position, (field, slot))| {
            let value = if field.on_update_now {
                Some(Value::from(now))
            } else {
                slot.value
            };
            value.map(|value| (position, value))
        })
        .collect())
}

/// Whether all that an update sets is when it was made, so that there is nothing to update.
pub fn is_touch(collection: &Collection, changes: &[(usize, Value)]) -> bool {
    changes
        .iter()
        .all(|(position, _)| collection.fields[*position].on_update_now)
}

/// What one field got from the body.
#[derive(Debug, Clone, Default)]
struct Slot {
    named: bool,
    value: Option<Value>,
}

struct Reader<'c> {
    collection: &'c Collection,
    now: &'c str,
    slots: Vec<Slot>,
    problems: Problems,
    /// Where the next key is looked for first: bodies mostly follow the order of the fields.
    next: usize,
}

impl<'c> Reader<'c> {
    fn new(collection: &'c Collection, now: &'c str) -> Self {
        Self {
            collection,
            now,
            slots: vec![Slot::default(); collection.fields.len()],
            problems: Problems::default(),
            next: 0,
        }
    }

    /// The position of a field that is there and was not named before; else the problem is noted.
    fn locate(&mut self, key: &str) -> Option<usize> {
        let collection = self.collection;
        let guess = collection.fields.get(self.next).filter(|field| field.name == key);
        let position = match guess {
            Some(_) => self.next,
            None => match collection.field(key) {
                Some((position, _)) => position,
                None => {
                    self.unknown(key);
                    return None;
                }
            },
        };
        self.next = position + 1;
        if self.slots[position].named {
            let message = format!("`{key}` occurs more than once");
            self.problems.add(key, "duplicate_field", message);
            return None;
        }
        Some(position)
    }

    fn unknown(&mut self, key: &str) {
        let visible = self.collection.fields.iter().filter(|field| !field.internal);
        let hint = match nearest(key, visible.map(|field| field.name.as_str())) {
            Some(name) => format!(" (did you mean `{name}`?)"),
            None => String::new(),
        };
        let name = quoted(key);
        let message = format!("`{}` has no field {name}{hint}", self.collection.name);
        self.problems
            .add(name.trim_matches('`'), "unknown_field", message);
    }

    /// The storage value, or a stand-in with the problem noted.
    fn value(&mut self, field: &Field, token: Token<'_>) -> Value {
        if matches!(token, Token::Null) {
            if !field.nullable {
                require(field, &mut self.problems);
            }
            return Value::Null;
        }
        match scalar::convert(field, token, Some(self.now)) {
            Ok(value) => {
                let value = scalar::accept(field, value, &mut self.problems);
                if field.primary && value.as_text() == Some("") {
                    require(field, &mut self.problems);
                }
                value
            }
            Err(misfit) => {
                let message = format!("`{}` {}", field.name, misfit.text);
                self.problems.add(&field.name, misfit.code, message);
                Value::Null
            }
        }
    }

    fn put(&mut self, position: usize, value: Option<Value>) {
        self.slots[position] = Slot { named: true, value };
    }
}

fn require(field: &Field, problems: &mut Problems) {
    let wanted = scalar::expected(field.kind);
    let message = format!("`{}` is required: send {wanted}", field.name);
    problems.add(&field.name, "required", message);
}

/// Whether a create request that says this for the field leaves it to the server.
fn means_absent(field: &Field, token: Token<'_>) -> bool {
    match (&field.default, token) {
        (Some(DefaultValue::Auto), Token::Text("\"\"" | "\"auto\""))
        | (Some(DefaultValue::Now), Token::Text("\"\"")) => true,
        (Some(DefaultValue::Auto | DefaultValue::Now), Token::Null) => !field.nullable,
        _ => false,
    }
}

/// What a field gets that the body leaves out; `None` where it must not be left out.
fn absent(field: &Field, now: &str) -> Option<Value> {
    match &field.default {
        Some(DefaultValue::Auto) if field.kind == FieldType::Int => Some(Value::Null),
        Some(DefaultValue::Auto) if field.kind == FieldType::Id => Some(Value::from(new_short_id())),
        Some(DefaultValue::Auto) => Some(Value::from(new_uuid_v7())),
        Some(DefaultValue::Now) => Some(scalar::now_value(field.kind, now)),
        Some(DefaultValue::Literal(value)) => Some(value.clone()),
        None if field.nullable => Some(Value::Null),
        None if field.on_update_now => Some(Value::from(now)),
        None => None,
    }
}
