//! What a function's `ctx.db` asks for, carried from the worker that runs the function to the gateway that
//! called it.

use std::sync::Arc;

use alyx_core::Result;
use async_trait::async_trait;
use bytes::Bytes;

/// Answers `ctx.db` calls with the authority of one invocation. Bound to that invocation by whoever made it:
/// the function's code holds no token and cannot name another caller.
#[async_trait]
pub trait DataService: Send + Sync {
    /// Runs one call and returns its result as JSON. Bounded by the invocation's deadline.
    async fn call(&self, call: DataCall) -> Result<Bytes>;
}

/// A shared [`DataService`].
pub type SharedData = Arc<dyn DataService>;

/// One `ctx.db` call.
#[derive(Debug, Clone)]
pub struct DataCall {
    /// What to do.
    pub op: DataOp,
    /// The collection's name, as the function wrote it.
    pub collection: String,
    /// JSON arguments. `List`: `{filter?, sort?, limit?, offset?, after?, fields?, expand?, search?, count?}` ·
    /// `Aggregate`: `{select?, groupBy?, filter?, search?, sort?, limit?, offset?}` · `Get`, `Delete`: `{id}` ·
    /// `Create`, `Upsert`: `{data}` · `Update`: `{id, data}` · `Begin`: anything · `Commit`, `Rollback`: `{tx}` ·
    /// `Within`: `{tx, op, args}`, another operation with its arguments.
    pub args: Bytes,
}

/// The operations of `ctx.db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataOp {
    /// → `{docs, total}`
    List,
    /// → `{groups, limit, offset, more}`
    Aggregate,
    /// → document or `null`
    Get,
    /// → document
    Create,
    /// → document
    Update,
    /// → document
    Upsert,
    /// → `{deleted: bool}`
    Delete,
    /// → `{tx}`, the number of a transaction of this invocation
    Begin,
    /// → `{}`
    Commit,
    /// → `{}`
    Rollback,
    /// → what the operation gives
    Within,
}

impl DataOp {
    /// The operation of that wire name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "list" => Self::List,
            "aggregate" => Self::Aggregate,
            "get" => Self::Get,
            "create" => Self::Create,
            "update" => Self::Update,
            "upsert" => Self::Upsert,
            "delete" => Self::Delete,
            "begin" => Self::Begin,
            "commit" => Self::Commit,
            "rollback" => Self::Rollback,
            "within" => Self::Within,
            _ => return None,
        })
    }
}
