//! Gateways and realtime nodes joined by gRPC over real listeners, in one process, on one database: what every
//! gateway is told is checked against what the queries return.

mod disagreement;
mod following;
mod moving;
mod support;
