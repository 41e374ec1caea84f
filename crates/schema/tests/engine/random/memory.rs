//! A database in memory, without a runtime, and without time or chance: what SQL takes from those is of the run's
//! seed alone here, so that a run can be repeated.

use std::cell::Cell;
use std::fmt::Write as _;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use alyx_core::{Row, Statement};
use alyx_schema::{Progress, Schema, create_table, triggers};

use crate::{driver_value, value};

pub(super) struct Memory {
    connection: libsql::Connection,
    /// How often chance was asked for.
    asked: Cell<u64>,
}

/// The local database is never waited for.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the database in memory is waited for"),
    }
}

impl Memory {
    pub(super) fn with(schema: &Schema) -> Self {
        let database = now(libsql::Builder::new_local(":memory:").build()).unwrap();
        let this = Self {
            connection: database.connect().unwrap(),
            asked: Cell::new(0),
        };
        let mut script = String::from(
            "PRAGMA foreign_keys = OFF; BEGIN; CREATE TABLE _alyx_changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, collection TEXT NOT NULL, \
             op INTEGER NOT NULL, id, old TEXT, new TEXT);",
        );
        for collection in schema.collections.values() {
            for sql in create_table(collection).iter().chain(&triggers(collection)) {
                script.push_str(sql);
                script.push(';');
            }
        }
        script.push_str("COMMIT");
        this.script(&script);
        this
    }

    pub(super) fn begin(&self) {
        self.script("BEGIN");
    }

    pub(super) fn commit(&self) {
        self.script("COMMIT");
    }

    pub(super) fn script(&self, sql: &str) {
        if let Err(error) = now(self.connection.execute_batch(&self.repeatable(sql))) {
            panic!("{error}: {sql}");
        }
    }

    pub(super) async fn rows(&self, sql: &str) -> Vec<Row> {
        let found = self.try_rows(sql, Vec::new()).await;
        found.unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    pub(super) async fn try_rows(
        &self,
        sql: &str,
        params: Vec<alyx_core::Value>,
    ) -> Result<Vec<Row>, libsql::Error> {
        let params: Vec<libsql::Value> = params.iter().map(driver_value).collect();
        let mut rows = self
            .connection
            .query(sql, libsql::params_from_iter(params))
            .await?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().await? {
            let values = (0..row.column_count()).map(|at| row.get_value(at).map(value));
            found.push(values.collect::<Result<Row, _>>()?);
        }
        Ok(found)
    }
}

impl Memory {
    /// With one time in place of the present, and numbers that no other row of a run has in place of chance.
    fn repeatable(&self, sql: &str) -> String {
        const CHANCE: &str = "randomblob(";
        if sql.contains("CREATE TABLE") {
            // It is compared word by word.
            return sql.to_owned();
        }
        let sql = sql.replace("'now'", "'2026-01-31T12:00:00.000'");
        let mut parts = sql.split(CHANCE);
        let mut repeatable = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (bytes, rest) = part.split_once(')').expect("a number of bytes");
            self.asked.set(self.asked.get() + 1);
            // A tenth digit, since half of the last byte may be cut off.
            let number = format!(
                "(_rowid_ + {}) * 10 % 1{:0bytes$}",
                self.asked.get() * 100,
                0,
                bytes = bytes.parse().expect(bytes)
            );
            write!(repeatable, "CAST(printf('%0{bytes}d', {number}) AS BLOB){rest}").expect("a text");
        }
        repeatable
    }
}

impl alyx_schema::Database for Memory {
    type Error = libsql::Error;

    fn run(&mut self, sql: &str) -> Result<(), libsql::Error> {
        now(self.connection.execute_batch(&self.repeatable(sql))).map(|_| ())
    }

    fn query(&mut self, statement: &Statement) -> Result<Vec<Row>, libsql::Error> {
        now(self.try_rows(&statement.sql, statement.params.clone()))
    }

    fn progress(&mut self, progress: Progress<'_>) {
        assert!(progress.done <= progress.rows, "{progress:?}");
    }
}
