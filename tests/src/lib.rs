//! Harness of the end-to-end tests: starts the built `alyx` binary on a project folder of its own and speaks
//! to it as a user would, by HTTP, WebSocket, files and signals.

mod http;
mod project;
mod server;
mod socket;
mod wait;

pub use http::{Http, Reply};
pub use project::Project;
pub use server::Server;
pub use socket::Socket;
pub use wait::eventually;
