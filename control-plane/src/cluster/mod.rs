//! The control plane of a cluster: of several processes one leads, and only that one owns the desired state.
//!
//! **Invariant:** a schema is applied by the leader only, and of two processes that both take themselves for the leader
//! only one can: both would record the same revision number.
//!
//! **Invariant:** a leader that cannot reach the database goes on serving the state that it has; it steps down only
//! when another one leads.

mod drains;
mod lead;
mod lease;
mod registry;

pub use lead::{ClusterControl, ClusterOptions};
pub(crate) use lead::{Standing, Term};
pub(crate) use registry::{NodeList, Registered};
