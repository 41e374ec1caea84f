//! The seams between roles: what a gateway asks of realtime nodes and function workers, what workers ask back,
//! what the control plane tells everybody, and how a role starts, reports its health and figures, and stops.
//!
//! Roles know these traits and each other's data, never each other. In one process they are joined by direct
//! calls; between processes the same traits stand in front of gRPC.

pub mod cluster;
pub mod data;
pub mod durations;
pub mod function;
pub mod health;
pub mod metrics;
pub mod realtime;
pub mod repoll;
pub mod state;
pub mod tasks;
pub mod trace;
