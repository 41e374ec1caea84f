//! Files as rows: what is known of every file in every bucket, in one table.
//!
//! Seen as a collection, so that rules, filters, orders and pages work on files as they do on documents. Its bytes are
//! somewhere else, under the file's id. No trigger of the change log is on it: files are not followed live.
//!
//! **Invariant:** a row that goes, for whatever reason, leaves its id in `_alyx_file_trash` in the same transaction,
//! until its bytes are gone too; and `_alyx_file_totals` is what the rows of a bucket come to.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::ddl::quote;
use crate::model::{Access, Collection, Field, FieldType, RuleTexts, Validation};

/// The table.
pub const FILES_TABLE: &str = "_alyx_files";

/// Positions of its fields.
pub mod file_field {
    /// UUIDv7, made by the server.
    pub const ID: usize = 0;
    /// The bucket's name.
    pub const BUCKET: usize = 1;
    /// The name that it was uploaded with, without any folder.
    pub const NAME: usize = 2;
    /// Media type, with `charset` for text.
    pub const MIME_TYPE: usize = 3;
    /// Bytes.
    pub const SIZE: usize = 4;
    /// SHA-256 in lower case hexadecimal.
    pub const CHECKSUM: usize = 5;
    /// The account that uploaded it; null where none had signed in.
    pub const UPLOADER_ID: usize = 6;
    /// What the uploader says of it: a JSON object of texts.
    pub const METADATA: usize = 7;
    /// When it was stored.
    pub const CREATED_AT: usize = 8;
    /// When the row last changed.
    pub const UPDATED_AT: usize = 9;
    /// The storage that holds its bytes; never leaves the server.
    pub const BACKEND: usize = 10;
}

/// The table as a collection.
pub fn files() -> &'static Arc<Collection> {
    static FILES: LazyLock<Arc<Collection>> = LazyLock::new(|| Arc::new(describe()));
    &FILES
}

fn describe() -> Collection {
    let field = |name: &str, kind: FieldType| Field {
        name: name.to_owned(),
        description: None,
        kind,
        primary: name == "id",
        unique: false,
        nullable: matches!(name, "uploader_id" | "metadata"),
        index: false,
        default: None,
        references: None,
        file: None,
        on_update_now: false,
        internal: name == "backend",
        validation: Validation::default(),
    };
    let fields = vec![
        field("id", FieldType::Uuid),
        field("bucket", FieldType::String),
        field("name", FieldType::String),
        field("mime_type", FieldType::String),
        field("size", FieldType::Int),
        field("checksum", FieldType::String),
        field("uploader_id", FieldType::String),
        field("metadata", FieldType::Json),
        field("created_at", FieldType::Timestamp),
        field("updated_at", FieldType::Timestamp),
        field("backend", FieldType::String),
    ];
    let names = fields.iter().enumerate();
    let positions: HashMap<String, usize> = names.map(|(at, field)| (field.name.clone(), at)).collect();
    Collection {
        name: FILES_TABLE.to_owned(),
        description: None,
        fields,
        indexes: Vec::new(),
        search: Vec::new(),
        access: Access::CLOSED,
        rules: RuleTexts::default(),
        primary: file_field::ID,
        positions,
    }
}

/// Statements that make what is missing of the tables about files. Those of the last one are looked for to know whether
/// all are there: see [`files_are_there`].
pub fn file_tables() -> Vec<String> {
    let columns: Vec<String> = files()
        .fields
        .iter()
        .map(|field| {
            let kind = if field.kind == FieldType::Int {
                "INTEGER"
            } else {
                "TEXT"
            };
            let key = if field.primary { " PRIMARY KEY" } else { "" };
            let required = if field.nullable { "" } else { " NOT NULL" };
            format!("{} {kind}{key}{required}", quote(&field.name))
        })
        .collect();
    let mut statements = vec![format!(
        "CREATE TABLE IF NOT EXISTS {FILES_TABLE} ({}) STRICT",
        columns.join(", ")
    )];
    statements.extend(
        [
            "CREATE INDEX IF NOT EXISTS _alyx_files_by_bucket ON _alyx_files (bucket, id)",
            "CREATE TABLE IF NOT EXISTS _alyx_file_totals (bucket TEXT PRIMARY KEY NOT NULL, \
             files INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT",
            "CREATE TABLE IF NOT EXISTS _alyx_file_trash (id TEXT PRIMARY KEY NOT NULL, bucket TEXT NOT NULL, \
             backend TEXT NOT NULL) STRICT",
            // Which folder of files belongs to this database.
            "CREATE TABLE IF NOT EXISTS _alyx_file_marks (backend TEXT PRIMARY KEY NOT NULL, \
             mark TEXT NOT NULL) STRICT",
            "CREATE TRIGGER IF NOT EXISTS _alyx_files_added AFTER INSERT ON _alyx_files BEGIN \
             INSERT INTO _alyx_file_totals (bucket, files, bytes) VALUES (NEW.bucket, 1, NEW.size) \
             ON CONFLICT (bucket) DO UPDATE SET files = files + 1, bytes = bytes + NEW.size; END",
            "CREATE TRIGGER IF NOT EXISTS _alyx_files_gone AFTER DELETE ON _alyx_files BEGIN \
             UPDATE _alyx_file_totals SET files = files - 1, bytes = bytes - OLD.size WHERE bucket = OLD.bucket; \
             INSERT OR IGNORE INTO _alyx_file_trash (id, bucket, backend) \
             VALUES (OLD.id, OLD.bucket, OLD.backend); END",
        ]
        .map(str::to_owned),
    );
    statements
}

/// A query that has a row where [`file_tables`] has nothing to make.
pub const fn files_are_there() -> &'static str {
    "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = '_alyx_files_gone'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_positions_are_those_of_the_fields() {
        let at = |name: &str| files().field(name).map(|(position, _)| position);
        for (name, position) in [
            ("id", file_field::ID),
            ("bucket", file_field::BUCKET),
            ("name", file_field::NAME),
            ("mime_type", file_field::MIME_TYPE),
            ("size", file_field::SIZE),
            ("checksum", file_field::CHECKSUM),
            ("uploader_id", file_field::UPLOADER_ID),
            ("metadata", file_field::METADATA),
            ("created_at", file_field::CREATED_AT),
            ("updated_at", file_field::UPDATED_AT),
            ("backend", file_field::BACKEND),
        ] {
            assert_eq!(at(name), Some(position), "{name}");
        }
        assert_eq!(files().primary(), file_field::ID);
        assert_eq!(files().fields.len(), 11);
        assert!(files().visible_field("backend").is_none());
    }
}
