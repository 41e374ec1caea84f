//! The checked data model. A [`Schema`] exists only if everything in it is consistent.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use regex::Regex;

use crate::richtext::RichFormats;

/// A whole checked schema. Collections keep their order of declaration.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// The `version` key; 1 where it is absent.
    pub version: u32,
    /// Collections by name.
    pub collections: IndexMap<String, Arc<Collection>>,
    /// Buckets by name.
    pub buckets: IndexMap<String, Arc<Bucket>>,
}

impl Schema {
    /// The collection of that name.
    pub fn collection(&self, name: &str) -> Option<&Arc<Collection>> {
        self.collections.get(name)
    }
}

/// One collection: a table with its fields, indexes and access.
#[derive(Debug, Clone)]
pub struct Collection {
    /// Name, also that of the table.
    pub name: String,
    /// What it is for, in the author's words.
    pub description: Option<String>,
    /// Fields in order of declaration, which is the order of the table's columns and of every [`alyx_core::Row`].
    pub fields: Vec<Field>,
    /// Declared indexes; those of single fields are [`Field::index`].
    pub indexes: Vec<Index>,
    /// Positions of the fields that the full-text index covers, in order; empty where there is none.
    pub search: Vec<usize>,
    /// Who may do what: false is nobody from outside. Where it is true, a rule may still have to agree.
    pub access: Access,
    /// The rules that decide by an expression.
    pub rules: RuleTexts,
    /// Position of the primary field in `fields`.
    pub(crate) primary: usize,
    /// Position by field name.
    pub(crate) positions: HashMap<String, usize>,
}

impl Collection {
    /// Position of the primary field.
    pub fn primary(&self) -> usize {
        self.primary
    }

    /// The primary field.
    pub fn primary_field(&self) -> &Field {
        &self.fields[self.primary]
    }

    /// Position and field of that name, internal fields included.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.positions
            .get(name)
            .map(|&position| (position, &self.fields[position]))
    }

    /// Position and field of that name, unless it is internal: what callers may name.
    pub fn visible_field(&self, name: &str) -> Option<(usize, &Field)> {
        self.field(name).filter(|(_, field)| !field.internal)
    }
}

/// One field of a collection.
#[derive(Debug, Clone)]
pub struct Field {
    /// Name, also that of the column.
    pub name: String,
    /// What it is for, in the author's words.
    pub description: Option<String>,
    /// Type.
    pub kind: FieldType,
    /// The primary key; exactly one per collection.
    pub primary: bool,
    /// No two documents share a value.
    pub unique: bool,
    /// May be null.
    pub nullable: bool,
    /// Has an index of its own.
    pub index: bool,
    /// What a document gets that does not say.
    pub default: Option<DefaultValue>,
    /// Foreign key.
    pub references: Option<Reference>,
    /// What a field of type [`FieldType::File`] takes; `None` for every other type.
    pub file: Option<FileRule>,
    /// Set to the time of every update (`onUpdate: now`).
    pub on_update_now: bool,
    /// Never leaves the server, cannot be named by callers.
    pub internal: bool,
    /// Checks on top of the type.
    pub validation: Validation,
}

/// Field types and how they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// RFC 9562 UUID, `TEXT`, hyphenated lower case.
    Uuid,
    /// `TEXT`, meant to be short.
    String,
    /// `TEXT`.
    Text,
    /// `INTEGER`, signed 64 bits.
    Int,
    /// `REAL`.
    Float,
    /// `INTEGER` 0 or 1.
    Bool,
    /// `TEXT`, RFC 3339 UTC with milliseconds.
    Timestamp,
    /// `TEXT` holding any JSON value in compact form.
    Json,
    /// `BLOB`; base64 (RFC 4648, padded) in JSON.
    Blob,
    /// `TEXT`, an e-mail address.
    Email,
    /// `TEXT`, an http or https URL.
    Url,
    /// `TEXT`, a day of the calendar: `YYYY-MM-DD`.
    Date,
    /// `TEXT`: one of [`Validation::one_of`] as it is, or several as a compact JSON array.
    Select,
    /// `TEXT`: HTML with nothing in it but [`Validation::formats`].
    RichText,
    /// `TEXT`, the id of a stored file.
    File,
    /// `TEXT`, 15 letters and digits.
    Id,
}

/// How values are stored: the type of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// `TEXT`.
    Text,
    /// `INTEGER`.
    Integer,
    /// `REAL`.
    Real,
    /// `BLOB`.
    Blob,
}

impl FieldType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::Uuid,
        Self::String,
        Self::Text,
        Self::Int,
        Self::Float,
        Self::Bool,
        Self::Timestamp,
        Self::Json,
        Self::Blob,
        Self::Email,
        Self::Url,
        Self::Date,
        Self::Select,
        Self::RichText,
        Self::File,
        Self::Id,
    ];

    /// The word in `schema.yaml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::String => "string",
            Self::Text => "text",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
            Self::Blob => "blob",
            Self::Email => "email",
            Self::Url => "url",
            Self::Date => "date",
            Self::Select => "select",
            Self::RichText => "richtext",
            Self::File => "file",
            Self::Id => "id",
        }
    }

    /// How its values are stored.
    pub const fn storage(self) -> Storage {
        match self {
            Self::Uuid
            | Self::String
            | Self::Text
            | Self::Timestamp
            | Self::Json
            | Self::Email
            | Self::Url
            | Self::Date
            | Self::Select
            | Self::RichText
            | Self::File
            | Self::Id => Storage::Text,
            Self::Int | Self::Bool => Storage::Integer,
            Self::Float => Storage::Real,
            Self::Blob => Storage::Blob,
        }
    }

    /// Whether values are free text, stored as it is: such types differ in what they are checked for only.
    pub const fn is_free_text(self) -> bool {
        match self {
            Self::String | Self::Text | Self::Email | Self::Url => true,
            Self::Uuid
            | Self::Int
            | Self::Float
            | Self::Bool
            | Self::Timestamp
            | Self::Json
            | Self::Blob
            | Self::Date
            | Self::Select
            | Self::RichText
            | Self::File
            | Self::Id => false,
        }
    }
}

/// What a document gets for a field that it does not name.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultValue {
    /// Made by the server: UUIDv7 for `uuid`, random for `id`, autoincrement for a primary `int`.
    Auto,
    /// The time of the write.
    Now,
    /// A fixed value, already in storage form.
    Literal(alyx_core::Value),
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Referenced collection.
    pub collection: String,
    /// Referenced field: the primary one or a unique one.
    pub field: String,
    /// What happens to this document when the referenced one is deleted.
    pub on_delete: OnDelete,
}

/// Action on the deletion of a referenced document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDelete {
    /// The deletion is refused.
    #[default]
    Restrict,
    /// This document is deleted too.
    Cascade,
    /// The field becomes null.
    SetNull,
}

/// Checks on top of the type. Lengths count Unicode scalar values.
#[derive(Debug, Clone, Default)]
pub struct Validation {
    /// Shortest text.
    pub min_length: Option<u64>,
    /// Longest text.
    pub max_length: Option<u64>,
    /// Least number.
    pub min: Option<f64>,
    /// Greatest number.
    pub max: Option<f64>,
    /// Named format.
    pub format: Option<Format>,
    /// Pattern that must match somewhere in the text (unanchored).
    pub pattern: Option<Regex>,
    /// The only texts allowed; of a [`FieldType::Select`], the values to choose from.
    pub one_of: Vec<String>,
    /// How many values of a [`FieldType::Select`] can be chosen at once; `None` is any number.
    pub max_select: Option<usize>,
    /// What a [`FieldType::RichText`] lets through.
    pub formats: RichFormats,
}

/// What a field of type file takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRule {
    /// The bucket that the file must be in.
    pub bucket: String,
    /// Largest file in bytes, on top of the bucket's own limit.
    pub max_size: Option<u64>,
    /// The only media types allowed, `type/subtype` or `type/*`; empty for those of the bucket.
    pub allowed_types: Vec<String>,
    /// What happens to the file when the document is deleted or gets another one: [`OnDelete::Cascade`] deletes it,
    /// the others keep it.
    pub on_delete: OnDelete,
}

/// A place for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Name.
    pub name: String,
    /// What it is for, in the author's words.
    pub description: Option<String>,
    /// The storage that holds it, by its name in the configuration.
    pub backend: String,
    /// Largest file in bytes; `None` is no limit.
    pub max_file_size: Option<u64>,
    /// All files together in bytes; `None` is no limit.
    pub max_total_size: Option<u64>,
    /// The only media types allowed, `type/subtype` or `type/*`; empty for any.
    pub allowed_types: Vec<String>,
    /// Whether files are kept compressed.
    pub compression: bool,
    /// Who may do what with files and what is known of them: false is nobody from outside. Where it is true, a rule may
    /// still have to agree.
    pub access: Access,
    /// May anyone read what is in them?
    pub download: bool,
    /// The rules that decide by an expression.
    pub rules: BucketRules,
}

/// The rules of a bucket that decide by an expression. Where there is none, its access alone decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketRules {
    /// Who may upload files, and which.
    pub create: Option<RuleText>,
    /// Who may see which files are there.
    pub read: Option<RuleText>,
    /// Who may change what is known of them.
    pub update: Option<RuleText>,
    /// Who may delete which of them.
    pub delete: Option<RuleText>,
    /// Who may read what is in which of them.
    pub download: Option<RuleText>,
}

impl Bucket {
    /// Whether files of that media type may be in it; parameters of the type play no part.
    pub fn takes(&self, mime_type: &str) -> bool {
        takes(&self.allowed_types, mime_type)
    }
}

impl FileRule {
    /// Whether the field takes files of that media type; parameters of the type play no part.
    pub fn takes(&self, mime_type: &str) -> bool {
        takes(&self.allowed_types, mime_type)
    }
}

fn takes(allowed: &[String], mime_type: &str) -> bool {
    let essence = mime_type.split(';').next().unwrap_or_default().trim();
    let kind = essence.split('/').next().unwrap_or_default();
    allowed.is_empty()
        || allowed.iter().any(|allowed| match allowed.strip_suffix("/*") {
            Some("*") => true,
            Some(any) => any.eq_ignore_ascii_case(kind),
            None => allowed.eq_ignore_ascii_case(essence),
        })
}

/// Named formats of `validate.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `local@domain.tld`.
    Email,
    /// `http://` or `https://` with a host.
    Url,
    /// RFC 9562 text form.
    Uuid,
}

/// A declared index over one or more fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Name, unique in the database.
    pub name: String,
    /// Positions of the fields, in order.
    pub fields: Vec<usize>,
    /// No two documents share the values.
    pub unique: bool,
    /// Order of every column.
    pub order: SortOrder,
}

/// Direction of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Ascending.
    #[default]
    Asc,
    /// Descending.
    Desc,
}

/// A rule as its author wrote it, still to be compiled by `alyx-rules`, and where it stands.
#[derive(Debug, Clone)]
pub struct RuleText {
    /// An expression.
    pub text: std::sync::Arc<str>,
    /// Dotted path of the option that holds it.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The same rule is the same wherever it stands.
impl PartialEq for RuleText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RuleText {}

/// The rules of a collection that decide by an expression. Where there is none, [`Access`] alone decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleTexts {
    /// Who may create documents.
    pub create: Option<RuleText>,
    /// Who may read which of them.
    pub read: Option<RuleText>,
    /// Who may change which of them, and how.
    pub update: Option<RuleText>,
    /// Who may delete which of them.
    pub delete: Option<RuleText>,
}

/// Who may do what with a collection's documents: open to the world, or closed to all but functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// May anyone create documents?
    pub create: bool,
    /// May anyone read them?
    pub read: bool,
    /// May anyone change them?
    pub update: bool,
    /// May anyone delete them?
    pub delete: bool,
}

impl Access {
    /// Open to the world.
    pub const OPEN: Self = Self {
        create: true,
        read: true,
        update: true,
        delete: true,
    };
    /// Closed.
    pub const CLOSED: Self = Self {
        create: false,
        read: false,
        update: false,
        delete: false,
    };
}
