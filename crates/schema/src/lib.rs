//! The user's data model: reading `schema.yaml`, checking documents against it, and planning its changes.
//!
//! Pure: no I/O, no runtime, no HTTP, no SQL driver. SQL leaves this crate as text.

mod model;

pub use model::{
    Access, Collection, DefaultValue, Field, FieldType, Format, Index, OnDelete, Reference, Schema,
    SortOrder, Validation,
};
