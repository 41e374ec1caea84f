//! The bytes of files, in folders of a file system.
//!
//! ```text
//! {root}/.incoming/{random}        what is being received
//! {root}/{base}{bucket}/{id}       what was kept
//! {root}/.alyx-{mark}              whose folder this is
//! ```
//!
//! **Invariants:** a file that is kept is whole and on disk before anybody is told so: written under another name, synced,
//! renamed, and its folder synced. No name that a caller sent is part of a path: files are named by a [`FileId`], folders by
//! a bucket of the schema, and both are checked here again.
//!
//! Knows nothing of what the files are; their rows are somebody else's.

mod folder;
mod incoming;
mod sweep;

pub use folder::{FileId, Folder};
pub use incoming::{Incoming, Received};
pub use sweep::{Scan, Stray};
