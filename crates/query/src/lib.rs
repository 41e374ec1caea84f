//! Queries over one collection: one filter tree that runs as SQL and in memory with the same result.
//!
//! Pure: no I/O, no runtime, no HTTP, no SQL driver.

mod ast;

pub use ast::{CompareOp, Filter, Query, SortKey};
