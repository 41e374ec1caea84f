//! Harness of the end-to-end tests: starts the built `alyx` binary on a project folder of its own, as one process or
//! as a cluster, and speaks to it as a user would, by HTTP, WebSocket, files and signals.

mod cluster;
mod engines;
mod http;
mod link;
mod oidc;
mod process;
mod project;
mod random;
mod server;
mod socket;
mod wait;

pub use cluster::{Cluster, Links, Part, Shape};
pub use http::{Http, Reply};
pub use link::{Flow, Link, Mischief};
pub use oidc::Oidc;
pub use project::Project;
pub use random::Random;
pub use server::{Form, Server};
pub use socket::Socket;
pub use wait::eventually;
