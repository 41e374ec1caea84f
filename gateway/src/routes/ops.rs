//! What operators and load balancers ask.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alyx_core::format_timestamp;
use alyx_service::health::{Report, SharedCheck, Status};
use axum::body::Body;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::app::App;
use crate::envelope::{self, Reply};
use crate::metrics::{Exposition, write_process, write_roles};

/// Longest wait for one part's report.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Health {
    status: Status,
    version: &'static str,
    uptime: String,
    timestamp: String,
    components: BTreeMap<&'static str, Component>,
}

#[derive(Serialize)]
struct Component {
    #[serde(flatten)]
    report: Report,
    /// How long it took to answer.
    latency: String,
}

pub(super) async fn health(context: Context<'_>) -> Reply {
    let components = look_at_all(context).await;
    let status = components.values().map(|component| component.report.status).max();
    let status = status.unwrap_or(Status::Healthy);
    let health = Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        uptime: uptime(context.app.started.elapsed()),
        timestamp: format_timestamp(context.app.clock.now()),
        components,
    };
    let code = match status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    uncached(envelope::json_of(code, &health))
}

pub(super) fn live() -> Reply {
    uncached(envelope::json(StatusCode::OK, "{\"status\":\"ok\"}"))
}

pub(super) async fn ready(context: Context<'_>) -> Reply {
    let reason = if context.app.accepting.load(Ordering::Relaxed) {
        let components = look_at_all(context).await;
        let broken = components
            .into_iter()
            .find(|(_, component)| component.report.status == Status::Unhealthy);
        broken.map(|(name, _)| format!("{name} unavailable"))
    } else {
        Some("the server is stopping or drained".to_owned())
    };
    uncached(match reason {
        None => envelope::json(StatusCode::OK, "{\"status\":\"ready\"}"),
        Some(reason) => envelope::json_of(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"status": "not ready", "reason": reason}),
        ),
    })
}

pub(super) fn metrics(context: Context<'_>) -> Reply {
    let mut reply = Response::new(Body::from(figures(context.app)));
    let text = HeaderValue::from_static(Exposition::CONTENT_TYPE);
    reply.headers_mut().insert(CONTENT_TYPE, text);
    uncached(reply)
}

/// All figures, as a scraper reads them.
pub(crate) fn figures(app: &App) -> String {
    let mut out = Exposition::new();
    app.metrics.write(&mut out);
    write_roles(&mut out, app);
    let since_start = app.started.elapsed();
    write_process(
        &mut out,
        app.clock
            .now()
            .checked_sub(since_start)
            .unwrap_or(app.clock.now()),
    );
    out.finish()
}

/// The settings that a frontend may need, none of them secret.
pub(super) fn config(context: Context<'_>) -> Reply {
    let config = &context.app.config;
    let subset = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "server": {"max_body_size": config.server.max_body_size},
        "realtime": {"enabled": config.realtime.enabled},
        "functions": {"enabled": config.functions.enabled},
        "docs": {
            "enabled": config.docs.enabled,
            "title": config.docs.title,
            "description": config.docs.description,
            "version": config.docs.version,
        },
        "dev": {"enabled": config.dev.enabled},
    });
    envelope::json_of(StatusCode::OK, &subset)
}

async fn look_at_all(context: Context<'_>) -> BTreeMap<&'static str, Component> {
    join_all(context.app.checks.iter().map(look_at))
        .await
        .into_iter()
        .collect()
}

async fn look_at(check: &SharedCheck) -> (&'static str, Component) {
    let began = Instant::now();
    let report = tokio::time::timeout(CHECK_TIMEOUT, check.check())
        .await
        .unwrap_or_else(|_| Report::new(Status::Unhealthy, "does not answer"));
    let latency = format!("{:.2}ms", began.elapsed().as_secs_f64() * 1_000.0);
    (check.name(), Component { report, latency })
}

fn uncached(mut reply: Reply) -> Reply {
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// `1h2m3s`, rounded down to seconds.
fn uptime(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_read_as_hours_minutes_seconds() {
        let check = |seconds: u64, expected: &str| assert_eq!(uptime(Duration::from_secs(seconds)), expected);
        check(0, "0s");
        check(61, "1m1s");
        check(3_600, "1h0m0s");
        check(93_784, "26h3m4s");
    }
}
