//! The control plane as the other processes of a cluster see it.
//!
//! [`RemoteControl`] follows the desired state and the directory of nodes, keeps the code of functions on disk, and
//! reports the process that it runs in to the directory.
//!
//! **Invariant:** the last good snapshot is served. With every control plane away, or one that sends what this version
//! cannot read, state and directory stay as they were, over a restart too.
//!
//! **Invariant:** a function is only in the published state of a worker once its code is on the worker's disk, and
//! that code has the hash that the control plane named.

mod address;
pub mod bundle;
mod convert;
mod endpoints;
mod follow;
mod heartbeat;
mod keep;
mod remote;

pub use address::{advertised, new_node_id, node_name};
pub use convert::{function_to_wire, node_from_wire, role_from_wire, role_to_wire};
pub use heartbeat::{HEARTBEAT_EVERY, LEASE};
pub use remote::{Announcement, RemoteControl, RemoteOptions};
