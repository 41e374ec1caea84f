//! The control plane over a real store and real files.

mod migrations;
mod remedies;
mod rollback;
mod state;
mod support;
