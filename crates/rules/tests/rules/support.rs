//! A schema, callers, and a database in memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alyx_core::{Account, Caller, Row, Statement, Value};
use alyx_rules::{Action, Decision, Explained, Facts, Rule};
use alyx_schema::{Collection, Schema};
use serde_json::{Map, Value as Json};

const SCHEMA: &str = "
collections:
  teams:
    fields:
      id: {type: string, primary: true}
      name: {type: string, nullable: true}
      open: {type: bool, nullable: true}
      lead: {type: string, nullable: true}
  members:
    fields:
      id: {type: int, primary: true, default: auto}
      team_id: {type: string, nullable: true}
      user_id: {type: string, nullable: true}
  items:
    fields:
      id: {type: int, primary: true, default: auto}
      owner: {type: string, nullable: true}
      title: {type: string, nullable: true}
      age: {type: int, nullable: true}
      price: {type: float, nullable: true}
      done: {type: bool, nullable: true}
      at: {type: timestamp, nullable: true}
      meta: {type: json, nullable: true}
      tags: {type: select, nullable: true, select: {values: [a, b, c], maxSelect: 3}}
      team_id: {type: string, nullable: true, references: teams.id}
      rank: {type: int, default: 0}
      secret: {type: string, nullable: true, internal: true}
";

pub(crate) fn schema() -> Schema {
    alyx_schema::parse(SCHEMA, "schema.yaml")
        .unwrap_or_else(|errors| panic!("{errors}"))
        .schema
}

pub(crate) fn collection(schema: &Schema, name: &str) -> Arc<Collection> {
    Arc::clone(schema.collection(name).expect("it is declared"))
}

pub(crate) fn account(id: &str, role: &str, metadata: Json) -> Caller {
    let metadata = match metadata {
        Json::Object(members) => members,
        _ => Map::new(),
    };
    Caller::Account(Arc::new(Account {
        id: id.to_owned(),
        email: Some(format!("{id}@example.com")),
        verified: true,
        role: role.to_owned(),
        metadata,
        session: None,
    }))
}

/// 2026-01-01T00:00:00Z.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

pub(crate) fn compiled(schema: &Schema, action: Action, text: &str) -> Rule {
    Rule::compile(schema, &collection(schema, "items"), action, text)
        .unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

/// What a read rule of `items` decides.
pub(crate) fn read(text: &str, caller: &Caller) -> Decision {
    let schema = schema();
    let rule = compiled(&schema, Action::Read, text);
    rule.decide(&collection(&schema, "items"), &Facts::of(caller, now()))
}

/// Why the rule decides as it does about the document with that key.
pub(crate) fn explained(
    database: &Database,
    rule: &Rule,
    (collection, facts): (&Arc<Collection>, &Facts<'_>),
    key: &Value,
) -> Explained {
    let drawing = rule.draw(collection, facts, key);
    let first = |statement| {
        database
            .run(statement)
            .first()
            .and_then(|row| row.first())
            .cloned()
    };
    let answers: Vec<Option<Value>> = drawing.statements().iter().map(first).collect();
    drawing.answered(&answers)
}

/// A database in memory with the tables of a schema.
pub(crate) struct Database {
    runtime: tokio::runtime::Runtime,
    connection: libsql::Connection,
}

impl Database {
    pub(crate) fn new(schema: &Schema) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime starts");
        let connection = runtime
            .block_on(async { libsql::Builder::new_local(":memory:").build().await?.connect() })
            .expect("a database opens");
        let database = Self { runtime, connection };
        database.run(&Statement::new("PRAGMA foreign_keys = OFF", Vec::new()));
        for collection in schema.collections.values() {
            for sql in alyx_schema::create_table(collection) {
                database.run(&Statement::new(sql, Vec::new()));
            }
        }
        database
    }

    /// Rows that the statement returns.
    pub(crate) fn run(&self, statement: &Statement) -> Vec<Row> {
        let found: libsql::Result<Vec<Row>> = self.runtime.block_on(async {
            let params: Vec<_> = statement.params.iter().map(to_libsql).collect();
            let mut rows = self.connection.query(&statement.sql, params).await?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().await? {
                let columns = 0..rows.column_count();
                let values = columns.map(|column| row.get_value(column).map(from_libsql));
                found.push(values.collect::<libsql::Result<_>>()?);
            }
            Ok(found)
        });
        found.unwrap_or_else(|error| panic!("{error}: {statement:?}"))
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
