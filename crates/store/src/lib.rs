//! The database behind one interface: atomic writes that land in a change log, and reads with a position in it.
//!
//! **Invariant:** every row of a tracked table that changes is written to `_alyx_changes` by the writer's own
//! transaction, and `seq` order is commit order.
//!
//! Three backends: a file that this process alone serves ([`Store::open_embedded`]), a database on a libSQL server that
//! this process alone writes ([`Store::open_remote`]), and the same with several processes, one of which writes for all
//! ([`Store::open_cluster`]). No type of the driver or the protocol appears in this interface.

mod alteration;
mod cluster;
mod embedded;
mod failure;
mod health;
mod idempotency;
mod interface;
mod queue;
mod remote;
mod statement_text;
mod stats;
pub mod steps;
mod store;

pub use alteration::Alteration;
pub use cluster::{ClusterOptions, GrpcForwarder, WriteForwarder, WriterService, WriterStatus};
pub use embedded::EmbeddedOptions;
pub use idempotency::KeptReply;
pub use interface::{
    Change, ChangeOp, Commit, Condition, Expect, LogBatch, Read, ReadCost, ReadReply, Rows, Write,
    WriteReply, WriteStep,
};
pub use remote::{RemoteOptions, WriteId};
pub use stats::{BATCH_BOUNDS, StoreStats};
pub use store::Store;
