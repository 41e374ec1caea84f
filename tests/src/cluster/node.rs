//! One role's process in a cluster.

use std::net::SocketAddr;

use super::{Links, Part};
use crate::process::{Launch, Process};
use crate::{Http, Reply, eventually};

/// One role's process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) part: Part,
    pub(super) number: usize,
    pub(super) launch: Launch,
    pub(super) process: Option<Process>,
    pub(super) links: Option<Links>,
    /// Public HTTP, of a gateway only.
    pub(super) public: Option<SocketAddr>,
    pub(super) rpc: Option<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    /// For operators, of a control plane only.
    pub(super) admin: Option<SocketAddr>,
}

impl Node {
    /// Starts the process and reads its addresses from its banner.
    pub(super) async fn start(&mut self) {
        let what = format!("{} {} prints its addresses", self.part.name(), self.number);
        let part = self.part;
        let mut process = Process::start(&self.launch);
        let addresses = process.find(&what, |printed| Addresses::of(part, printed)).await;
        self.public = addresses.public;
        self.rpc = addresses.rpc;
        self.metrics = Some(addresses.metrics);
        self.admin = addresses.admin;
        self.process = Some(process);
    }

    /// Waits until it is ready, and healthy as far as it tells: a gateway by its public `/health`, which names all
    /// that it needs.
    pub(super) async fn ready(&self) {
        let what = format!("{} {} is ready", self.part.name(), self.number);
        let address = self.metrics.expect("it has printed its addresses");
        let own = Http::new(&format!("http://{address}"));
        let public = self.public.map(|public| Http::new(&format!("http://{public}")));
        eventually(&what, || async {
            let ask = async |http: &Http, path| http.try_send(http::Method::GET, path, &[], "").await;
            let ready = ask(&own, "/health/ready").await;
            let health = ask(public.as_ref().unwrap_or(&own), "/health").await;
            let is_ready = ready.as_ref().is_ok_and(|reply| reply.status == 200);
            let is_healthy = |reply: &Reply| match reply.status {
                404 => self.public.is_none(),
                status => status == 200 && reply.json()["status"] == "healthy",
            };
            if is_ready && health.as_ref().is_ok_and(is_healthy) {
                Ok(())
            } else {
                Err((ready, health, self.process.as_ref().map(Process::output)))
            }
        })
        .await;
    }

    pub(super) fn base(&self) -> String {
        let direct = self.public.expect("a gateway has a public address");
        let address = self.links.as_ref().map_or(direct, |links| links.public.address());
        format!("http://{address}")
    }
}

/// What a role's banner says.
struct Addresses {
    public: Option<SocketAddr>,
    rpc: Option<SocketAddr>,
    metrics: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Addresses {
    /// `None` until all of them are there.
    fn of(part: Part, printed: &str) -> Option<Self> {
        let line = |word: &str| printed.lines().find(|line| line.to_lowercase().contains(word));
        let metrics = address(line("metrics")?)?;
        let public = printed
            .lines()
            .filter(|line| line.contains("http://") && !line.to_lowercase().contains("metrics"))
            .find_map(address);
        let rpc = line("rpc").and_then(address);
        let complete = match part {
            Part::Gateway => public.is_some(),
            _ => rpc.is_some(),
        };
        complete.then_some(Self {
            public: public.filter(|_| part == Part::Gateway),
            rpc,
            metrics,
            admin: line("admin").and_then(address),
        })
    }
}

/// The first `host:port` in a line.
fn address(line: &str) -> Option<SocketAddr> {
    line.split(|c: char| c.is_whitespace() || c == '/')
        .find_map(|word| word.parse().ok())
}
