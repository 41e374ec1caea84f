//! The user's data model: reading `schema.yaml`, checking documents against it, and planning its changes.
//!
//! Pure: no I/O, no runtime, no HTTP, no SQL driver. SQL leaves this crate as text.

mod ddl;
mod document;
mod files;
mod formats;
mod model;
mod parse;
mod plan;
mod problem;
mod richtext;
mod settle;

pub use ddl::{create_table, drop_triggers, row_number, search_table, triggers};
pub use document::{
    is_touch, key_to_json, parse_key, read_create, read_update, row_from_image, value_from_json,
    value_from_text, value_to_json, write_json, write_json_with,
};
pub use files::{FILES_TABLE, file_field, file_tables, files, files_are_there};
pub use model::{
    Access, Bucket, BucketRules, Collection, DefaultValue, Field, FieldType, FileRule, Format, Index,
    OnDelete, Reference, RuleText, RuleTexts, Schema, SortOrder, Storage, Validation,
};
pub use parse::{ParsedSchema, parse};
pub use plan::{Class, Plan, Proposal, Step, Verdict, plan, plan_numbered};
pub use problem::{Problem, SchemaErrors};
pub use richtext::{RichFormat, RichFormats};
pub use settle::{
    Column, Database, Limits, NotSettled, Progress, Table, Tables, Transition, Undone, inspect,
};
