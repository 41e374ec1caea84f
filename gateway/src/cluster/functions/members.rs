//! Follows the directory of nodes: a link to every worker in it, made anew while the worker is listed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use alyx_rpc::{Backoff, Security};
use alyx_service::cluster::{ClusterNode, NodeWatch, Role};
use alyx_service::tasks::{OnEnd, Tasks};
use tokio_util::sync::CancellationToken;

use super::convert;
use super::dispatch::Dispatch;
use super::link::{self, Reached};
use super::roster::WorkerKey;
use super::stream::News;

/// What is needed to keep links.
#[derive(Debug, Clone)]
pub(super) struct Members {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) security: Security,
    /// Streams to each worker.
    pub(super) streams: usize,
    pub(super) tasks: Tasks,
}

impl Members {
    /// Follows `nodes` until the tasks are stopped.
    pub(super) async fn follow(self, mut nodes: NodeWatch) {
        let stopping = self.tasks.cancelled();
        let mut linked: BTreeMap<(String, String), CancellationToken> = BTreeMap::new();
        loop {
            let listed = Arc::clone(&nodes.borrow_and_update());
            let workers = || {
                listed
                    .iter()
                    .filter(|node| node.role == Role::FunctionWorker && !node.draining)
            };
            linked.retain(|(id, address), gone| {
                let stays = workers().any(|node| node.id == *id && node.address == *address);
                if !stays {
                    gone.cancel();
                }
                stays
            });
            for node in workers() {
                let name = (node.id.clone(), node.address.clone());
                linked.entry(name).or_insert_with(|| {
                    let gone = CancellationToken::new();
                    let linking = self.clone().keep_linked(node.clone(), gone.clone());
                    self.tasks.spawn("function worker link", OnEnd::Ignore, linking);
                    gone
                });
            }
            tokio::select! {
                changed = nodes.changed() => if changed.is_err() {
                    // The directory's reader is gone; its last word stays in force.
                    stopping.cancelled().await;
                    return;
                },
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Keeps a link to `node` until it has `gone` from the directory.
    async fn keep_linked(self, node: ClusterNode, gone: CancellationToken) {
        let stopping = self.tasks.cancelled();
        let mut backoff = Backoff::default();
        loop {
            let reaching = link::reach(&node.address, self.streams, &self.security, &self.tasks);
            let reached = tokio::select! {
                reached = reaching => reached,
                () = gone.cancelled() => return,
                () = stopping.cancelled() => return,
            };
            match reached {
                Ok(reached) => {
                    backoff.reset();
                    tracing::info!(
                        node = node.id,
                        address = node.address,
                        "function worker connected"
                    );
                    self.serve(&node, reached, &gone).await;
                }
                Err(error) => {
                    tracing::debug!(node = node.id, address = node.address, %error, "a function worker cannot be reached");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = gone.cancelled() => return,
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Sends calls over a link until one of its streams ends or its worker has gone.
    async fn serve(&self, node: &ClusterNode, reached: Reached, gone: &CancellationToken) {
        let Reached {
            link,
            sizes,
            incoming,
        } = reached;
        let broken = CancellationToken::new();
        let worker = self
            .dispatch
            .change(|roster| roster.join(node.id.clone(), Arc::clone(&link), sizes));
        for (stream, messages) in incoming {
            let (dispatch, broken) = (Arc::clone(&self.dispatch), broken.clone());
            self.tasks.spawn("function stream", OnEnd::Ignore, async move {
                stream
                    .read(messages, |news| take_news(&dispatch, worker, news))
                    .await;
                broken.cancel();
            });
        }
        let stopping = self.tasks.cancelled();
        tokio::select! {
            () = broken.cancelled() => {}
            () = gone.cancelled() => {}
            () = stopping.cancelled() => {}
        }
        self.dispatch.change(|roster| roster.leave(worker));
        tracing::info!(node = node.id, "function worker gets no more calls");
        // What it has accepted may end: streams that still work are closed after their last call.
        for stream in link.streams() {
            let stream = Arc::clone(stream);
            self.tasks.spawn_detached(async move { stream.finish().await });
        }
    }
}

fn take_news(dispatch: &Dispatch, worker: WorkerKey, news: News) {
    match news {
        News::Capacity(capacity) => {
            let (loads, pools) = convert::capacity(capacity);
            dispatch.change(|roster| roster.advertise(worker, loads, pools, Instant::now()));
        }
        News::Figures(figures) => {
            let (figures, gone) = convert::figures(figures);
            dispatch.roster.lock().learn(worker, figures, &gone);
        }
        News::Draining => dispatch.change(|roster| roster.drain(worker)),
    }
}
