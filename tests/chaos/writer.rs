//! Clients that write. Each owns its documents, so that it knows what must have become of every one of them.

use std::time::Duration;

use alyx_tests::{Http, Reply};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::random::Random;
use crate::system::COLLECTION;
use crate::transcript::Transcript;

/// Time between two writes of one client.
const EVERY: Duration = Duration::from_millis(40);
/// When a client gives up on an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Documents that one writer keeps.
const KEPT: usize = 40;

pub(crate) struct Writer {
    pub(crate) number: usize,
    pub(crate) entrances: Vec<Http>,
    pub(crate) random: Random,
    pub(crate) transcript: Transcript,
}

impl Writer {
    /// Writes until `stop`. An answer that is no plain success leaves open whether the write was applied: its
    /// document is then left alone.
    pub(crate) async fn run(mut self, stop: watch::Receiver<bool>) {
        let mut pace = tokio::time::interval(EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut kept: Vec<String> = Vec::new();
        let mut attempt = 0_u64;
        while !*stop.borrow() {
            pace.tick().await;
            attempt += 1;
            let content = format!("w{}-{attempt}", self.number);
            let choice = self.random.below(10);
            if kept.len() < 5 || (choice < 5 && kept.len() < KEPT) {
                let body =
                    json!({"writer": self.number, "content": content, "rank": self.random.below(1000)});
                let path = format!("/api/collections/{COLLECTION}");
                let made = self
                    .write("create", None, &content, Method::POST, &path, &body)
                    .await;
                kept.extend(made);
                continue;
            }
            let id = kept.swap_remove(self.random.below(kept.len()));
            let path = format!("/api/collections/{COLLECTION}/{id}");
            if choice < 8 && kept.len() < KEPT {
                let body = json!({"content": content, "rank": self.random.below(1000)});
                let changed = self.write("update", Some(&id), &content, Method::PATCH, &path, &body);
                kept.extend(changed.await);
            } else {
                self.write("delete", Some(&id), &content, Method::DELETE, &path, &Value::Null)
                    .await;
            }
        }
    }

    /// One attempt, written down with what came of it; the document's id where it was acknowledged.
    async fn write(
        &mut self,
        op: &str,
        id: Option<&str>,
        content: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Option<String> {
        let entrance = self.random.below(self.entrances.len());
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let began = self.transcript.clock().millis();
        let sent = self.entrances[entrance].try_send(method, path, &[], body);
        let answer = match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(reply)) => Answer::of(op, id, &reply),
            Ok(Err(error)) => Answer::unknown(error),
            Err(_) => Answer::unknown(format!("no answer within {PATIENCE:?}")),
        };
        self.transcript.write(
            answer.outcome,
            json!({"op": op, "id": answer.id.as_deref().or(id), "content": content, "entrance": entrance, "began": began,
                   "doc": answer.doc, "why": answer.why}),
        );
        answer.id
    }
}

struct Answer {
    /// `acknowledged`, `carried_out` (without what it returned), `refused` or `unknown`.
    outcome: &'static str,
    id: Option<String>,
    doc: Value,
    why: Option<String>,
}

impl Answer {
    fn of(op: &str, id: Option<&str>, reply: &Reply) -> Self {
        match (op, reply.status) {
            ("create", 201) | ("update", 200) => {
                let doc = reply.json();
                Self {
                    outcome: "acknowledged",
                    id: doc["id"].as_str().map(str::to_owned),
                    doc,
                    why: None,
                }
            }
            ("delete", 204) => Self {
                outcome: "acknowledged",
                id: id.map(str::to_owned),
                doc: Value::Null,
                why: None,
            },
            (_, 409) if reply.code() == "WRITE_REPLY_LOST" => Self {
                outcome: "carried_out",
                ..Self::unknown(reply.text.clone())
            },
            // Writes here are sound, so that a refusal means that the server lost what it stands on.
            (_, 400..=428 | 430..=499) => Self {
                outcome: "refused",
                ..Self::unknown(format!("{} {}", reply.status, reply.text))
            },
            _ => Self::unknown(format!("{} {}", reply.status, reply.text)),
        }
    }

    fn unknown(why: String) -> Self {
        Self {
            outcome: "unknown",
            id: None,
            doc: Value::Null,
            why: Some(why),
        }
    }
}
