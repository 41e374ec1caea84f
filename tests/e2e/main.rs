//! End-to-end tests: each starts the built binary on a project of its own and uses it from the outside.

mod admin;
mod authority;
mod cluster;
mod config;
mod crash;
mod docs;
mod drain;
mod functions;
mod operations;
mod queries;
mod realtime;
mod reload;
mod rest;
mod trace;
mod transactions;
mod types;
