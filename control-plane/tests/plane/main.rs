//! The control plane over a real store and real files.

mod migrations;
mod remedies;
mod state;
mod support;
