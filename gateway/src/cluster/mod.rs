//! The other roles of a cluster, behind the same seams as in one process.

pub(crate) mod functions;
pub(crate) mod peers;
pub(crate) mod realtime;
