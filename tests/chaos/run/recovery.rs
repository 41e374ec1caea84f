//! Whether every client is served again after a fault.

use std::time::{Duration, Instant};

use alyx_tests::Http;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::system::System;
use crate::view::View;
use crate::writer::{Through, Wish};

/// Longest time from the end of a fault until every client is served again.
const RECOVERY: Duration = Duration::from_secs(5);
/// The answer to one probe.
const PROBE: Duration = Duration::from_secs(1);

/// Waits until every entrance takes a write and every reader has a window again; how long that took. What clients
/// see of a fault must end within [`RECOVERY`].
pub(super) async fn recovered(
    system: &System,
    entrances: &[Http],
    seen: &[watch::Receiver<Option<View>>],
    after: &str,
) -> Duration {
    let began = Instant::now();
    loop {
        let last = match probe(entrances, seen).await {
            Ok(()) => return began.elapsed(),
            Err(last) => last,
        };
        assert!(
            began.elapsed() < RECOVERY,
            "not within {RECOVERY:?} after {after}: {last}\n{}",
            system.output()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether each entrance takes a write, straight and by a function, and the followers of everything hear of it.
async fn probe(entrances: &[Http], seen: &[watch::Receiver<Option<View>>]) -> Result<(), String> {
    for http in entrances {
        for through in [Through::Rest, Through::Function] {
            write_and_hear(http, through, &seen[..2]).await?;
        }
    }
    match seen.iter().position(|view| view.borrow().is_none()) {
        Some(reader) => Err(format!("reader {reader} has no window")),
        None => Ok(()),
    }
}

async fn write_and_hear(
    http: &Http,
    through: Through,
    followers: &[watch::Receiver<Option<View>>],
) -> Result<(), String> {
    let wish = Wish::create(json!({"writer": 1_000_000, "content": "probe", "rank": 1_000_000}));
    let made = tokio::time::timeout(PROBE, wish.send(http, through)).await;
    let made = made.map_err(|_| format!("a write through {through:?} is not answered"))??;
    let mut made = match (made.status, through) {
        (201, Through::Rest) => made.json(),
        (200, Through::Function) => made.json()["output"].take(),
        _ => return Err(format!("{made:?}")),
    };
    let Value::String(id) = made["id"].take() else {
        return Err(format!("no id: {made}"));
    };
    let holds = |view: &Option<View>| {
        let mut docs = view.iter().flat_map(View::docs);
        docs.any(|doc| doc.value["id"] == id.as_str())
    };
    for follower in followers {
        let mut follower = follower.clone();
        let heard = tokio::time::timeout(PROBE, follower.wait_for(holds)).await;
        heard
            .map_err(|_| "a live query does not hear of a write")?
            .map_err(|_| "a live query has ended")?;
    }
    // One that stays is a document like any other.
    let _ = tokio::time::timeout(PROBE, Wish::delete(id).send(http, through)).await;
    Ok(())
}
