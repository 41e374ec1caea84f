//! The database behind one interface: atomic writes that land in a change log, and reads with a position in it.
//!
//! **Invariant:** every row of a tracked table that changes is written to `_alyx_changes` by the writer's own
//! transaction, and `seq` order is commit order.
//!
//! No type of the driver appears in this interface.

mod interface;

pub use interface::{
    Change, ChangeOp, Commit, Expect, LogBatch, Read, ReadCost, ReadReply, Rows, Write, WriteReply, WriteStep,
};
