//! Functions in workers of their own: real gRPC listeners, real Node processes, links that can be cut.

mod data;
mod faults;
mod limits;
mod outcomes;
mod support;
