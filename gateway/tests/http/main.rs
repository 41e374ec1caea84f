//! The gateway's HTTP side over a real listener and a real database.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own tasks end with its runtime"
)]

mod accounts;
mod anonymous;
mod batches;
mod connections;
mod described;
mod documentation;
mod documents;
mod edge;
mod files;
mod frontend;
mod functions;
mod logs;
mod mails;
mod operators;
mod passwords;
mod preconditions;
mod scopes;
mod second_factor;
mod settings;
mod site;
mod transactions;
