//! Starts sandboxed processes for this crate's own tests, as the `alyx` binary does in the product.

use std::process::ExitCode;

fn main() -> ExitCode {
    alyx_sandbox::entered().unwrap_or(ExitCode::FAILURE)
}
