//! How a command ends that could not do its work.

use std::process::ExitCode;

use alyx_config::ConfigErrors;
use alyx_core::Error;

/// Exit code for unusable configuration or schema (`EX_USAGE` of `sysexits.h`).
const EX_USAGE: u8 = 64;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration has problems.
    Config(ConfigErrors),
    /// The project has problems, in words that are complete already.
    Project(Error),
    /// A running server was asked, and did not do what was asked of it.
    Admin(Error),
    /// The schema is refused, and the answer that was printed says so.
    Told,
    /// Something else.
    Other(Error),
}

impl Failure {
    /// Prints it and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Config(errors) => {
                eprintln!("{errors}");
                ExitCode::from(EX_USAGE)
            }
            Self::Project(error) => {
                eprintln!("{error}");
                ExitCode::from(EX_USAGE)
            }
            Self::Admin(error) => {
                eprintln!("error: {error} [{}]", error.code());
                for detail in error.details() {
                    eprintln!("  {}: {}", detail.field, detail.message);
                }
                ExitCode::from(crate::admin::exit_code(&error))
            }
            Self::Told => ExitCode::from(EX_USAGE),
            Self::Other(error) => {
                eprintln!("error: {error}");
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    eprintln!("  caused by: {cause}");
                    source = cause.source();
                }
                ExitCode::FAILURE
            }
        }
    }
}
