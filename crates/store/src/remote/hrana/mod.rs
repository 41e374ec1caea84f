//! Hrana 3 over HTTP, the libSQL server's protocol, as far as the store speaks it
//! (<https://github.com/tursodatabase/libsql/blob/main/docs/HRANA_3_SPEC.md>): batches on streams.

mod reply;
mod request;

pub(super) use reply::{Answer, BatchReply, Cell, ServerError, StepReply};
pub(super) use request::{Batch, When};
