//! The worker with real processes of Node and Python.

mod context;
mod failures;
mod pools;
mod python;
mod styles;
mod support;
