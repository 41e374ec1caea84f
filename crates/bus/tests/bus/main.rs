//! The bus, over both of its backends; NATS is a real server.

mod contract;
mod faults;
mod support;
