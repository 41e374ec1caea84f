//! Clients that write. Each owns its documents, so that it knows what must have become of every one of them.

use std::time::Duration;

use alyx_tests::{Http, Random, Reply};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::system::{COLLECTION, FUNCTION_PATH};
use crate::transcript::Transcript;

/// Time between two writes of one client.
const EVERY: Duration = Duration::from_millis(40);
/// When a client gives up on an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Documents that one writer keeps.
const KEPT: usize = 40;

/// How a client writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// REST.
    Rest,
    /// Calls of a function that does it, and returns what `ctx.db` gave it.
    Function,
}

/// One change that a client wants.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// `create`, `update` or `delete`.
    op: &'static str,
    /// Of what; nothing for a create.
    id: Option<String>,
    /// Fields to set.
    doc: Value,
}

impl Wish {
    pub(crate) fn create(doc: Value) -> Self {
        Self {
            op: "create",
            id: None,
            doc,
        }
    }

    pub(crate) fn update(id: String, doc: Value) -> Self {
        Self {
            op: "update",
            id: Some(id),
            doc,
        }
    }

    pub(crate) fn delete(id: String) -> Self {
        Self {
            op: "delete",
            id: Some(id),
            doc: Value::Null,
        }
    }

    /// Asks for it once.
    pub(crate) async fn send(&self, http: &Http, through: Through) -> Result<Reply, String> {
        let (method, path, body) = match through {
            Through::Function => {
                let input = json!({"op": self.op, "id": self.id, "doc": self.doc});
                (
                    Method::POST,
                    FUNCTION_PATH.to_owned(),
                    json!({ "input": input }).to_string(),
                )
            }
            Through::Rest => {
                let method = match self.op {
                    "create" => Method::POST,
                    "update" => Method::PATCH,
                    _ => Method::DELETE,
                };
                let id = self.id.iter().map(|id| format!("/{id}"));
                let path = format!("/api/collections/{COLLECTION}{}", id.collect::<String>());
                let body = if self.doc.is_null() {
                    String::new()
                } else {
                    self.doc.to_string()
                };
                (method, path, body)
            }
        };
        http.try_send(method, &path, &[], body).await
    }
}

pub(crate) struct Writer {
    pub(crate) number: usize,
    pub(crate) through: Through,
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
            let rank = self.random.below(1000);
            let choice = self.random.below(10);
            if kept.len() < 5 || (choice < 5 && kept.len() < KEPT) {
                let doc = json!({"writer": self.number, "content": content, "rank": rank});
                kept.extend(self.write(&content, Wish::create(doc)).await);
                continue;
            }
            let id = kept.swap_remove(self.random.below(kept.len()));
            if choice < 8 && kept.len() < KEPT {
                let doc = json!({"content": content, "rank": rank});
                kept.extend(self.write(&content, Wish::update(id, doc)).await);
            } else {
                self.write(&content, Wish::delete(id)).await;
            }
        }
    }

    /// One attempt, written down with what came of it; the document's id where it was acknowledged.
    async fn write(&mut self, content: &str, wish: Wish) -> Option<String> {
        let entrance = self.random.below(self.entrances.len());
        let began = self.transcript.clock().millis();
        let sent = wish.send(&self.entrances[entrance], self.through);
        let answer = match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(reply)) => Answer::of(&wish, self.through, &reply),
            Ok(Err(error)) => Answer::unknown(error),
            Err(_) => Answer::unknown(format!("no answer within {PATIENCE:?}")),
        };
        let id = answer.id.as_ref().or(wish.id.as_ref());
        self.transcript.write(
            answer.outcome,
            json!({"op": wish.op, "id": id, "content": content, "entrance": entrance, "began": began,
                   "doc": answer.doc, "why": answer.why, "impolite": answer.is_impolite}),
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
    /// It says that the service is away, and not when to try again.
    is_impolite: bool,
}

impl Answer {
    fn of(wish: &Wish, through: Through, reply: &Reply) -> Self {
        match (through, wish.op, reply.status) {
            (Through::Rest, "create", 201) | (Through::Rest, "update", 200) => Self::shows(reply.json()),
            (Through::Function, "create" | "update", 200) => Self::shows(reply.json()["output"].take()),
            (Through::Rest, "delete", 204) | (Through::Function, "delete", 200) => Self {
                outcome: "acknowledged",
                id: wish.id.clone(),
                doc: Value::Null,
                why: None,
                is_impolite: false,
            },
            (_, _, 409) if reply.code() == "WRITE_REPLY_LOST" => Self {
                outcome: "carried_out",
                ..Self::unknown(reply.text.clone())
            },
            (_, _, 429 | 503 | 504) => Self {
                is_impolite: reply.status == 503 && reply.header("retry-after").is_empty(),
                ..Self::unknown(format!("{} {}", reply.status, reply.text))
            },
            (Through::Function, _, 502) if reply.code() == "FUNCTION_CRASHED" => {
                Self::unknown(format!("502 {}", reply.text))
            }
            // Writes here are sound, so that a refusal means that the server lost what it stands on; and what is away
            // for a while is no internal error.
            _ => Self {
                outcome: "refused",
                ..Self::unknown(format!("{} {}", reply.status, reply.text))
            },
        }
    }

    fn shows(doc: Value) -> Self {
        Self {
            outcome: "acknowledged",
            id: doc["id"].as_str().map(str::to_owned),
            doc,
            why: None,
            is_impolite: false,
        }
    }

    fn unknown(why: String) -> Self {
        Self {
            outcome: "unknown",
            id: None,
            doc: Value::Null,
            why: Some(why),
            is_impolite: false,
        }
    }
}
