//! A collection with a field of every type, and a database to hold its rows.

use std::sync::Arc;

use alyx_core::{Row, Statement, Value};
use alyx_schema::Collection;

const SCHEMA: &str = "
buckets: {files: {backend: local}}
collections:
  things:
    fields:
      id: {type: int, primary: true, default: auto}
      name: {type: string, nullable: true}
      body: {type: text, nullable: true, index: true}
      age: {type: int, nullable: true, index: true}
      price: {type: float, nullable: true}
      done: {type: bool, nullable: true}
      at: {type: timestamp, nullable: true}
      meta: {type: json, nullable: true}
      data: {type: blob, nullable: true}
      owner: {type: uuid, nullable: true}
      rank: {type: int, default: 0}
      secret: {type: string, nullable: true, internal: true}
      mail: {type: email, nullable: true}
      site: {type: url, nullable: true}
      day: {type: date, nullable: true}
      html: {type: richtext, nullable: true}
      file: {type: file, nullable: true, file: {bucket: files}}
      code: {type: id, nullable: true}
      pick: {type: select, nullable: true, select: {values: [a, A, ab, b, '1', 'true', ',']}}
";

/// The collection `things`.
pub(crate) fn things() -> Arc<Collection> {
    let parsed = alyx_schema::parse(SCHEMA, "schema.yaml").expect("the schema is right");
    Arc::clone(parsed.schema.collection("things").expect("it is declared"))
}

/// A database in memory.
pub(crate) struct Database {
    runtime: tokio::runtime::Runtime,
    connection: libsql::Connection,
}

impl Database {
    /// With the collection's table. `strict` as in the product, or with columns that take values of every class.
    pub(crate) fn new(collection: &Collection, strict: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime starts");
        let connection = runtime
            .block_on(async { libsql::Builder::new_local(":memory:").build().await?.connect() })
            .expect("a database opens");
        let database = Self { runtime, connection };
        for sql in alyx_schema::create_table(collection) {
            let sql = if strict { sql } else { sql.replace(" STRICT", "") };
            database.run(&Statement::new(sql, Vec::new()));
        }
        database
    }

    /// Rows that the statement returns.
    pub(crate) fn run(&self, statement: &Statement) -> Vec<Row> {
        self.try_run(statement)
            .unwrap_or_else(|error| panic!("{error}: {statement:?}"))
    }

    /// What the statement returns, or why it failed.
    pub(crate) fn try_run(&self, statement: &Statement) -> libsql::Result<Vec<Row>> {
        self.runtime.block_on(async {
            let params: Vec<_> = statement.params.iter().map(to_libsql).collect();
            let mut rows = self.connection.query(&statement.sql, params).await?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().await? {
                let columns = 0..rows.column_count();
                found.push(
                    columns
                        .map(|i| row.get_value(i).map(from_libsql))
                        .collect::<libsql::Result<_>>()?,
                );
            }
            Ok(found)
        })
    }
}

fn to_libsql(value: &Value) -> libsql::Value {
    match value {
        Value::Null => libsql::Value::Null,
        Value::Int(int) => libsql::Value::Integer(*int),
        Value::Float(float) => libsql::Value::Real(*float),
        Value::Text(text) => libsql::Value::Text(text.as_ref().to_owned()),
        Value::Blob(bytes) => libsql::Value::Blob(bytes.as_ref().to_owned()),
    }
}

fn from_libsql(value: libsql::Value) -> Value {
    match value {
        libsql::Value::Null => Value::Null,
        libsql::Value::Integer(int) => Value::Int(int),
        libsql::Value::Real(float) => Value::Float(float),
        libsql::Value::Text(text) => Value::from(text),
        libsql::Value::Blob(bytes) => Value::Blob(bytes.into()),
    }
}
