//! Log output, on standard error; standard output is for what a command answers.

use std::io::IsTerminal;

use alyx_config::{LogFormat, Logging};
use tracing_subscriber::filter::EnvFilter;

/// Starts logging. Lines of other libraries below `warn` are left out unless the level is `trace`.
pub(crate) fn start(logging: &Logging) {
    let level = logging.level.name();
    let directives = match level {
        "trace" => "trace".to_owned(),
        level => format!("warn,{}", crates(level)),
    };
    let filter = EnvFilter::new(directives);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match logging.format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Console => {
            lines
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .compact()
                .init();
        }
    }
}

fn crates(level: &str) -> String {
    const OURS: [&str; 12] = [
        "alyx",
        "alyx_bus",
        "alyx_cluster",
        "alyx_config",
        "alyx_control_plane",
        "alyx_function_worker",
        "alyx_gateway",
        "alyx_realtime_node",
        "alyx_rpc",
        "alyx_schema",
        "alyx_service",
        "alyx_store",
    ];
    OURS.map(|name| format!("{name}={level}")).join(",")
}
