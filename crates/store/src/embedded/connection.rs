//! One connection with its prepared statements.
//!
//! The driver's local calls are `async` in name only: each is done when it is first polled, and blocks the thread
//! for as long as the database needs. So they run on threads that may block, polled once, without a runtime.
//!
//! **Invariant:** no statement is left between its steps: each is reset after use, so that a connection outside a
//! transaction holds no snapshot.

use std::future::Future;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use alyx_core::{Row, Statement, Value};
use lru::LruCache;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::Rows;
use crate::failure::{Failure, MAX_RESULT_BYTES, MAX_RESULT_ROWS};
use crate::statement_text;

/// Prepared statements kept per connection.
const CACHED_STATEMENTS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// What a request may still return.
#[derive(Debug)]
pub(super) struct Budget {
    rows: usize,
    bytes: usize,
}

impl Budget {
    /// The bounds of one request.
    pub(super) const fn of_request() -> Self {
        Self {
            rows: MAX_RESULT_ROWS,
            bytes: MAX_RESULT_BYTES,
        }
    }

    /// No bounds: for the store's own statements, which bound themselves.
    const fn unlimited() -> Self {
        Self {
            rows: usize::MAX,
            bytes: usize::MAX,
        }
    }

    fn charge(&mut self, row: &Row) -> Result<(), Failure> {
        let bytes: usize = row.iter().map(size_of_value).sum();
        self.rows = self.rows.checked_sub(1).ok_or(Failure::ResultTooLarge)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Failure::ResultTooLarge)?;
        Ok(())
    }
}

/// Bytes of a value, for bounds.
pub(super) fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Int(_) | Value::Float(_) => 8,
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
    }
}

/// A prepared statement and what must be known about it.
struct Prepared {
    statement: libsql::Statement,
    parameters: usize,
}

/// A connection that is used by one thread at a time.
pub(super) struct Connection {
    raw: libsql::Connection,
    cached: LruCache<Arc<str>, Prepared, FxBuildHasher>,
    /// The store's own statements: few, and never evicted.
    own: FxHashMap<&'static str, Prepared>,
    /// The schema that the cached statements were prepared for.
    epoch: u64,
}

impl Connection {
    pub(super) fn new(raw: libsql::Connection) -> Self {
        Self {
            raw,
            cached: LruCache::with_hasher(CACHED_STATEMENTS, FxBuildHasher),
            own: FxHashMap::default(),
            epoch: 0,
        }
    }

    /// A handle for [`libsql::Connection::interrupt`] from another thread.
    pub(super) fn raw(&self) -> &libsql::Connection {
        &self.raw
    }

    /// Drops the prepared statements if the schema is not the one that they were made for.
    pub(super) fn follow_schema(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.forget_statements();
            self.epoch = epoch;
        }
    }

    /// Drops all prepared statements.
    pub(super) fn forget_statements(&mut self) {
        self.cached.clear();
        self.own.clear();
    }

    /// Runs a caller's statement to its end.
    pub(super) fn run(&mut self, statement: &Statement, budget: &mut Budget) -> Result<Rows, Failure> {
        let parameters = bind(&statement.params)?;
        if !self.cached.contains(&statement.sql) {
            statement_text::check(&statement.sql).map_err(Failure::Refused)?;
            let prepared = prepare(&self.raw, &statement.sql)?;
            self.cached.put(Arc::clone(&statement.sql), prepared);
        }
        let prepared = self
            .cached
            .get(&statement.sql)
            .expect("it is in the cache since the lines above");
        let before = self.raw.total_changes();
        let rows = collect(prepared, parameters, budget)?;
        // `changes` is that of the last statement that wrote: a reading one leaves the previous figure.
        let affected = if self.raw.total_changes() == before {
            0
        } else {
            self.raw.changes()
        };
        Ok(Rows { rows, affected })
    }

    /// Runs one of the store's own statements.
    pub(super) fn own(
        &mut self,
        sql: &'static str,
        parameters: Vec<libsql::Value>,
    ) -> Result<Vec<Row>, Failure> {
        let prepared = match self.own.entry(sql) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(prepare(&self.raw, sql)?),
        };
        collect(prepared, parameters, &mut Budget::unlimited())
    }

    /// Runs one of the store's own statements row by row, with nothing kept in between.
    pub(super) fn own_each(
        &mut self,
        sql: &'static str,
        parameters: Vec<libsql::Value>,
        each: impl FnMut(&libsql::Row) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let prepared = match self.own.entry(sql) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(prepare(&self.raw, sql)?),
        };
        step_through(prepared, parameters, each)
    }

    /// Runs one of the store's own statements that returns at most one integer.
    pub(super) fn own_int(
        &mut self,
        sql: &'static str,
        parameters: Vec<libsql::Value>,
    ) -> Result<Option<i64>, Failure> {
        let rows = self.own(sql, parameters)?;
        Ok(rows.first().and_then(|row| row.first()).and_then(Value::as_int))
    }

    /// Runs SQL that is not worth keeping: pragmas, DDL; several statements if need be, without parameters.
    pub(super) fn script(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        let mut batch = ready(self.raw.execute_batch(sql))?;
        let mut found = Vec::new();
        while let Some(rows) = batch.next_stmt_row() {
            let Some(mut rows) = rows else { continue };
            while let Some(row) = ready(rows.next())? {
                // The rows of a script know the column types of their first row only.
                let row: Result<Row, Failure> = (0..rows.column_count())
                    .map(|column| Ok(value_from_driver(row.get_value(column)?)))
                    .collect();
                found.push(row?);
            }
        }
        Ok(found)
    }

    /// Whether no transaction is open.
    pub(super) fn is_autocommit(&self) -> bool {
        self.raw.is_autocommit()
    }

    /// Counts every row that was written, by triggers too; only for comparing.
    pub(super) fn total_changes(&self) -> u64 {
        self.raw.total_changes()
    }

    /// While `on`, no statement can be prepared that begins or ends a transaction or attaches a database.
    pub(super) fn forbid_transactions(&mut self, on: bool) -> Result<(), Failure> {
        let hook: Option<libsql::AuthHook> = on.then(|| Arc::new(authorize) as libsql::AuthHook);
        self.raw.authorizer(hook).map_err(Failure::from)
    }

    /// Ends an open transaction without its effects.
    pub(super) fn rollback(&mut self) {
        if self.is_autocommit() {
            return;
        }
        if let Err(failure) = self.own("ROLLBACK", Vec::new()) {
            tracing::error!(error = %failure, "a transaction could not be rolled back");
        }
    }

    /// Back to a known state after a panic inside the driver.
    pub(super) fn recover(&mut self) {
        self.forget_statements();
        self.rollback();
        if let Err(failure) = self.forbid_transactions(false) {
            tracing::error!(error = %failure, "a connection could not be brought back into order");
        }
    }
}

fn authorize(context: &libsql::AuthContext<'_>) -> libsql::Authorization {
    match context.action {
        libsql::AuthAction::Transaction { .. }
        | libsql::AuthAction::Attach { .. }
        | libsql::AuthAction::Detach { .. } => libsql::Authorization::Deny,
        _ => libsql::Authorization::Allow,
    }
}

/// The result of a driver call, which is there at the first poll.
pub(super) fn ready<F: Future>(call: F) -> F::Output {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a local call of the database driver must not wait"),
    }
}

fn prepare(raw: &libsql::Connection, sql: &str) -> Result<Prepared, Failure> {
    let statement = ready(raw.prepare(sql))?;
    let parameters = statement.parameter_count();
    Ok(Prepared {
        statement,
        parameters,
    })
}

fn bind(values: &[Value]) -> Result<Vec<libsql::Value>, Failure> {
    let mut bound = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        bound.push(match value {
            Value::Null => libsql::Value::Null,
            Value::Int(int) => libsql::Value::Integer(*int),
            Value::Float(float) => libsql::Value::Real(*float),
            Value::Text(text) if text.as_bytes().contains(&0) => return Err(Failure::NulInText(index + 1)),
            Value::Text(text) => libsql::Value::Text(text.as_ref().to_owned()),
            Value::Blob(blob) => libsql::Value::Blob(blob.to_vec()),
        });
    }
    Ok(bound)
}

fn collect(
    prepared: &Prepared,
    parameters: Vec<libsql::Value>,
    budget: &mut Budget,
) -> Result<Vec<Row>, Failure> {
    let mut found = Vec::new();
    step_through(prepared, parameters, |row| {
        let row = owned_row(row, row.column_count())?;
        budget.charge(&row)?;
        found.push(row);
        Ok(())
    })?;
    Ok(found)
}

/// Runs a statement to its end or to the first error, and leaves it reset.
fn step_through(
    prepared: &Prepared,
    parameters: Vec<libsql::Value>,
    mut each: impl FnMut(&libsql::Row) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // A parameter that is not bound would keep the value of the call before.
    if prepared.parameters != parameters.len() {
        return Err(Failure::Parameters {
            expected: prepared.parameters,
            given: parameters.len(),
        });
    }
    let outcome = (|| {
        // `query` also runs what returns no rows; one step past the end would run the statement again.
        let mut rows = ready(prepared.statement.query(parameters))?;
        while let Some(row) = ready(rows.next())? {
            // The driver panics at text that is not UTF-8, which raw SQL can make.
            catch_unwind(AssertUnwindSafe(|| each(&row))).map_err(|_| Failure::NotUtf8)??;
        }
        Ok(())
    })();
    prepared.statement.reset();
    outcome
}

fn owned_row(row: &libsql::Row, columns: i32) -> Result<Row, Failure> {
    let mut owned = Row::with_capacity(usize::try_from(columns).unwrap_or(0));
    for column in 0..columns {
        owned.push(owned_value(row, column)?);
    }
    Ok(owned)
}

/// One value of a row. Text is taken by reference, which saves the driver's own copy.
pub(super) fn owned_value(row: &libsql::Row, column: i32) -> Result<Value, Failure> {
    Ok(match row.column_type(column)? {
        libsql::ValueType::Null => Value::Null,
        libsql::ValueType::Text => Value::Text(row.get_str(column)?.into()),
        libsql::ValueType::Integer | libsql::ValueType::Real | libsql::ValueType::Blob => {
            value_from_driver(row.get_value(column)?)
        }
    })
}

fn value_from_driver(value: libsql::Value) -> Value {
    match value {
        libsql::Value::Null => Value::Null,
        libsql::Value::Integer(int) => Value::Int(int),
        libsql::Value::Real(float) => Value::Float(float),
        libsql::Value::Text(text) => Value::Text(text.into()),
        libsql::Value::Blob(blob) => Value::Blob(blob.into()),
    }
}
