//! SQL for single documents: what a create, get, update or delete runs.

use alyx_core::{Row, Statement, Value};
use alyx_schema::{Collection, DefaultValue, FieldType};

use crate::ast::Filter;
use crate::sql::Writer;

/// Whether [`insert`] returns the stored row: only where the database makes the primary key.
pub fn insert_returns(collection: &Collection) -> bool {
    let primary = collection.primary_field();
    primary.kind == FieldType::Int && primary.default == Some(DefaultValue::Auto)
}

/// Inserts a row, one value per field in order of declaration. Where [`insert_returns`], a null primary key is left
/// to the database, and the statement returns the whole stored row.
pub fn insert(collection: &Collection, row: Row) -> Statement {
    let numbered = insert_returns(collection);
    let primary = collection.primary();
    let mut sql = Writer::new(collection);
    sql.push("INSERT INTO ");
    sql.table();
    sql.push(" (");
    let left_out = numbered && row.get(primary).is_none_or(Value::is_null);
    let mut first = true;
    let mut given = Vec::with_capacity(row.len());
    for (position, (field, value)) in collection.fields.iter().zip(row).enumerate() {
        if left_out && position == primary {
            continue;
        }
        if !first {
            sql.push(",");
        }
        first = false;
        sql.name(&field.name);
        given.push(value);
    }
    if given.is_empty() {
        // A collection of nothing but its numbered key.
        sql = Writer::new(collection);
        sql.push("INSERT INTO ");
        sql.table();
        sql.push(" DEFAULT VALUES");
    } else {
        sql.push(") VALUES (");
        for (i, value) in given.into_iter().enumerate() {
            if i > 0 {
                sql.push(",");
            }
            sql.param(value);
        }
        sql.push(")");
    }
    if numbered {
        sql.returning();
    }
    sql.finish()
}

/// Sets the given fields of the document with that key. Returns the whole stored row, or none where there is no such
/// document. Without changes nothing is written: the statement is then [`get`].
pub fn update(collection: &Collection, key: Value, changes: Vec<(usize, Value)>) -> Statement {
    update_if(collection, key, changes, &Filter::TRUE)
}

/// The same, where the document passes the filter.
pub fn update_if(
    collection: &Collection,
    key: Value,
    changes: Vec<(usize, Value)>,
    filter: &Filter,
) -> Statement {
    if changes.is_empty() {
        return get_if(collection, key, filter);
    }
    let mut sql = Writer::new(collection);
    sql.push("UPDATE ");
    sql.table();
    sql.push(" AS t SET ");
    for (i, (position, value)) in changes.into_iter().enumerate() {
        if i > 0 {
            sql.push(",");
        }
        sql.name(&collection.fields[position].name);
        sql.push(" = ");
        sql.param(value);
    }
    by_key(&mut sql, collection, key);
    sql.and(filter);
    sql.returning();
    sql.finish()
}

/// [`insert`] of a row with its key, without what it returns.
pub fn put(collection: &Collection, row: Row) -> Statement {
    without_returning(insert(collection, row))
}

/// [`update`] without what it returns.
pub fn set(collection: &Collection, key: Value, changes: Vec<(usize, Value)>) -> Statement {
    without_returning(update(collection, key, changes))
}

/// Names are quoted, so nothing else in the text of a statement about one document reads like this.
fn without_returning(statement: Statement) -> Statement {
    match statement.sql.rfind(" RETURNING \"") {
        Some(end) => Statement::new(&statement.sql[..end], statement.params),
        None => statement,
    }
}

/// The same with numbers that are added to fields; null counts as 0. A sum that its field cannot hold is an error of
/// the database's (`INVALID_TYPE`).
pub fn adjust(
    collection: &Collection,
    key: Value,
    changes: Vec<(usize, Value)>,
    sums: Vec<(usize, Value)>,
) -> Statement {
    if sums.is_empty() {
        return update(collection, key, changes);
    }
    let mut sql = Writer::new(collection);
    sql.push("UPDATE ");
    sql.table();
    sql.push(" AS t SET ");
    let given = changes.into_iter().map(|(field, value)| (field, value, false));
    let added = sums.into_iter().map(|(field, value)| (field, value, true));
    for (i, (position, value, add)) in given.chain(added).enumerate() {
        if i > 0 {
            sql.push(",");
        }
        sql.name(&collection.fields[position].name);
        sql.push(" = ");
        if add {
            sql.push("coalesce(");
            sql.column(position);
            sql.push(",0) + ");
        }
        sql.param(value);
    }
    by_key(&mut sql, collection, key);
    sql.returning();
    sql.finish()
}

/// Inserts a row, or sets the given fields to the row's values where there is a document with its key. Returns the
/// whole stored row.
pub fn upsert(collection: &Collection, row: Row, fields: &[usize]) -> Statement {
    let primary = collection.primary();
    let numbered = row.get(primary).is_none_or(Value::is_null);
    if numbered {
        return insert(collection, row);
    }
    let insert = put(collection, row);
    let mut sql = Writer::new(collection);
    sql.push(&insert.sql);
    sql.push(" ON CONFLICT (");
    sql.quoted_field(primary);
    sql.push(") DO UPDATE SET ");
    // Without any field it changes nothing, and returns the row all the same.
    let nothing = [primary];
    let fields = if fields.is_empty() { &nothing } else { fields };
    for (i, &field) in fields.iter().enumerate() {
        if i > 0 {
            sql.push(",");
        }
        sql.quoted_field(field);
        sql.push(" = excluded.");
        sql.quoted_field(field);
    }
    sql.returning();
    Statement::new(sql.finish().sql, insert.params)
}

/// Takes `count` numbers out of what the database numbers new documents with, so that they are known before their
/// documents are written; the last statement returns the last one of them. Numbers that are not used are left out.
/// Only where [`insert_returns`].
pub fn reserve_keys(collection: &Collection, count: usize) -> [Statement; 2] {
    let name = || Value::from(collection.name.as_str());
    let count = Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
    [
        Statement::new(
            "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, 0 \
             WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
            vec![name()],
        ),
        Statement::new(
            "UPDATE sqlite_sequence SET seq = seq + ?2 WHERE name = ?1 RETURNING seq",
            vec![name(), count],
        ),
    ]
}

/// Deletes the document with that key; affects no row where there is none.
pub fn delete(collection: &Collection, key: Value) -> Statement {
    delete_if(collection, key, &Filter::TRUE)
}

/// The same, where the document passes the filter.
pub fn delete_if(collection: &Collection, key: Value, filter: &Filter) -> Statement {
    let mut sql = Writer::new(collection);
    sql.push("DELETE FROM ");
    sql.table();
    sql.push(" AS t");
    by_key(&mut sql, collection, key);
    sql.and(filter);
    sql.finish()
}

/// The whole row of the document with that key.
pub fn get(collection: &Collection, key: Value) -> Statement {
    get_if(collection, key, &Filter::TRUE)
}

/// The same, where the document passes the filter.
pub fn get_if(collection: &Collection, key: Value, filter: &Filter) -> Statement {
    let mut sql = Writer::new(collection);
    sql.push("SELECT ");
    sql.columns(|_| true);
    sql.push(" FROM ");
    sql.table();
    sql.push(" AS t");
    by_key(&mut sql, collection, key);
    sql.and(filter);
    sql.finish()
}

fn by_key(sql: &mut Writer<'_>, collection: &Collection, key: Value) {
    sql.push(" WHERE ");
    sql.column(collection.primary());
    sql.push(" = ");
    sql.param(key);
}
