//! Queries over one collection: one filter tree that runs as SQL and in memory with the same result.
//!
//! Pure: no I/O, no runtime, no HTTP, no SQL driver.
//!
//! **Invariant:** on rows as the database stores them, [`Filter::matches`] is true exactly where the `WHERE` of
//! [`Query::select`] is true, and [`Query::compare`] is the order of its `ORDER BY`. A property test holds both
//! against a real database.

mod aggregate;
mod ast;
mod canonical;
mod conditions;
mod cursor;
mod elsewhere;
mod eval;
mod expand;
mod json_contains;
mod json_number;
mod json_path;
mod like;
mod normalize;
mod order;
mod parse;
mod sql;
mod statements;

pub use aggregate::{Aggregate, AggregateSort, Bucket, Figure, Function, Group, Measure, SortBy};
pub use ast::{CompareOp, Exists, Filter, JsonNeedle, PathTest, Query, SortKey, Through};
pub use canonical::equality_keys;
pub use conditions::{Way, documents_unchanged, holds, passes, query_unchanged, referring, value_at};
pub use elsewhere::Elsewhere;
pub use expand::Expand;
pub use json_path::{JsonPath, Step};
pub use parse::{ListParams, OneParams, Reach, Scope, parse_filter_json, parse_query_json, prefix_end};
pub use statements::{
    adjust, delete, delete_if, get, get_if, insert, insert_returns, put, reserve_keys, set, update,
    update_if, upsert,
};
