//! The worker with real Node processes.

mod context;
mod failures;
mod pools;
mod styles;
mod support;
