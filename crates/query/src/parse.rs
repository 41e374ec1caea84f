//! Queries as callers write them: in a URL's query string, or as JSON.
//!
//! Everything that a caller names is looked up among the collection's visible fields, and what is not found is an
//! error that names it; nothing is guessed or passed on. All input is bounded here.

mod aggregate;
mod condition;
mod expand;
mod filter;
mod inside;
mod operator;
mod params;
mod query;
mod search;
mod subject;
mod suggest;

use std::fmt;

use alyx_core::{Error, ErrorKind};
use alyx_schema::Collection;

pub use condition::prefix_end;
pub use filter::parse_filter_json;
pub use params::{ListParams, OneParams};
pub use query::parse_query_json;
pub use subject::{Reach, Scope};

use suggest::{did_you_mean, shown};

/// Rows of a page where the caller does not say.
const DEFAULT_LIMIT: u32 = 100;
/// Rows of a page at most; who asks for more gets this many.
const MAX_LIMIT: u32 = 1000;
/// Longest query string, in bytes.
const MAX_QUERY_STRING: usize = 16 * 1024;
/// Conditions and connectives in one filter.
const MAX_NODES: usize = 100;
/// Objects within objects in one filter.
const MAX_DEPTH: usize = 8;
/// Values in one list.
const MAX_LIST: usize = 500;
/// Values in all lists of one filter; keeps the statement well under the parameters that SQLite takes.
const MAX_VALUES: usize = 4000;
/// Keys of a sort order.
const MAX_SORT: usize = 8;
/// Characters of a pattern or of a text to look for.
const MAX_PATTERN: usize = 1000;

fn invalid_filter(message: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_FILTER", message.to_string())
}

fn invalid_query(message: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message.to_string())
}

/// What is wrong with a field's name that the collection does not have: internal fields count as not there.
fn unknown_field(collection: &Collection, name: &str) -> String {
    let names = || {
        let visible = collection.fields.iter().filter(|field| !field.internal);
        visible.map(|field| field.name.as_str())
    };
    let hint = did_you_mean(name, names())
        .unwrap_or_else(|| format!("its fields are {}", names().collect::<Vec<_>>().join(", ")));
    format!(
        "`{}` is not a field of `{}`: {hint}",
        shown(name),
        collection.name
    )
}
