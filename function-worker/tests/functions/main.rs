//! The worker with real processes of Node, Python and Go.

mod context;
mod failures;
mod go;
mod hostile;
mod pools;
mod python;
mod sandbox;
mod styles;
mod support;
