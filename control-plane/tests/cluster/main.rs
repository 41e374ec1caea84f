//! A cluster's control plane as its nodes see it: state, directory, bundles, and what happens when it dies.

mod admin;
mod directory;
mod leaders;
mod state;
mod support;
