//! Batches that go straight into one write: nothing is read before, so nothing can conflict.

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Error, Result, Row, Statement, Value};
use alyx_query::{Filter, adjust, delete, get_if, holds, insert, insert_returns, passes, upsert};
use alyx_schema::{Collection, is_touch, parse_key, read_create, read_update};
use alyx_store::{Condition, Expect, Read, ReadCost, Rows, Write, WriteStep};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Engine;
use super::operation::{Kind, Operation, out_of_bounds};
use super::outcome::Outcome;
use super::reference::{Made, referred};
use super::transaction::condition_failed;
use crate::authority::forbidden;
use crate::documents::not_found;

/// The write of a batch, and what each step of it is for.
#[derive(Default)]
struct Plan {
    steps: Vec<WriteStep>,
    roles: Vec<Role>,
    results: Vec<Planned>,
}

/// What a step is for.
struct Role {
    operation: usize,
    part: Part,
}

enum Part {
    /// The operation itself, or that its document exists; with the document's key for people.
    Document(String),
    /// Its `if`.
    Condition,
    /// The rules of a field to which it adds.
    Bounds(String),
    /// The access rule; with the document's key where it has one.
    Rule(Option<String>),
    /// Whether the caller may read the document.
    Asked,
}

/// Where the document of an operation comes from.
enum Planned {
    Nothing,
    Known(Row),
    /// By that step; the other one tells whether the caller may read it.
    Returned(usize, Option<usize>),
}

impl Engine {
    /// Carries out all operations or none, in order, in one write. They have no `ifMatch`.
    ///
    /// Errors: those of single operations with the operation's number as step, and what the store says.
    pub(crate) async fn batch(&self, operations: &[Operation], deadline: Instant) -> Result<Vec<Outcome>> {
        let plan = self.plan(operations, deadline).await?;
        let Plan {
            steps,
            roles,
            results,
        } = plan;
        let count = steps.len();
        let reply = match self.store.write(Write { steps, deadline }).await {
            Ok(reply) => reply,
            Err(error) => {
                let step = error.step().or((count == 1).then_some(0));
                let role = step.and_then(|step| roles.get(step));
                return Err(match role {
                    Some(role) => {
                        self.explained(error, role, &operations[role.operation], deadline)
                            .await
                    }
                    None => error,
                });
            }
        };
        let mut returned = reply.steps;
        let outcomes = operations.iter().zip(results);
        outcomes
            .map(|(operation, planned)| outcome(operation, planned, &mut returned))
            .collect()
    }

    async fn plan(&self, operations: &[Operation], deadline: Instant) -> Result<Plan> {
        let mut reserved = self.reserve(operations, deadline).await?;
        let now = self.now();
        let mut plan = Plan::default();
        let mut made = Made::default();
        for (number, operation) in operations.iter().enumerate() {
            let planned = made.id(operation).and_then(|id| {
                let data = made.data(operation)?;
                plan.add(
                    (number, operation),
                    (id.as_deref(), &data),
                    &now,
                    reserved.remove(&number),
                )
            });
            let planned = planned.map_err(|error| error.with_step(number))?;
            made.push(
                operation,
                match &planned {
                    Planned::Known(row) => Some(row),
                    Planned::Nothing | Planned::Returned(..) => None,
                },
            );
            plan.results.push(planned);
        }
        Ok(plan)
    }

    /// Keys for new documents that others of the batch refer to and whose keys the database would make.
    async fn reserve(&self, operations: &[Operation], deadline: Instant) -> Result<FxHashMap<usize, Value>> {
        let wanted: FxHashSet<usize> = referred(operations).into_iter().collect();
        let mut of_collection: FxHashMap<&str, (&Arc<Collection>, Vec<usize>)> = FxHashMap::default();
        for number in wanted {
            let Some(operation) = operations.get(number) else {
                continue;
            };
            if operation.kind == Kind::Create && insert_returns(&operation.collection) {
                let entry = of_collection.entry(&operation.collection.name);
                let (_, numbers) = entry.or_insert((&operation.collection, Vec::new()));
                numbers.push(number);
            }
        }
        let mut keys = FxHashMap::default();
        for (collection, mut numbers) in of_collection.into_values() {
            numbers.sort_unstable();
            let last = self.reserve_keys(collection, numbers.len(), deadline).await?;
            for (key, number) in (0..=last).rev().zip(numbers.into_iter().rev()) {
                keys.insert(number, Value::Int(key));
            }
        }
        Ok(keys)
    }
}

impl Plan {
    fn add(
        &mut self,
        (number, operation): (usize, &Operation),
        (id, data): (Option<&str>, &[u8]),
        now: &str,
        reserved: Option<Value>,
    ) -> Result<Planned> {
        let collection = &operation.collection;
        let primary = collection.primary();
        match operation.kind {
            Kind::Create => {
                let mut row = read_create(collection, data, now)?;
                if let (true, Some(key)) = (row[primary].is_null(), reserved) {
                    row[primary] = key;
                }
                let rule = operation.authority.create(collection, &row)?;
                if !rule.is_true() {
                    self.check(number, Part::Rule(None), holds(collection, &rule));
                }
                let known = !row[primary].is_null();
                let statement = if known {
                    alyx_query::put(collection, row.clone())
                } else {
                    insert(collection, row.clone())
                };
                let step = self.document(number, String::new(), statement);
                Ok(if known {
                    Planned::Known(row)
                } else {
                    Planned::Returned(step, None)
                })
            }
            Kind::Upsert => {
                let row = read_create(collection, data, now)?;
                let changes = read_update(collection, data, now)?;
                let fields: Vec<usize> = changes.into_iter().map(|(position, _)| position).collect();
                let step = self.document(number, String::new(), upsert(collection, row, &fields));
                Ok(Planned::Returned(step, None))
            }
            Kind::Get | Kind::Update | Kind::Delete => {
                let id = id.unwrap_or_default();
                let key = parse_key(collection, id).ok_or_else(|| not_found(collection, id))?;
                if let Some(condition) = &operation.condition {
                    let visible = operation.authority.visible(collection);
                    let exists = passes(collection, key.clone(), &visible);
                    self.document(number, id.to_owned(), exists);
                    self.check(
                        number,
                        Part::Condition,
                        passes(collection, key.clone(), condition),
                    );
                }
                let step = match operation.kind {
                    Kind::Delete => {
                        let rule = operation.authority.delete(collection)?;
                        self.rule((number, operation), (id, &key), &rule);
                        self.document(number, id.to_owned(), delete(collection, key));
                        return Ok(Planned::Nothing);
                    }
                    Kind::Get => {
                        let rule = operation.authority.read(collection)?;
                        self.document(number, id.to_owned(), get_if(collection, key, &rule))
                    }
                    Kind::Update | Kind::Create | Kind::Upsert => {
                        return self.update((number, operation), (id, key), data, now);
                    }
                };
                Ok(Planned::Returned(step, None))
            }
        }
    }

    fn update(
        &mut self,
        (number, operation): (usize, &Operation),
        (id, key): (&str, Value),
        data: &[u8],
        now: &str,
    ) -> Result<Planned> {
        let collection = &operation.collection;
        let mut changes = read_update(collection, data, now)?;
        let sums = &operation.increments;
        changes.retain(|(position, _)| !sums.iter().any(|(summed, _)| summed == position));
        if sums.is_empty() && is_touch(collection, &changes) {
            changes.clear();
        }
        let rule = operation.authority.update(collection, &changes, sums)?;
        self.rule((number, operation), (id, &key), &rule);
        let visible = operation.authority.visible(collection);
        let asked = (!visible.is_local()).then(|| {
            let statement = passes(collection, key.clone(), &visible);
            self.step((statement, Expect::Any), (number, Part::Asked))
        });
        let statement = adjust(collection, key.clone(), changes, sums.clone());
        let step = self.document(number, id.to_owned(), statement);
        if let Some((bounds, field)) = operation.bounds() {
            let part = Part::Bounds(field.to_owned());
            self.check(number, part, passes(collection, key, &bounds));
        }
        Ok(Planned::Returned(step, asked))
    }

    /// The document must pass the rule before it is written.
    fn rule(&mut self, (number, operation): (usize, &Operation), (id, key): (&str, &Value), rule: &Filter) {
        if !rule.is_true() {
            let statement = passes(&operation.collection, key.clone(), rule);
            self.check(number, Part::Rule(Some(id.to_owned())), statement);
        }
    }

    fn document(&mut self, operation: usize, id: String, statement: Statement) -> usize {
        self.step((statement, Expect::Row), (operation, Part::Document(id)))
    }

    fn check(&mut self, operation: usize, part: Part, statement: Statement) {
        let expect = Expect::Holds(Condition::Precondition);
        self.step((statement, expect), (operation, part));
    }

    fn step(&mut self, (statement, expect): (Statement, Expect), (operation, part): (usize, Part)) -> usize {
        self.steps.push(WriteStep { statement, expect });
        self.roles.push(Role { operation, part });
        self.steps.len() - 1
    }
}

impl Engine {
    /// The error of a step in terms of its operation.
    async fn explained(&self, error: Error, role: &Role, operation: &Operation, deadline: Instant) -> Error {
        let collection = &operation.collection;
        let told = match (&role.part, error.code()) {
            (Part::Document(id), "DOCUMENT_NOT_FOUND") => not_found(collection, id),
            (Part::Condition, "PRECONDITION_FAILED") => condition_failed(),
            (Part::Bounds(field), "PRECONDITION_FAILED") => out_of_bounds(field),
            (Part::Rule(Some(id)), "PRECONDITION_FAILED") => self.refused(operation, id, deadline).await,
            (Part::Rule(None), "PRECONDITION_FAILED") => forbidden(collection, operation.action()),
            _ => error,
        };
        told.with_step(role.operation)
    }

    /// Why the document with that key did not pass the operation's rule: the caller may not, or it is not there as far
    /// as the caller may know.
    async fn refused(&self, operation: &Operation, id: &str, deadline: Instant) -> Error {
        let collection = &operation.collection;
        let Some(key) = parse_key(collection, id) else {
            return not_found(collection, id);
        };
        let visible = operation.authority.visible(collection);
        match self.asks(passes(collection, key, &visible), deadline).await {
            Ok(true) => forbidden(collection, operation.action()),
            Ok(false) => not_found(collection, id),
            Err(error) => error,
        }
    }

    /// Whether a statement that only checks holds now.
    pub(super) async fn asks(&self, statement: Statement, deadline: Instant) -> Result<bool> {
        let read = Read {
            statements: vec![statement],
            cost: ReadCost::Scan,
            deadline,
        };
        let reply = self.store.read(read).await?;
        Ok(reply.results.first().is_some_and(|rows| !rows.rows.is_empty()))
    }
}

fn outcome(operation: &Operation, planned: Planned, returned: &mut [Rows]) -> Result<Outcome> {
    let collection = &operation.collection;
    let (row, asked) = match planned {
        Planned::Nothing => return Ok(Outcome::deleted()),
        Planned::Known(row) => (row, None),
        Planned::Returned(step, asked) => {
            let asked = asked
                .and_then(|step| returned.get(step))
                .map(|rows| !rows.rows.is_empty());
            let row = returned
                .get_mut(step)
                .and_then(|rows| rows.rows.pop())
                .ok_or_else(|| Error::internal("the store gave no document for an operation"))?;
            (row, asked)
        }
    };
    let readable = |row: &Row| asked.unwrap_or_else(|| operation.authority.visible(collection).matches(row));
    Ok(match operation.kind {
        Kind::Create => Outcome::created(collection, row),
        Kind::Get => Outcome::found(collection, row),
        Kind::Update | Kind::Upsert | Kind::Delete => {
            let readable = readable(&row);
            Outcome::changed(collection, row, readable)
        }
    })
}
