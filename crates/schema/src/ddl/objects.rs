//! What stands beside a collection's table: its indexes and triggers, by name.

use super::{create_field_index, create_index, field_index, search, trigger_name};
use crate::ddl::{image, quote, text_literal};
use crate::model::Collection;

/// An index or a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    /// Its name, unique in the database.
    pub(crate) name: String,
    /// The statement that creates it, which is what the database keeps of it.
    pub(crate) sql: String,
}

impl Object {
    pub(super) fn new(name: impl Into<String>, sql: String) -> Self {
        let name = name.into();
        Self { name, sql }
    }
}

/// All indexes of the collection, in the order in which they are created.
pub(crate) fn indexes(collection: &Collection) -> Vec<Object> {
    let of_fields = collection.fields.iter().filter_map(|field| {
        let name = field_index(collection, field)?;
        Some(Object::new(name, create_field_index(collection, field)?))
    });
    let declared = collection
        .indexes
        .iter()
        .map(|index| Object::new(&index.name, create_index(collection, index)));
    of_fields.chain(declared).collect()
}

/// The triggers that write the change log.
pub(crate) fn log_triggers(collection: &Collection) -> Vec<Object> {
    let table = quote(&collection.name);
    let name = text_literal(&collection.name);
    let key = quote(&collection.primary_field().name);
    let old = image::sql(collection, "OLD");
    let new = image::sql(collection, "NEW");
    let one = |event: &str, op: u8, key_of: &str, old: &str, new: &str| {
        let trigger = trigger_name(collection, event);
        let sql = format!(
            "CREATE TRIGGER {} AFTER {event} ON {table} BEGIN \
             INSERT INTO \"_alyx_changes\" (\"collection\", \"op\", \"id\", \"old\", \"new\") \
             VALUES ({name}, {op}, {key_of}.{key}, {old}, {new}); END",
            quote(&trigger)
        );
        Object::new(trigger, sql)
    };
    vec![
        one("INSERT", 1, "NEW", "NULL", &new),
        one("UPDATE", 2, "NEW", &old, &new),
        one("DELETE", 3, "OLD", &old, "NULL"),
    ]
}

/// Everything beside the table, in the order in which it is created. Triggers keep the full-text index, so that must
/// be there before they are.
pub(crate) fn objects(collection: &Collection) -> Vec<Object> {
    let mut objects = indexes(collection);
    objects.extend(log_triggers(collection));
    objects.extend(search::triggers(collection));
    objects
}
