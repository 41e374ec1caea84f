//! SQL as it travels between the crates that write it and the store that runs it.

use std::sync::Arc;

use crate::Value;

/// One row of a result or of a collection, in column order.
pub type Row = Vec<Value>;

/// One SQL statement with its bound parameters (`?1`, `?2`, … in order). The text holds no user data,
/// so that the store can cache the prepared form by it.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// SQL text with numbered parameters.
    pub sql: Arc<str>,
    /// One value per parameter.
    pub params: Vec<Value>,
}

impl Statement {
    /// A statement with its parameters.
    pub fn new(sql: impl Into<Arc<str>>, params: Vec<Value>) -> Self {
        Self {
            sql: sql.into(),
            params,
        }
    }
}
