//! Evaluates live queries: follows the change log, keeps the window of every distinct query, and tells gateways
//! what changed. Knows nothing of sockets, dialects or clients.
//!
//! **Invariants:** what a gateway has seen of a group after any event is what the query returns at exactly the
//! event's position. Within a group, each event begins where the one before it ended.

mod engine;
mod group;
mod grpc;
mod joins;
mod link;
mod node;
mod rebind;
mod record;
mod router;
mod tail;
mod window;

pub use grpc::RealtimeRpc;
pub use node::{Limits, NodeParts, RealtimeNode, Stats};
