//! Log output, on standard error; standard output is for what a command answers.
//!
//! A line that belongs to a trace tells its id, as `trace_id`. It is looked up when a line is written, so that a request
//! which logs nothing pays nothing.

use std::fmt;
use std::io::IsTerminal;

use alyx_config::{LogFormat, Logging};
use alyx_service::trace;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
        LogFormat::Json => lines
            .json()
            .event_format(Traced {
                line: Format::default().json(),
                append: |line, id| match line.strip_suffix("}\n") {
                    Some(object) => format!("{object},\"trace_id\":\"{id}\"}}\n"),
                    None => line.to_owned(),
                },
            })
            .init(),
        LogFormat::Console => {
            lines
                .with_ansi(std::io::stderr().is_terminal())
                .event_format(Traced {
                    // The line is written to memory first, which is no terminal.
                    line: Format::default()
                        .with_ansi(std::io::stderr().is_terminal())
                        .with_target(false)
                        .compact(),
                    append: |line, id| format!("{} trace_id={id}\n", line.trim_end_matches('\n')),
                })
                .init();
        }
    }
}

/// Lines with the id of the trace that they belong to.
struct Traced<F> {
    line: F,
    /// Puts an id into a complete line.
    append: fn(&str, &dyn fmt::Display) -> String,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(trace) = trace::current() else {
            return self.line.format_event(context, writer, event);
        };
        let mut line = String::new();
        let own = Writer::new(&mut line);
        self.line.format_event(context, own, event)?;
        writer.write_str(&(self.append)(&line, &trace.trace_id()))
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
