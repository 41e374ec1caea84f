//! Documents that others refer to, read along with them.

use std::sync::Arc;

use alyx_core::{Statement, Value};
use alyx_schema::{Bucket, Collection};

use crate::ast::Filter;
use crate::sql::Writer;

/// A field whose document is wanted in place of its key.
#[derive(Debug, Clone)]
pub struct Expand {
    /// The field that refers.
    pub field: usize,
    /// The bucket of the files that it refers to, where it refers to files.
    pub bucket: Option<Arc<Bucket>>,
    /// Whose documents it refers to.
    pub collection: Arc<Collection>,
    /// The field that it refers to: the primary one or a unique one.
    pub target: usize,
    /// Which of those documents: the others are as if they were not there.
    pub filter: Filter,
    /// What is wanted of those documents in turn.
    pub inner: Vec<Expand>,
}

impl Expand {
    /// The whole rows that are referred to, in no order. One statement, however many keys; a key may be listed more
    /// than once.
    pub fn select(&self, keys: &[Value]) -> Statement {
        let mut sql = Writer::new(&self.collection);
        sql.push("SELECT ");
        sql.columns(|_| true);
        sql.push(" FROM ");
        sql.table();
        sql.push(" AS t WHERE ");
        sql.membership(self.target, keys);
        sql.and(&self.filter);
        sql.finish()
    }
}
