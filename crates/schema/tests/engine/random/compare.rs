//! What must be the same before and after.

use std::collections::BTreeMap;
use std::hash::Hasher;

use alyx_core::{Row, Value};
use alyx_schema::{Collection, FieldType, Schema, search_table};

use super::memory::{Memory, now};

/// What a database holds.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    /// Rows by SQLite's number, which is last, of each collection.
    rows: BTreeMap<String, Vec<Row>>,
    pub(super) logged: Vec<Row>,
}

impl Seen {
    /// Whether a whole number that is to become a float is too large for that.
    pub(super) fn has_beyond_float(&self, from: &Schema, to: &Schema) -> bool {
        let fields = from.collections.values().flat_map(|collection| {
            let fields = collection.fields.iter().enumerate();
            fields.map(move |(at, field)| (collection, at, field))
        });
        let mut converted = fields.filter(|(collection, _, field)| {
            let new = to
                .collection(&collection.name)
                .and_then(|new| new.field(&field.name));
            field.kind == FieldType::Int && new.is_some_and(|(_, new)| new.kind == FieldType::Float)
        });
        converted.any(|(collection, at, _)| {
            let rows = &self.rows[&collection.name];
            rows.iter().any(|row| is_beyond_float(&row[at]))
        })
    }

    /// Into a trace of a run.
    pub(super) fn hash(&self, trace: &mut impl Hasher) {
        trace.write(format!("{:?}", self.rows).as_bytes());
    }

    pub(super) fn of(database: &Memory, schema: &Schema) -> Self {
        let rows = schema.collections.values().map(|collection| {
            let names: Vec<String> = collection
                .fields
                .iter()
                .map(|field| format!("\"{}\"", field.name))
                .collect();
            let sql = format!(
                "SELECT {}, _rowid_ FROM \"{}\" ORDER BY _rowid_",
                names.join(", "),
                collection.name
            );
            (collection.name.clone(), now(database.rows(&sql)))
        });
        Self {
            rows: rows.collect(),
            logged: now(database.rows("SELECT count(*) FROM _alyx_changes")),
        }
    }
}

/// Everything that the database says of its tables, in words that spaces do not change.
pub(super) fn shape(database: &Memory) -> Vec<Vec<String>> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite|_%' ESCAPE '|' \
               ORDER BY type, name";
    let text = |value: &Value| {
        let words: Vec<&str> = value.as_text().unwrap_or_default().split_whitespace().collect();
        words.join(" ")
    };
    let rows = now(database.rows(sql));
    rows.iter().map(|row| row.iter().map(text).collect()).collect()
}

/// Compares the documents of what both schemas have. Returns how many values were kept.
pub(super) fn data(
    (from, before): (&Schema, &Seen),
    (to, after): (&Schema, &Seen),
    migration: Option<&[String]>,
) -> Result<usize, String> {
    let mut kept = 0;
    for new in to.collections.values() {
        let (name, now) = (&new.name, &after.rows[&new.name]);
        let Some(old) = from.collection(name) else {
            if now.is_empty() {
                continue;
            }
            return Err(format!("{name}: a new collection has documents"));
        };
        let was = &before.rows[name];
        let says = |words: &str| migration.is_some_and(|all| all.iter().any(|sql| sql.starts_with(words)));
        let fewer = says(&format!("DELETE FROM \"{name}\"")) || says("INSERT OR IGNORE INTO");
        if now.len() != was.len() && !(fewer && now.len() < was.len()) {
            return Err(format!("{name}: {} documents were {}", now.len(), was.len()));
        }
        kept += collection((old, was), (new, now), (migration.is_some(), &says))?;
    }
    Ok(kept)
}

fn collection(
    (old, was): (&Collection, &[Row]),
    (new, now): (&Collection, &[Row]),
    (migration, says): (bool, &dyn Fn(&str) -> bool),
) -> Result<usize, String> {
    let name = &new.name;
    // Without a migration rows keep their number, and with it, where it is theirs, their key.
    let same_key = old.primary_field().name == new.primary_field().name
        && same_values(old.primary_field().kind, new.primary_field().kind);
    let mut kept = 0;
    for row in now {
        let found = if same_key {
            was.iter().find(|was| was[old.primary()] == row[new.primary()])
        } else {
            continue;
        };
        let Some(before) = found else {
            return Err(format!("{name}: there was no {row:?}"));
        };
        for (at, field) in new.fields.iter().enumerate() {
            let Some((place, was)) = old.field(&field.name) else {
                continue;
            };
            if !same_values(was.kind, field.kind) {
                continue;
            }
            let (value, before) = (&row[at], &before[place]);
            let set = format!("UPDATE \"{name}\" SET \"{}\" = ", field.name);
            let decided = (*value == Value::Null && says(&format!("{set}NULL")))
                || says(&format!("{set}\"{}\" ||", field.name))
                || says(&format!("{set}coalesce((SELECT"))
                || (*before == Value::Null && !field.nullable)
                || (migration && is_beyond_float(before) && field.kind == FieldType::Float);
            if value != before && !decided {
                return Err(format!("{name}.{}: {before:?} became {value:?}", field.name));
            }
            kept += 1;
        }
    }
    Ok(kept)
}

fn is_beyond_float(value: &Value) -> bool {
    value
        .as_int()
        .is_some_and(|number| number.unsigned_abs() > 1 << 53)
}

/// Types whose values go over as they are.
fn same_values(from: FieldType, to: FieldType) -> bool {
    use FieldType::{Bool, Date, Email, Float, Id, Int, String, Text, Timestamp, Url, Uuid};
    let lossless = matches!(
        (from, to),
        (
            String | Text | Email | Url | Uuid | Id | Timestamp | Date,
            String | Text
        ) | (String | Text | Email | Url, Email | Url)
            | (Bool, Int)
            | (Int, Float)
    );
    from == to || lossless
}

/// The full-text index finds what the rows say.
pub(super) fn search(database: &Memory, schema: &Schema, seen: &Seen, story: &dyn Fn() -> String) {
    for collection in schema
        .collections
        .values()
        .filter(|collection| !collection.search.is_empty())
    {
        let rows = &seen.rows[&collection.name];
        let says = |row: &Row, word: &str| {
            let mut fields = collection.search.iter();
            fields.any(|&field| row[field].as_text().is_some_and(|text| text == word))
        };
        let texts = rows
            .iter()
            .flat_map(|row| collection.search.iter().map(|&field| &row[field]));
        let word = texts
            .filter_map(Value::as_text)
            .find(|text| text.starts_with('w') && text.len() > 3);
        let Some(word) = word else { continue };
        let index = search_table(&collection.name);
        let sql =
            format!("SELECT rowid FROM \"{index}\" WHERE \"{index}\" MATCH '\"{word}\"' ORDER BY rowid");
        let found: Vec<Value> = now(database.rows(&sql))
            .into_iter()
            .map(|mut row| row.remove(0))
            .collect();
        let expected: Vec<Value> = rows
            .iter()
            .filter(|row| says(row, word))
            .map(|row| row.last().cloned().expect("a number"))
            .collect();
        assert!(
            expected.iter().all(|number| found.contains(number)),
            "{word}: {found:?}\n{}",
            story()
        );
    }
}
