//! Documents on their way in and out: JSON bodies to rows, rows to JSON, filter operands, change images.
//!
//! Runs for every request, so nothing here builds a tree: a body is split into its members, each member's
//! text goes straight to its field, and rows are written straight into the reply. Lenient nowhere that
//! loses data: unknown, repeated and ill-typed fields are problems, and all of them are reported.

mod image;
mod operand;
mod problems;
mod read;
mod scalar;
mod select;
mod token;
mod write;

pub use image::row_from_image;
pub use operand::{parse_key, value_from_json, value_from_text};
pub use read::{is_touch, read_create, read_update};
pub(crate) use scalar::literal;
pub use write::{key_to_json, value_to_json, write_json, write_json_with};
