//! A transaction: what it has read, with the positions that it was read at, and what it is going to write.
//!
//! Optimistic: nothing is locked and nothing written before the commit, which is one write that first checks that
//! nothing has changed of what was read. Until then its writes are visible to itself alone.
//!
//! **Invariant:** every row that a decision of the transaction depends on is in `known` with the position of its read
//! (`seen`), or in the filter of one of `lists`; so a commit that finds all of them unchanged is as if the whole
//! transaction had run at that one moment.

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result, Row, Seq, Value};
use alyx_query::{Filter, Query};
use alyx_schema::{Collection, is_touch, key_to_json, parse_key, read_create, read_update};
use alyx_store::{Condition, Expect, Read, ReadCost, WriteStep};
use rustc_hash::FxHashMap;

use super::Engine;
use super::operation::{Kind, Operation, out_of_bounds};
use super::outcome::{Outcome, document_tag};
use crate::authority::forbidden;
use crate::documents::not_found;

/// Writes of one transaction at most.
const MAX_WRITES: usize = 1_000;
/// Documents that one transaction may read or write.
const MAX_DOCUMENTS: usize = 4_096;
/// Lists that one transaction may read.
pub(super) const MAX_LISTS: usize = 32;
/// Bytes of values that one transaction may hold (about).
const MAX_BYTES: usize = 8 << 20;

/// A transaction. Whoever has one has it alone.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    /// The schema that it began with.
    pub(super) schema_revision: u64,
    pub(super) began: Instant,
    pub(super) touched: FxHashMap<String, Touched>,
    pub(super) lists: Vec<(Query, Seq)>,
    /// Writes, and before them the checks of their rules.
    pub(super) steps: Vec<WriteStep>,
    writes: usize,
    bytes: usize,
    documents: usize,
}

/// What a transaction knows of a collection.
#[derive(Debug, Clone)]
pub(super) struct Touched {
    pub(super) collection: Arc<Collection>,
    /// By the key as JSON.
    pub(super) known: FxHashMap<Box<[u8]>, Known>,
}

/// One document as the transaction sees it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) key: Value,
    /// The position at which `base` was read; none where nothing was read.
    pub(super) seen: Option<Seq>,
    /// As it is outside.
    pub(super) base: Option<Row>,
    /// As the transaction has left it.
    pub(super) now: Option<Row>,
    pub(super) written: bool,
}

impl Transaction {
    pub(super) fn new(schema_revision: u64) -> Self {
        Self {
            schema_revision,
            began: Instant::now(),
            touched: FxHashMap::default(),
            lists: Vec::new(),
            steps: Vec::new(),
            writes: 0,
            bytes: 0,
            documents: 0,
        }
    }

    /// The schema that it began with.
    pub(crate) fn schema_revision(&self) -> u64 {
        self.schema_revision
    }

    /// Bytes of values that it holds (about).
    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    /// Whether it has written nothing so far.
    pub(super) fn only_reads(&self) -> bool {
        self.steps.is_empty()
    }

    /// Carries out one operation within the transaction. `id` and `data` are without references.
    ///
    /// Errors: as for the same operation outside, except those that only the commit can find (`UNIQUE_VIOLATION`,
    /// `FOREIGN_KEY_VIOLATION`), and `TRANSACTION_TOO_LARGE`.
    pub(crate) async fn apply(
        &mut self,
        engine: &Engine,
        operation: &Operation,
        (id, data): (Option<&str>, &[u8]),
        deadline: Instant,
    ) -> Result<Outcome> {
        let collection = &operation.collection;
        match operation.kind {
            Kind::Create => {
                let row = read_create(collection, data, &engine.now())?;
                self.create(engine, operation, row, deadline).await
            }
            Kind::Upsert => self.upsert(engine, operation, data, deadline).await,
            Kind::Get | Kind::Update | Kind::Delete => {
                let id = id.unwrap_or_default();
                let missing = || not_found(collection, id);
                let key = parse_key(collection, id).ok_or_else(missing)?;
                let row = self.load(engine, collection, &key, deadline).await?;
                let row = row.ok_or_else(missing)?;
                let readable = self.readable(engine, operation, (&key, &row), deadline).await?;
                let refused = || {
                    if readable {
                        forbidden(collection, operation.action())
                    } else {
                        missing()
                    }
                };
                if operation.is_conditional() && !readable {
                    return Err(missing());
                }
                check_conditions(operation, &row)?;
                match operation.kind {
                    Kind::Get if !readable => Err(missing()),
                    Kind::Get => Ok(Outcome::found(collection, row)),
                    Kind::Delete => {
                        let rule = operation.authority.delete(collection)?;
                        if !self
                            .passes(engine, operation, (&key, &row, &rule), deadline)
                            .await?
                        {
                            return Err(refused());
                        }
                        self.delete(collection, key)?;
                        Ok(Outcome::deleted())
                    }
                    Kind::Update | Kind::Create | Kind::Upsert => {
                        let changes = changes_of(engine, operation, data, &row)?;
                        let rule = operation.authority.update(collection, &changes, &[])?;
                        if !self
                            .passes(engine, operation, (&key, &row, &rule), deadline)
                            .await?
                        {
                            return Err(refused());
                        }
                        self.update(operation, changes, (key, row), readable)
                    }
                }
            }
        }
    }

    async fn create(
        &mut self,
        engine: &Engine,
        operation: &Operation,
        mut row: Row,
        deadline: Instant,
    ) -> Result<Outcome> {
        let collection = &operation.collection;
        let rule = operation.authority.create(collection, &row)?;
        let primary = collection.primary();
        if row[primary].is_null() {
            row[primary] = engine.reserve_key(collection, deadline).await?;
        }
        let key = row[primary].clone();
        let known = self.known(collection, &key);
        if known.is_some_and(|known| known.now.is_some()) {
            let name = &collection.primary_field().name;
            return Err(Error::new(
                ErrorKind::Conflict,
                "UNIQUE_VIOLATION",
                format!("a document with this value of `{name}` already exists"),
            )
            .with_field(name.as_str()));
        }
        if !rule.is_true() {
            self.require(alyx_query::holds(collection, &rule))?;
        }
        self.write(alyx_query::put(collection, row.clone()))?;
        self.note(collection, key, Some(row.clone()))?;
        Ok(Outcome::created(collection, row))
    }

    async fn upsert(
        &mut self,
        engine: &Engine,
        operation: &Operation,
        data: &[u8],
        deadline: Instant,
    ) -> Result<Outcome> {
        let collection = &operation.collection;
        let now = engine.now();
        let row = read_create(collection, data, &now)?;
        let changes = read_update(collection, data, &now)?;
        let key = row[collection.primary()].clone();
        let found = if key.is_null() {
            None
        } else {
            self.load(engine, collection, &key, deadline).await?
        };
        let authority = &operation.authority;
        let Some(mut found) = found else {
            let readable = authority.visible(collection);
            let readable = !readable.is_local() || readable.matches(&row);
            let outcome = self.create(engine, operation, row, deadline).await?;
            return Ok(outcome.upserted(readable));
        };
        // Whether there is such a document is not told where it may be neither read nor changed.
        let rule = authority.update(collection, &changes, &[])?;
        if !self
            .passes(engine, operation, (&key, &found, &rule), deadline)
            .await?
        {
            return Err(forbidden(collection, operation.action()));
        }
        let readable = self.readable(engine, operation, (&key, &found), deadline).await?;
        if !changes.is_empty() {
            self.write(alyx_query::set(collection, key.clone(), changes.clone()))?;
            for (position, value) in changes {
                found[position] = value;
            }
            self.note(collection, key, Some(found.clone()))?;
        }
        Ok(Outcome::changed(collection, found, readable))
    }

    fn update(
        &mut self,
        operation: &Operation,
        changes: Vec<(usize, Value)>,
        (key, mut row): (Value, Row),
        readable_before: bool,
    ) -> Result<Outcome> {
        let collection = &operation.collection;
        if is_touch(collection, &changes) {
            return Ok(Outcome::changed(collection, row, readable_before));
        }
        for (position, value) in &changes {
            row[*position] = value.clone();
        }
        if let Some((bounds, field)) = operation.bounds()
            && !bounds.matches(&row)
        {
            return Err(out_of_bounds(field));
        }
        self.write(alyx_query::set(collection, key.clone(), changes))?;
        self.note(collection, key, Some(row.clone()))?;
        let visible = operation.authority.visible(collection);
        // Who could read it before learns nothing new from seeing it after.
        let readable = if visible.is_local() {
            visible.matches(&row)
        } else {
            readable_before
        };
        Ok(Outcome::changed(collection, row, readable))
    }

    /// Whether the caller may read the document as the transaction sees it. What the transaction has made is no secret
    /// to it; where a rule asks about other documents, what is outside decides about one that it has only changed.
    async fn readable(
        &self,
        engine: &Engine,
        operation: &Operation,
        (key, row): (&Value, &Row),
        deadline: Instant,
    ) -> Result<bool> {
        let collection = &operation.collection;
        let visible = operation.authority.visible(collection);
        if visible.is_local() {
            return Ok(visible.matches(row));
        }
        let known = self.known(collection, key);
        if known.is_some_and(|known| known.written && known.base.is_none()) {
            return Ok(true);
        }
        engine
            .asks(alyx_query::passes(collection, key.clone(), &visible), deadline)
            .await
    }

    /// Whether the document passes a rule. Where the rule asks about other documents, it is asked now, unless the
    /// transaction has written the document, and in any case again by the commit, right before the write.
    async fn passes(
        &mut self,
        engine: &Engine,
        operation: &Operation,
        (key, row, rule): (&Value, &Row, &Filter),
        deadline: Instant,
    ) -> Result<bool> {
        if rule.is_local() {
            return Ok(rule.matches(row));
        }
        let collection = &operation.collection;
        let check = alyx_query::passes(collection, key.clone(), rule);
        let written = self.known(collection, key).is_some_and(|known| known.written);
        if !written && !engine.asks(check.clone(), deadline).await? {
            return Ok(false);
        }
        self.require(check)?;
        Ok(true)
    }

    fn delete(&mut self, collection: &Arc<Collection>, key: Value) -> Result<()> {
        self.write(alyx_query::delete(collection, key.clone()))?;
        self.note(collection, key, None)
    }

    /// The document as the transaction sees it; read at most once.
    pub(super) async fn load(
        &mut self,
        engine: &Engine,
        collection: &Arc<Collection>,
        key: &Value,
        deadline: Instant,
    ) -> Result<Option<Row>> {
        if let Some(known) = self.known(collection, key) {
            return Ok(known.now.clone());
        }
        let read = Read {
            statements: vec![alyx_query::get(collection, key.clone())],
            cost: ReadCost::Scan,
            deadline,
        };
        let mut reply = engine.store.read(read).await?;
        let row = reply.results.first_mut().and_then(|rows| rows.rows.pop());
        self.take(row.as_ref().map_or(0, |row| size_of(row)))?;
        self.place(collection, key)?.insert(
            key_text(collection, key),
            Known {
                key: key.clone(),
                seen: Some(reply.position),
                base: row.clone(),
                now: row.clone(),
                written: false,
            },
        );
        Ok(row)
    }

    fn known(&self, collection: &Collection, key: &Value) -> Option<&Known> {
        let touched = self.touched.get(&collection.name)?;
        touched.known.get(&key_text(collection, key))
    }

    fn place(
        &mut self,
        collection: &Arc<Collection>,
        key: &Value,
    ) -> Result<&mut FxHashMap<Box<[u8]>, Known>> {
        if self.known(collection, key).is_none() {
            self.documents += 1;
        }
        if self.documents > MAX_DOCUMENTS {
            return Err(too_large(format!("more than {MAX_DOCUMENTS} documents")));
        }
        let touched = self.touched.entry(collection.name.clone());
        let touched = touched.or_insert_with(|| Touched {
            collection: Arc::clone(collection),
            known: FxHashMap::default(),
        });
        Ok(&mut touched.known)
    }

    /// Notes what has become of a document.
    fn note(&mut self, collection: &Arc<Collection>, key: Value, now: Option<Row>) -> Result<()> {
        let text = key_text(collection, &key);
        let known = self.place(collection, &key)?.entry(text).or_insert(Known {
            key,
            seen: None,
            base: None,
            now: None,
            written: false,
        });
        known.now = now;
        known.written = true;
        Ok(())
    }

    fn write(&mut self, statement: alyx_core::Statement) -> Result<()> {
        if self.writes >= MAX_WRITES {
            return Err(too_large(format!("more than {MAX_WRITES} writes")));
        }
        self.writes += 1;
        self.step(statement, Expect::Row)
    }

    /// The commit fails where the statement finds nothing. At most one for each write.
    fn require(&mut self, statement: alyx_core::Statement) -> Result<()> {
        self.step(statement, Expect::Holds(Condition::Precondition))
    }

    fn step(&mut self, statement: alyx_core::Statement, expect: Expect) -> Result<()> {
        self.take(2 * size_of(&statement.params))?;
        self.steps.push(WriteStep { statement, expect });
        Ok(())
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            return Err(too_large(format!("more than {} MiB", MAX_BYTES >> 20)));
        }
        Ok(())
    }
}

/// The new values of an update.
fn changes_of(engine: &Engine, operation: &Operation, data: &[u8], row: &Row) -> Result<Vec<(usize, Value)>> {
    let collection = &operation.collection;
    let mut changes = read_update(collection, data, &engine.now())?;
    for (position, number) in &operation.increments {
        let field = &collection.fields[*position];
        let sum = add(&row[*position], number).ok_or_else(|| out_of_bounds(&field.name))?;
        changes.retain(|(changed, _)| changed != position);
        changes.push((*position, sum));
    }
    Ok(changes)
}

fn check_conditions(operation: &Operation, row: &Row) -> Result<()> {
    if !operation.preconditions.is_empty() {
        operation
            .preconditions
            .check(&document_tag(&operation.collection, row))?;
    }
    match &operation.condition {
        Some(condition) if !condition.matches(row) => Err(condition_failed()),
        Some(_) | None => Ok(()),
    }
}

/// What `if` demands is not so.
pub(super) fn condition_failed() -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        "PRECONDITION_FAILED",
        "the document does not pass `if`: read it again",
    )
}

pub(super) fn too_large(what: String) -> Error {
    Error::new(
        ErrorKind::PayloadTooLarge,
        "TRANSACTION_TOO_LARGE",
        format!("the transaction holds {what}: commit in smaller parts"),
    )
}

/// The sum as the database makes it; `None` where the field cannot hold it.
fn add(before: &Value, number: &Value) -> Option<Value> {
    match (before, number) {
        (Value::Null, number) => Some(number.clone()),
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int),
        (Value::Float(a), Value::Float(b)) => Some(a + b).filter(|sum| sum.is_finite()).map(Value::Float),
        _ => None,
    }
}

pub(super) fn key_text(collection: &Collection, key: &Value) -> Box<[u8]> {
    let mut text = Vec::with_capacity(40);
    key_to_json(collection, key, &mut text);
    text.into()
}

pub(super) fn size_of(row: &[Value]) -> usize {
    let size = |value: &Value| match value {
        Value::Null | Value::Int(_) | Value::Float(_) => 16,
        Value::Text(text) => 32 + text.len(),
        Value::Blob(blob) => 32 + blob.len(),
    };
    row.iter().map(size).sum()
}
