//! What this crate writes as SQL, run by the database that will run it.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod images;
mod plans;
mod random;
mod refusals;
mod tables;
mod types;

use std::sync::Arc;

use alyx_core::{Row, Value};
use alyx_schema::{Collection, Schema, create_table, parse, triggers};
use libsql::params_from_iter;

const NOW: &str = "2026-01-31T12:00:00.000Z";

fn schema(source: &str) -> Schema {
    match parse(source, "schema.yaml") {
        Ok(parsed) => parsed.schema,
        Err(errors) => panic!("{errors}"),
    }
}

/// A database in memory with foreign keys on and an empty change log.
struct Database(libsql::Connection);

impl Database {
    async fn new() -> Self {
        let database = libsql::Builder::new_local(":memory:").build().await.unwrap();
        let this = Self(database.connect().unwrap());
        this.run("PRAGMA foreign_keys = ON").await;
        this.run(
            "CREATE TABLE _alyx_changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, collection TEXT NOT NULL, \
             op INTEGER NOT NULL, id, old TEXT, new TEXT)",
        )
        .await;
        this
    }

    async fn with(schema: &Schema) -> Self {
        let this = Self::new().await;
        for collection in schema.collections.values() {
            for sql in create_table(collection).iter().chain(&triggers(collection)) {
                this.run(sql).await;
            }
        }
        this
    }

    async fn run(&self, sql: &str) {
        if let Err(error) = self.0.execute_batch(sql).await {
            panic!("{error}: {sql}");
        }
    }

    async fn try_run(&self, sql: &str) -> Result<(), String> {
        let result = self.0.execute_batch(sql).await;
        result.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn rows(&self, sql: &str) -> Vec<Row> {
        let mut rows = self
            .0
            .query(sql, ())
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        let mut found = Vec::new();
        while let Some(row) = rows.next().await.unwrap() {
            found.push(
                (0..row.column_count())
                    .map(|at| value(row.get_value(at).unwrap()))
                    .collect(),
            );
        }
        found
    }

    async fn insert(&self, collection: &Collection, row: &[Value]) {
        let marks: Vec<String> = (1..=row.len()).map(|number| format!("?{number}")).collect();
        let sql = format!(
            "INSERT INTO \"{}\" ({}) VALUES ({})",
            collection.name,
            columns(collection),
            marks.join(", ")
        );
        let values: Vec<libsql::Value> = row.iter().map(driver_value).collect();
        self.0
            .execute(&sql, params_from_iter(values))
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// All rows of the collection, by primary key.
    async fn documents(&self, collection: &Collection) -> Vec<Row> {
        let (table, key) = (&collection.name, &collection.primary_field().name);
        let columns = columns(collection);
        self.rows(&format!("SELECT {columns} FROM \"{table}\" ORDER BY \"{key}\""))
            .await
    }
}

fn columns(collection: &Collection) -> String {
    let names = collection
        .fields
        .iter()
        .map(|field| format!("\"{}\"", field.name));
    names.collect::<Vec<_>>().join(", ")
}

fn value(value: libsql::Value) -> Value {
    match value {
        libsql::Value::Null => Value::Null,
        libsql::Value::Integer(int) => Value::Int(int),
        libsql::Value::Real(float) => Value::Float(float),
        libsql::Value::Text(text) => Value::from(text),
        libsql::Value::Blob(bytes) => Value::Blob(bytes.into()),
    }
}

fn driver_value(value: &Value) -> libsql::Value {
    match value {
        Value::Null => libsql::Value::Null,
        Value::Int(int) => libsql::Value::Integer(*int),
        Value::Float(float) => libsql::Value::Real(*float),
        Value::Text(text) => libsql::Value::Text(text.to_string()),
        Value::Blob(bytes) => libsql::Value::Blob(bytes.to_vec()),
    }
}

fn only(schema: &Schema) -> Arc<Collection> {
    Arc::clone(&schema.collections[0])
}
