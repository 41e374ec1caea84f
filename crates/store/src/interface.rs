//! What a store is asked and what it answers.

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Row, Seq, Statement, TraceContext};

/// One atomic write: all its steps or none.
#[derive(Debug, Clone)]
pub struct Write {
    /// Steps in order; at most 4096.
    pub steps: Vec<WriteStep>,
    /// When the caller gives up. A write whose deadline passes before the writer takes it is dropped unapplied
    /// (`WRITE_TIMEOUT`); one that was taken is carried out.
    pub deadline: Instant,
}

/// One statement of a write.
#[derive(Debug, Clone)]
pub struct WriteStep {
    /// What to run. Rows of a `RETURNING` clause are in the reply.
    pub statement: Statement,
    /// What must hold for the write to go on.
    pub expect: Expect,
}

/// What a step must have done. Where it has not, the whole write is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Changed or returned at least one row; else the error is `NotFound` / `DOCUMENT_NOT_FOUND`.
    Row,
    /// The same with the condition's own error. What a reading step returned is not in the reply then.
    Holds(Condition),
}

/// What a step stands for that only checks, or that is carried out only where something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// What the caller demands of the document: else `PreconditionFailed` / `PRECONDITION_FAILED`.
    Precondition,
    /// What a transaction has read is still so: else `Conflict` / `TRANSACTION_CONFLICT`.
    Snapshot,
    /// No request had this idempotency key: else `Conflict` / `IDEMPOTENCY_KEY_TAKEN`.
    FreeKey,
}

/// What a write did.
#[derive(Debug, Clone, Default)]
pub struct WriteReply {
    /// One per step.
    pub steps: Vec<Rows>,
    /// Position of the commit that this write is part of; at least that of its own last change.
    pub position: Seq,
}

/// Rows that a statement returned.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Rows inserted, changed or deleted (triggers and cascades not counted).
    pub affected: u64,
}

/// One read: all its statements see the same state of the database.
#[derive(Debug, Clone)]
pub struct Read {
    /// Statements in order; at most 64.
    pub statements: Vec<Statement>,
    /// What it costs, which decides where it runs.
    pub cost: ReadCost,
    /// When the caller gives up (`QUERY_TIMEOUT`).
    pub deadline: Instant,
}

/// Where a read runs in the embedded store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadCost {
    /// Touches a handful of pages for certain (by primary key): runs on the caller's thread, and the reply's
    /// position is not looked up (`Seq(0)`).
    Point,
    /// Anything else: runs on a reader thread, and the reply tells its position.
    Scan,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct ReadReply {
    /// One per statement.
    pub results: Vec<Rows>,
    /// The log position of the state that was read.
    pub position: Seq,
}

/// One commit of the database with every change that it made, in order.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Position after this commit: the `seq` of its last change.
    pub position: Seq,
    /// Its changes by ascending `seq`, without gaps; never empty.
    pub changes: Arc<[Change]>,
    /// Traces that its writes belong to, those alone that somebody may be recording; at most [`Commit::MAX_TRACES`].
    pub traces: Vec<TraceContext>,
}

impl Commit {
    /// Most traces that a commit tells; several writes share one.
    pub const MAX_TRACES: usize = 8;

    /// The `seq` of its first change.
    pub fn first(&self) -> Seq {
        self.changes.first().map_or(self.position, |change| change.seq)
    }
}

/// One row of the change log.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its place in the log.
    pub seq: Seq,
    /// The table.
    pub collection: Arc<str>,
    /// What happened.
    pub op: ChangeOp,
    /// The row before (update, delete), as the JSON object that the trigger wrote: field → storage value,
    /// blobs as hexadecimal text.
    pub old: Option<Arc<str>>,
    /// The row after (insert, update).
    pub new: Option<Arc<str>>,
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeOp {
    /// It is new.
    Insert,
    /// It changed.
    Update,
    /// It is gone.
    Delete,
}

/// A stretch of the log.
#[derive(Debug, Clone, Default)]
pub struct LogBatch {
    /// Whole commits after the asked position, oldest first.
    pub commits: Vec<Commit>,
    /// The log's head when it was read.
    pub head: Seq,
    /// Everything up to here has been cut off. Where it is above the asked position, the reader has lost its
    /// place and must start from a fresh snapshot.
    pub horizon: Seq,
}
