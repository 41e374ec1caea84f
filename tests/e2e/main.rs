//! End-to-end tests: each starts the built binary on a project of its own and uses it from the outside.

mod access;
mod admin;
mod auth;
mod authority;
mod cluster;
mod config;
mod crash;
mod docs;
mod drain;
mod explain;
mod function_stats;
mod functions;
mod migrate;
mod oauth;
mod operations;
mod operators;
mod queries;
mod realtime;
mod rebuild;
mod reload;
mod rest;
mod rules;
mod trace;
mod transactions;
mod types;
mod typescript;
