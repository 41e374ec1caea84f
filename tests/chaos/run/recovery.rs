//! Whether clients are served: after a fault, and in spite of one.

use std::time::Duration;

use alyx_tests::{Http, Reply, eventually};
use futures_util::future::{join_all, try_join_all};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::reader::Seen;
use crate::strain::{Mark, Strain};
use crate::system::COLLECTION;
use crate::writer::{Through, Wish};

/// The answer to one probe.
const PROBE: Duration = Duration::from_secs(2);
/// A probe's way to the followers.
const HEARD: Duration = Duration::from_millis(1_500);

/// What shows whether clients are served.
pub(super) struct Watch {
    pub(super) entrances: Vec<Http>,
    pub(super) seen: Vec<watch::Receiver<Option<Seen>>>,
    pub(super) strain: Strain,
}

impl Watch {
    /// Waits until each of those entrances takes writes, straight and by a function, and live queries at them hear of
    /// them; how long that took since `began`, in milliseconds of a machine of our own. After a fault every reader must
    /// have a window again, too.
    pub(super) async fn served(&self, entrances: &[usize], began: Mark) -> u64 {
        let what = format!("entrances {entrances:?} serve");
        eventually(&what, || self.probe(entrances)).await;
        if entrances.len() == self.entrances.len() {
            let has_window = |seen: &watch::Receiver<Option<Seen>>| seen.borrow().is_some();
            eventually("every reader has a window", || async {
                match self.seen.iter().position(|seen| !has_window(seen)) {
                    Some(reader) => Err(reader),
                    None => Ok(()),
                }
            })
            .await;
        }
        self.millis_since(began)
    }

    /// Waits until writes are refused as they should be while the database is away.
    pub(super) async fn refused(&self, began: Mark) -> u64 {
        let turned_away = async |http: &Http| {
            let doc = json!({"writer": 1_000_000, "content": "probe", "rank": 0}).to_string();
            let path = format!("/api/collections/{COLLECTION}");
            let sent = http.try_send(Method::POST, &path, &[], doc);
            match tokio::time::timeout(PROBE, sent).await {
                Ok(Ok(reply)) if is_turned_away(&reply) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        join_all(self.entrances.iter().map(async |http| {
            eventually("a write is answered with 503 and Retry-After", || {
                turned_away(http)
            })
            .await;
        }))
        .await;
        self.millis_since(began)
    }

    fn millis_since(&self, began: Mark) -> u64 {
        u64::try_from(self.strain.since(began).as_millis()).expect("it is not that long")
    }

    async fn probe(&self, entrances: &[usize]) -> Result<(), String> {
        let probes = entrances.iter().flat_map(|&entrance| {
            let through = [Through::Rest, Through::Function];
            through.map(|through| self.write_and_hear(entrance, through, entrances))
        });
        try_join_all(probes).await.map(drop)
    }

    async fn write_and_hear(
        &self,
        entrance: usize,
        through: Through,
        entrances: &[usize],
    ) -> Result<(), String> {
        let http = &self.entrances[entrance];
        let wish = Wish::create(json!({"writer": 1_000_000, "content": "probe", "rank": 1_000_000}));
        let made = tokio::time::timeout(PROBE, wish.send(http, through)).await;
        let unanswered = |_| format!("entrance {entrance} does not answer a write by {through:?}");
        let made = made.map_err(unanswered)??;
        let mut made = match (made.status, through) {
            (201, Through::Rest) => made.json(),
            (200, Through::Function) => made.json()["output"].take(),
            _ => return Err(format!("{made:?}")),
        };
        let Value::String(id) = made["id"].take() else {
            return Err(format!("no id: {made}"));
        };
        self.hear(&id, entrances).await?;
        // One that stays is a document like any other.
        let _ = tokio::time::timeout(PROBE, Wish::delete(id).send(http, through)).await;
        Ok(())
    }

    /// The followers of everything at those entrances have the document.
    async fn hear(&self, id: &str, entrances: &[usize]) -> Result<(), String> {
        let holds = |seen: &Option<Seen>| match seen {
            Some(seen) if entrances.contains(&seen.entrance) => {
                let mut docs = seen.view.docs().iter();
                docs.any(|doc| doc.value["id"] == id)
            }
            // It will come to one of them when it has given up on another; with all of them it must be somewhere.
            Some(_) | None => entrances.len() < self.entrances.len(),
        };
        for follower in &self.seen[..super::FOLLOWERS] {
            let mut follower = follower.clone();
            let heard = tokio::time::timeout(HEARD, follower.wait_for(holds)).await;
            heard
                .map_err(|_| "a live query does not hear of a write")?
                .map_err(|_| "a live query has ended")?;
        }
        Ok(())
    }
}

fn is_turned_away(reply: &Reply) -> bool {
    reply.status == 503 && !reply.header("retry-after").is_empty()
}
