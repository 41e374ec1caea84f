//! Counters of the HTTP side, cheap enough for every request: a few relaxed additions to a shard that belongs to
//! the connection. Labels come from closed sets only (routes, methods, statuses), so the memory is fixed.

mod roles;

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

use alyx_service::metrics::families;
pub(crate) use alyx_service::metrics::{Exposition, write_process};
pub(crate) use roles::write_roles;

use crate::route::Route;

/// Connections are spread over this many shards, so that threads seldom write to the same cache line.
const SHARDS: usize = 4;

/// Upper bounds of the duration buckets in microseconds.
const BUCKETS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    10_000_000,
];

/// Method labels; the last one stands for every other method.
const METHODS: [&str; 8] = [
    "GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "other",
];

/// Statuses with a label of their own; 0 stands for every other status.
const STATUSES: [u16; 27] = [
    200, 201, 204, 206, 304, 101, 400, 401, 403, 404, 405, 408, 409, 413, 415, 416, 422, 426, 429, 301, 302,
    307, 500, 502, 503, 504, 0,
];

/// All HTTP counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    shards: Box<[Shard]>,
    next_shard: AtomicUsize,
    connections: AtomicI64,
    accepted: AtomicU64,
    refused: AtomicU64,
    total_hits: AtomicU64,
    total_counts: AtomicU64,
}

#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    in_flight: AtomicI64,
    routes: Box<[RouteCounters]>,
}

#[derive(Debug)]
struct RouteCounters {
    requests: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    /// One per bound and one for everything above.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// The shard of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShardId(usize);

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct InFlight<'m> {
    in_flight: &'m AtomicI64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for RouteCounters {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            micros: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let shard = |_| Shard {
            in_flight: AtomicI64::new(0),
            routes: Route::ALL.iter().map(|_| RouteCounters::default()).collect(),
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            next_shard: AtomicUsize::new(0),
            connections: AtomicI64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            total_hits: AtomicU64::new(0),
            total_counts: AtomicU64::new(0),
        }
    }

    /// A connection was accepted; its requests are to be counted in the shard returned.
    pub(crate) fn connection_opened(&self) -> ShardId {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        ShardId(self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS)
    }

    /// A connection ended.
    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was turned away because there were too many.
    pub(crate) fn connection_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The total of a list came from the cache, or had to be counted.
    pub(crate) fn list_total(&self, cached: bool) {
        let counter = if cached {
            &self.total_hits
        } else {
            &self.total_counts
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A request began; it is in flight until the guard is dropped, also where the caller goes away.
    pub(crate) fn request_started(&self, shard: ShardId) -> InFlight<'_> {
        let in_flight = &self.shards[shard.0].in_flight;
        in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { in_flight }
    }

    /// A request was answered.
    pub(crate) fn request_ended(
        &self,
        shard: ShardId,
        (route, method): (Route, &Method),
        status: StatusCode,
        duration: Duration,
    ) {
        let counters = &self.shards[shard.0].routes[route as usize];
        counters.requests[method_index(method)][status_index(status)].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        counters.micros.fetch_add(micros, Ordering::Relaxed);
        counters.buckets[bucket_index(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// Writes everything in Prometheus' text format.
    pub(crate) fn write(&self, out: &mut Exposition) {
        let in_flight = self
            .shards
            .iter()
            .map(|shard| shard.in_flight.load(Ordering::Relaxed))
            .sum::<i64>();
        self.write_requests(out);
        self.write_durations(out);
        out.family(families::HTTP_IN_FLIGHT);
        out.sample("", &[], in_flight);
        out.single(
            families::HTTP_CONNECTIONS,
            self.connections.load(Ordering::Relaxed),
        );
        out.single(families::HTTP_ACCEPTED, self.accepted.load(Ordering::Relaxed));
        out.single(families::HTTP_REFUSED, self.refused.load(Ordering::Relaxed));
        out.family(families::LIST_TOTALS);
        out.sample(
            "",
            &[("source", "cache")],
            self.total_hits.load(Ordering::Relaxed),
        );
        out.sample(
            "",
            &[("source", "count")],
            self.total_counts.load(Ordering::Relaxed),
        );
    }

    fn write_requests(&self, out: &mut Exposition) {
        out.family(families::HTTP_REQUESTS);
        for route in Route::ALL {
            for (method_index, method) in METHODS.iter().enumerate() {
                for (status_index, status) in STATUSES.iter().enumerate() {
                    let count = self.sum(route, |counters| &counters.requests[method_index][status_index]);
                    if count > 0 {
                        let status = if *status == 0 {
                            "other".to_owned()
                        } else {
                            status.to_string()
                        };
                        let labels = [
                            ("method", *method),
                            ("route", route.template()),
                            ("status", &status),
                        ];
                        out.sample("", &labels, count);
                    }
                }
            }
        }
    }

    fn write_durations(&self, out: &mut Exposition) {
        out.family(families::HTTP_DURATION);
        for route in Route::ALL {
            let label = ("route", route.template());
            let counts: Vec<u64> = (0..=BUCKETS.len())
                .map(|bucket| self.sum(route, |c| &c.buckets[bucket]))
                .collect();
            let total: u64 = counts.iter().sum();
            if total == 0 {
                continue;
            }
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(&counts) {
                below += count;
                let bound = seconds(*bound);
                out.sample("_bucket", &[label, ("le", &bound)], below);
            }
            out.sample("_bucket", &[label, ("le", "+Inf")], total);
            out.sample("_sum", &[label], seconds(self.sum(route, |c| &c.micros)));
            out.sample("_count", &[label], total);
        }
    }

    fn sum(&self, route: Route, counter: impl Fn(&RouteCounters) -> &AtomicU64) -> u64 {
        let of_shard = |shard: &Shard| counter(&shard.routes[route as usize]).load(Ordering::Relaxed);
        self.shards.iter().map(of_shard).sum()
    }
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::PATCH => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::HEAD => 5,
        Method::OPTIONS => 6,
        _ => METHODS.len() - 1,
    }
}

fn status_index(status: StatusCode) -> usize {
    let status = status.as_u16();
    STATUSES
        .iter()
        .position(|known| *known == status)
        .unwrap_or(STATUSES.len() - 1)
}

fn bucket_index(micros: u64) -> usize {
    BUCKETS
        .iter()
        .position(|bound| micros <= *bound)
        .unwrap_or(BUCKETS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut out = Exposition::new();
        metrics.write(&mut out);
        out.finish()
    }

    #[test]
    fn requests_are_counted_by_method_route_and_status_over_all_shards() {
        let metrics = Metrics::new();
        for _ in 0..10 {
            let shard = metrics.connection_opened();
            let _in_flight = metrics.request_started(shard);
            let of = (Route::Document, &Method::GET);
            metrics.request_ended(shard, of, StatusCode::OK, Duration::from_micros(300));
        }
        let text = text(&metrics);
        for line in [
            r#"alyx_http_requests_total{method="GET",route="/api/collections/{collection}/{id}",status="200"} 10"#,
            r#"alyx_http_request_duration_seconds_bucket{route="/api/collections/{collection}/{id}",le="0.00025"} 0"#,
            r#"alyx_http_request_duration_seconds_bucket{route="/api/collections/{collection}/{id}",le="0.0005"} 10"#,
            r#"alyx_http_request_duration_seconds_bucket{route="/api/collections/{collection}/{id}",le="+Inf"} 10"#,
            r#"alyx_http_request_duration_seconds_sum{route="/api/collections/{collection}/{id}"} 0.003"#,
            "alyx_http_requests_in_flight 0",
            "alyx_http_connections 10",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn unknown_methods_and_statuses_share_one_label() {
        let metrics = Metrics::new();
        let shard = metrics.connection_opened();
        let method = Method::from_bytes(b"BREW").expect("a token");
        let teapot = StatusCode::from_u16(418).expect("a status");
        metrics.request_ended(shard, (Route::Frontend, &method), teapot, Duration::from_secs(20));
        assert!(text(&metrics).contains(r#"{method="other",route="/{file}",status="other"} 1"#));
    }

    #[test]
    fn seconds_are_exact() {
        let check = |micros: u64, expected: &str| assert_eq!(seconds(micros), expected);
        check(0, "0");
        check(100, "0.0001");
        check(1_000_000, "1");
        check(10_000_000, "10");
        check(1_234_567, "1.234567");
    }
}
