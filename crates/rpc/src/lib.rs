//! gRPC between roles: listeners and channels that are never open by default, errors and call metadata across the
//! wire.
//!
//! Knows no service: a role brings its routes to [`serve`] and wraps a [`Channel`] in the client it needs. Only the wire
//! form of live queries, which both of its ends must share, is in [`realtime`].
//!
//! **Invariant:** there is no [`Security`] without a token or certificates, and no way to listen or connect without
//! a [`Security`].
//!
//! **Invariant:** what operators may call and what roles may call do not overlap, and neither's token opens the other's.
//!
//! **Invariant:** [`from_status`] of [`to_status`] of an error is that error but for its `source`, which stays where
//! it arose and is logged there.

mod access;
mod auth;
mod backoff;
mod body;
mod call;
mod channel;
mod operator;
mod outbox;
pub mod realtime;
mod security;
mod server;
mod status;
mod token;
mod traced;

pub use auth::Gate;
pub use backoff::Backoff;
pub use body::{AHEAD, Assembly, BodyKey, PIECE};
pub use call::Call;
pub use channel::{Channel, connect};
pub use operator::{ApiTokens, OperatorSecurity, OperatorTls, connect_operator, operator_proof, pass_on};
pub use outbox::{Outbox, Outgoing};
pub use security::{Security, TlsFiles};
pub use server::{Listener, Server, bind, bind_as, serve};
pub use status::{from_status, from_wire, to_status, to_wire};
pub use token::MIN_TOKEN_BYTES;

/// Largest message that a service should accept, in bytes; for `max_decoding_message_size`.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
