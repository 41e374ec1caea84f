//! What to do instead of a change that is refused. Every sentence must be true of this version, which never
//! deletes or converts data by itself.

use crate::ddl::quote;

/// A collection that is no longer declared.
pub(super) fn dropped_collection(name: &str) -> String {
    format!(
        "put `{name}` back into the schema; `rules: {{create: false, read: false, update: false, delete: false}}` \
         closes it to all but functions"
    )
}

/// A field that is no longer declared. `renamed` is a new field that could be the same under another name.
pub(super) fn dropped_field(collection: &str, name: &str, renamed: Option<&str>) -> String {
    match renamed {
        Some(new) => format!(
            "if `{name}` is now called `{new}`: declare both, copy the values ({}), then hide the old field \
             with `internal: true` and `nullable: true`",
            copy(collection, name, new)
        ),
        None => format!(
            "put `{name}` back; `internal: true` hides it from callers, and `nullable: true` lets new documents \
             do without it"
        ),
    }
}

/// A field whose values would have to be converted.
pub(super) fn converted(collection: &str, name: &str) -> String {
    let new = format!("{name}_new");
    format!(
        "put the old declaration back, declare a new field such as `{new}` beside it, copy the values ({}), then \
         hide the old field with `internal: true`",
        copy(collection, name, &new)
    )
}

fn copy(collection: &str, from: &str, to: &str) -> String {
    format!(
        "from a function, or with the server stopped and any SQLite tool: UPDATE {} SET {} = {}",
        quote(collection),
        quote(to),
        quote(from)
    )
}

/// A field that must no longer be null.
pub(super) fn required(name: &str) -> String {
    format!("leave `{name}` nullable, or declare a new required field that has a default")
}

/// A required field without anything to put into old documents.
pub(super) fn needs_default(name: &str) -> String {
    format!("give `{name}` a `default`, or make it `nullable: true`")
}

/// A field that must become unique.
pub(super) fn unique_field(name: &str) -> String {
    format!("take `unique` off `{name}`, or declare a new `nullable: true` field with it and copy the values")
}

/// A new unique index.
pub(super) fn unique_index(name: &str) -> String {
    format!("take `unique` off the index `{name}`, or include a new `nullable: true` field in it")
}

/// Anything about the primary key.
pub(super) fn primary(collection: &str) -> String {
    format!(
        "put the old primary field of `{collection}` back, or declare a new collection and copy the documents with \
         a function"
    )
}

/// A foreign key that would have to be added to a new field with values in it.
pub(super) fn new_reference(name: &str) -> String {
    format!("make `{name}` `nullable: true` without a default, so that old documents refer to nothing")
}

/// A field that another collection refers to.
pub(super) fn referenced(name: &str) -> String {
    format!("put the old declaration of `{name}` back")
}
