//! Deep pages, expansion, full-text search and figures.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::request;
use crate::documents::{Figures, closed_loop};
use crate::report::{Better, Report, median, percentile};
use crate::server::Server;
use crate::{CLIENTS, ROWS, RUNS};

const RUN: Duration = Duration::from_secs(3);
const LANES: usize = 64;
const TEAMS: usize = 20;
const AUTHORS: usize = 500;
const HITS: usize = 1_000_000;
const WORDS: usize = 4_000;
const SEARCHES: usize = 500;

pub(crate) async fn measure(report: &mut Report, ours: &Server, theirs: &Server) {
    eprintln!("queries: loading {ROWS} articles and {HITS} hits");
    for server in [ours, theirs] {
        let authors = people(server).await;
        articles(server, &authors).await;
    }
    deep_page(report, ours).await;
    expansion(report, ours, theirs).await;
    search(report, ours).await;
    create_all(ours, HITS, |number| {
        let body = json!({"page": format!("/page/{}", number * 7919 % 50)});
        request("POST", &ours.collection("hits"), None, Some(&body.to_string()))
    })
    .await;
    groups(report, ours).await;
}

/// Teams and authors; returns the authors' ids.
async fn people(server: &Server) -> Vec<String> {
    let teams = create_all(server, TEAMS, |number| {
        let body = json!({"name": format!("team {number}")}).to_string();
        request("POST", &server.collection("teams"), None, Some(&body))
    })
    .await;
    create_all(server, AUTHORS, |number| {
        let body = json!({"name": format!("author {number}"), "team": teams[number % TEAMS]}).to_string();
        request("POST", &server.collection("authors"), None, Some(&body))
    })
    .await
}

async fn articles(server: &Server, authors: &[String]) {
    create_all(server, ROWS, |number| {
        let body: Vec<String> = (0..40).map(|place| word(number * 40 + place)).collect();
        let body = json!({
            "title": format!("{} {}", word(number * 3), word(number * 5 + 1)),
            "body": body.join(" "),
            "author": authors[number * 7919 % authors.len()],
        });
        request(
            "POST",
            &server.collection("articles"),
            None,
            Some(&body.to_string()),
        )
    })
    .await;
}

/// Words of which a few are frequent and most are rare.
fn word(seed: usize) -> String {
    let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let (range, of) = (mixed % WORDS + 1, mixed / WORDS);
    let number = of % range;
    let letter = |place: u32| char::from(b"bcdfghjklmnprstvwxyz"[number / 20_usize.pow(place) % 20]);
    format!("{}a{}o{}u", letter(0), letter(1), letter(2))
}

/// Creates so many documents and returns their ids.
pub(crate) async fn create_all(
    server: &Server,
    count: usize,
    make: impl Fn(usize) -> Vec<u8>,
) -> Vec<String> {
    let ids = RefCell::new(Vec::with_capacity(count));
    let (make, ids_of) = (&make, &ids);
    let lanes = (0..LANES.min(count)).map(|lane| async move {
        let mut connection = server.connect().await;
        for number in (lane..count).step_by(LANES.min(count)) {
            let reply = connection.expect(&make(number), server.created()).await.json();
            let id = &reply["id"];
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            ids_of.borrow_mut().push(id);
        }
    });
    futures_util::future::join_all(lanes).await;
    ids.into_inner()
}

pub(crate) fn middle(runs: &[Figures], of: fn(&Figures) -> f64) -> f64 {
    median(runs.iter().map(of).collect())
}

/// The last page of 20 but a few, beside the first.
async fn deep_page(report: &mut Report, ours: &Server) {
    let path = ours.collection("articles");
    let first = format!("{path}?sort=-created_at&limit=20&count=false");
    let mut connection = ours.connect().await;
    let mut cursor = String::new();
    for _ in 0..(ROWS - 1_000) / 1_000 {
        let page = format!("{path}?sort=-created_at&limit=1000&count=false&fields=id&after={cursor}");
        let reply = connection
            .expect(&request("GET", &page, None, None), 200)
            .await
            .json();
        reply["next"]
            .as_str()
            .expect("a full page")
            .clone_into(&mut cursor);
    }
    let deep = format!("{first}&after={cursor}");
    let (mut of_first, mut of_deep) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        of_first.push(closed_loop(ours, CLIENTS, RUN, |_| request("GET", &first, None, None)).await);
        of_deep.push(closed_loop(ours, CLIENTS, RUN, |_| request("GET", &deep, None, None)).await);
    }
    for (name, of, unit) in [
        ("server CPU", (|f| f.cpu) as fn(&Figures) -> f64, "µs"),
        ("p50", |f| f.p50, "ms"),
    ] {
        report.add(
            &format!(
                "page of 20 behind {}k rows by cursor, beside the first: {name}",
                ROWS / 1000 - 1
            ),
            unit,
            (middle(&of_deep, of), Some(middle(&of_first, of))),
            Better::Less,
            "as fast",
        );
    }
}

async fn expansion(report: &mut Report, ours: &Server, theirs: &Server) {
    let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        our_runs.push(closed_loop(ours, CLIENTS, RUN, |_| ours.expanded()).await);
        their_runs.push(closed_loop(theirs, CLIENTS, RUN, |_| theirs.expanded()).await);
    }
    report.add(
        "20 newest with author and team: server CPU",
        "µs",
        (middle(&our_runs, |f| f.cpu), Some(middle(&their_runs, |f| f.cpu))),
        Better::Less,
        "≤ 1/5",
    );
    report.add(
        "20 newest with author and team: p50",
        "ms",
        (middle(&our_runs, |f| f.p50), Some(middle(&their_runs, |f| f.p50))),
        Better::Less,
        "",
    );
}

/// One search after another: two words, the first 20 and the total.
async fn search(report: &mut Report, ours: &Server) {
    let path = ours.collection("articles");
    let mut connection = ours.connect().await;
    let mut runs = Vec::new();
    for run in 0..RUNS {
        let mut times = Vec::with_capacity(SEARCHES);
        for number in 0..SEARCHES {
            let seed = (run * SEARCHES + number) * 17;
            let search = format!("{path}?limit=20&search={}+{}", word(seed), word(seed + 5));
            let sent = Instant::now();
            connection.expect(&request("GET", &search, None, None), 200).await;
            times.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        runs.push((percentile(&times, 0.5), percentile(&times, 0.95)));
    }
    let name = format!("full-text search of two words over {}k documents", ROWS / 1000);
    let of = |figure: fn(&(f64, f64)) -> f64| median(runs.iter().map(figure).collect());
    report.add(
        &format!("{name}: p50"),
        "ms",
        (of(|run| run.0), None),
        Better::Less,
        "",
    );
    report.add(
        &format!("{name}: p95"),
        "ms",
        (of(|run| run.1), None),
        Better::Less,
        "≤ 10 ms",
    );
}

async fn groups(report: &mut Report, ours: &Server) {
    let mut connection = ours.connect().await;
    let asked = request("GET", "/api/aggregate/hits?groupBy=page&select=count", None, None);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let sent = Instant::now();
        let reply = connection.expect(&asked, 200).await.json();
        times.push(sent.elapsed().as_secs_f64() * 1e3);
        let groups = reply["groups"].as_array().expect("groups");
        let counted: u64 = groups.iter().filter_map(|group| group["count"].as_u64()).sum();
        assert_eq!(usize::try_from(counted), Ok(HITS), "every hit is counted");
    }
    report.add(
        "count by an indexed field over 1M rows",
        "ms",
        (median(times), None),
        Better::Less,
        "≤ 300 ms",
    );
}
