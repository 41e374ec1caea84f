//! An OpenID provider: the npm package `oauth2-mock-server` in a process of its own.

use http::Method;
use serde_json::Value;

use crate::Http;
use crate::process::{Launch, Process, words};
use crate::project::repository;

/// A running provider; killed when dropped.
#[derive(Debug)]
pub struct Oidc {
    issuer: String,
    control: String,
    _process: Process,
}

impl Oidc {
    /// Starts one and waits until it serves.
    pub async fn start() -> Self {
        let dir = repository().join("tests/oidc");
        let mut process = Process::start(&Launch {
            program: "node".into(),
            args: words(&["server.mjs"]),
            env: Vec::new(),
            dir,
        });
        let found = process.find("the provider prints its address", |printed| {
            let words: Vec<&str> = printed.split_whitespace().collect();
            match words[..] {
                ["oidc", issuer, "control", control, "ready"] => {
                    Some((issuer.to_owned(), control.to_owned()))
                }
                _ => None,
            }
        });
        let (issuer, control) = found.await;
        Self {
            issuer,
            control,
            _process: process,
        }
    }

    /// Its issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where it answers what [`Self::set`] has put under `canned`.
    pub fn canned(&self, path: &str) -> String {
        format!("{}{path}", self.control)
    }

    /// Makes it say something else; see `tests/oidc/server.mjs`.
    pub async fn set(&self, settings: Value) {
        let control = Http::new(&self.control);
        let reply = control.send(Method::PUT, "/", &[], settings.to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// Codes that were turned in so far.
    pub async fn turned_in(&self) -> u64 {
        let reply = Http::new(&self.control).get("/count").await;
        reply.json().as_u64().expect("a number")
    }
}
