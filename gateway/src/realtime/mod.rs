//! Live queries over WebSockets: the endpoint `/api/realtime` and the hub behind it.
//!
//! A socket subscribes to a query; the hub finds or opens the query's group on the realtime node, keeps the
//! group's window in memory and hands every step of it, serialised once, to all its sockets. What the frames look
//! like is in `docs/realtime.md`.
//!
//! **Invariants:** a subscriber sees a snapshot and then exactly the steps after it, or a fresh snapshot marked
//! `reset`, never a hole; a slow peer costs a bounded amount of memory and slows down nobody else. The hub knows
//! nothing of HTTP and of the rest of the gateway.

mod connection;
mod difference;
mod group;
mod hub;
mod link;
mod message;
mod mirror;
mod places;
mod ruled_query;
mod session;
mod stats;
mod sweeper;
mod upgrade;
mod wakes;
mod wire;

#[cfg(test)]
mod tests;

pub(crate) use hub::{Hub, HubParts, Limits};
#[cfg(test)]
pub(crate) use ruled_query::RuledQuery;
pub(crate) use upgrade::upgrade;
