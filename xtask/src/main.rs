//! Checks of the repository itself, run by `cargo xtask <check>`.

mod layers;

use std::process::ExitCode;

use cargo_metadata::MetadataCommand;

const USAGE: &str = "usage: cargo xtask layers    fail where a crate depends on one of a layer above it";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["layers"] => check_layers(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}

fn check_layers() -> ExitCode {
    let metadata = match MetadataCommand::new().no_deps().exec() {
        Ok(metadata) => metadata,
        Err(error) => {
            eprintln!("cargo metadata failed: {error}");
            return ExitCode::FAILURE;
        }
    };
    let problems = layers::problems(&metadata.packages);
    if problems.is_empty() {
        println!(
            "layers: {} crates, every arrow points down",
            metadata.packages.len()
        );
        return ExitCode::SUCCESS;
    }
    for problem in &problems {
        eprintln!("layers: {problem}");
    }
    ExitCode::FAILURE
}
