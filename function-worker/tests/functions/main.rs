//! The worker with real processes of Node, Python and Go.

mod context;
mod failures;
mod go;
mod pools;
mod python;
mod styles;
mod support;
