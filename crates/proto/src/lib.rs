//! The messages and services that cross the wire between roles, generated from `proto/`. No logic.
//!
//! Each module is one file, `proto/alyx/<area>/v1/<area>.proto`. These types stop at a role's edge: its `convert.rs`
//! turns them into the types of the seams in `alyx-service`.
//!
//! **Invariant:** fields are only ever added; a number that was used is never given to something else, so that roles
//! of two neighbouring versions understand each other during a rolling restart.

#![allow(
    clippy::large_enum_variant,
    clippy::too_many_lines,
    reason = "generated code is as the generator writes it"
)]

/// What the control plane offers to operators.
pub mod admin {
    pub use v1::*;

    mod v1 {
        tonic::include_proto!("alyx.admin.v1");
    }
}

/// Commits as they are announced on NATS.
pub mod bus {
    tonic::include_proto!("alyx.bus.v1");
}

/// What several areas share: the form of an error.
pub mod common {
    pub use v1::*;

    /// Where generated code of other areas looks for it.
    pub mod v1 {
        tonic::include_proto!("alyx.common.v1");
    }
}

/// What the control plane offers to the other roles.
pub mod control {
    tonic::include_proto!("alyx.control.v1");
}

/// What a function worker offers to gateways.
pub mod functions {
    pub use v1::*;

    mod v1 {
        tonic::include_proto!("alyx.functions.v1");
    }
}

/// What a gateway offers to the other gateways.
pub mod gateway {
    pub use v1::*;

    mod v1 {
        tonic::include_proto!("alyx.gateway.v1");
    }
}

/// What a realtime node offers to gateways.
pub mod realtime {
    pub use v1::*;

    mod v1 {
        tonic::include_proto!("alyx.realtime.v1");
    }
}

/// What the holder of the writer's lease offers to the other gateways.
pub mod writer {
    pub use v1::*;

    mod v1 {
        tonic::include_proto!("alyx.writer.v1");
    }
}

/// Descriptors of every file, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/alyx.descriptors"));
