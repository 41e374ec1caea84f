//! The database behind one interface: atomic writes that land in a change log, and reads with a position in it.
//!
//! **Invariant:** every row of a tracked table that changes is written to `_alyx_changes` by the writer's own
//! transaction, and `seq` order is commit order.
//!
//! No type of the driver appears in this interface.

mod embedded;
mod failure;
mod health;
mod interface;
mod queue;
mod statement_text;
mod stats;
mod store;

pub use embedded::{Alteration, EmbeddedOptions};
pub use interface::{
    Change, ChangeOp, Commit, Expect, LogBatch, Read, ReadCost, ReadReply, Rows, Write, WriteReply, WriteStep,
};
pub use stats::{BATCH_BOUNDS, StoreStats};
pub use store::Store;
