//! A table of a million rows is made anew for another default, while it is read.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::request;
use crate::report::{Better, Report, percentile};
use crate::server::{SCHEMA, Server};

const DOCUMENTS: usize = 1_000_000;
const BATCH: usize = 1_000;
const READERS: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(5);
const HITS: &str = "/api/collections/hits";

pub(crate) async fn measure(report: &mut Report, server: &Server) {
    eprintln!("rebuild: loading {DOCUMENTS} hits");
    let mut connection = server.connect().await;
    for batch in 0..DOCUMENTS / BATCH {
        let operation = |number: usize| {
            let page = format!("/page/{}", (batch * BATCH + number) * 7919 % 50);
            json!({"op": "create", "collection": "hits", "data": {"page": page}})
        };
        let operations: Vec<_> = (0..BATCH).map(operation).collect();
        let body = json!({ "operations": operations }).to_string();
        let load = request("POST", "/api/batch", None, Some(&body));
        connection.expect(&load, 200).await;
    }
    let quiet = reads(server, async || tokio::time::sleep(Duration::from_secs(3)).await).await;
    let page = "page: {type: string, index: true";
    let schema = SCHEMA.replacen(page, &format!("{page}, default: /"), 1);
    let began = Instant::now();
    server.write("schema.yaml", &schema);
    let meanwhile = reads(server, async || served(server).await).await;
    let seconds = began.elapsed().as_secs_f64();
    let rows = "a table of 1M rows made anew";
    report.add(
        &format!("{rows}: from the saved file to the served schema"),
        "s",
        (seconds, None),
        Better::Less,
        "",
    );
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = DOCUMENTS as f64 / seconds;
    report.add(&format!("{rows}: rows"), "/s", (rate, None), Better::More, "");
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        report.add(
            &format!("{rows}: {name} of reads meanwhile, beside those before"),
            "ms",
            (percentile(&meanwhile, share), Some(percentile(&quiet, share))),
            Better::Less,
            "reads served",
        );
    }
}

/// Until a document without a page is one.
async fn served(server: &Server) {
    let mut connection = server.connect().await;
    let empty = request("POST", HITS, None, Some("{}"));
    while connection.send(&empty).await.status != 201 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Milliseconds of every read until `end`, sorted.
async fn reads(server: &Server, end: impl AsyncFnOnce()) -> Vec<f64> {
    let over = Cell::new(false);
    let (over, mut all) = (&over, Vec::new());
    let readers = (0..READERS).map(|reader| async move {
        let mut connection = server.connect().await;
        let mut times = Vec::new();
        for number in 0_usize.. {
            if over.get() {
                break;
            }
            let id = (number * 7919 + reader) % DOCUMENTS + 1;
            let began = Instant::now();
            connection
                .expect(&request("GET", &format!("{HITS}/{id}"), None, None), 200)
                .await;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        times
    });
    let ending = async {
        end().await;
        over.set(true);
    };
    let (times, ()) = futures_util::future::join(futures_util::future::join_all(readers), ending).await;
    times.into_iter().for_each(|times| all.extend(times));
    all.sort_by(f64::total_cmp);
    all
}
