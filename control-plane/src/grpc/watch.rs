//! Streams of snapshots: the whole state at once, then what has changed.

use std::sync::Arc;

use alyx_cluster::{function_to_wire, role_from_wire};
use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::{Functions, Nodes, Schema, Snapshot, WatchRequest};
use alyx_rpc::to_status;
use alyx_service::cluster::Role;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::register::stops;
use super::{QUEUE, Replies};
use crate::cluster::{ClusterControl, NodeList, Standing};
use crate::plane::Published;

/// Follows state and directory for one node.
pub(super) fn begin(control: &Arc<ClusterControl>, request: &WatchRequest) -> Result<Replies<Snapshot>> {
    let term = control.term()?;
    if request.cluster != control.cluster() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "CLUSTER_MISMATCH",
            format!(
                "this is cluster `{}`, the node belongs to `{}`; set the same `cluster.name` for every role",
                control.cluster(),
                request.cluster
            ),
        ));
    }
    let (replies, stream) = mpsc::channel(QUEUE);
    let (mut published, mut nodes) = (term.plane.published(), term.registry.follow());
    let (mut standing, stopping) = (control.standing(), control.stopping());
    let mut view = View {
        secrets: role_from_wire(request.role()) == Some(Role::FunctionWorker),
        revision: 0,
        told: None,
    };
    control.streams().spawn_detached(async move {
        let ended = async {
            let other =
                |standing: &Standing| !matches!(standing, Standing::Leads(now) if Arc::ptr_eq(now, &term));
            match standing.wait_for(other).await {
                Ok(standing) => standing.term().err(),
                Err(_) => None,
            }
        };
        let telling = async {
            loop {
                let now = (
                    published.borrow_and_update().clone(),
                    nodes.borrow_and_update().clone(),
                );
                if let Some(snapshot) = view.next(now)
                    && replies.send(Ok(snapshot)).await.is_err()
                {
                    return;
                }
                tokio::select! {
                    Ok(()) = published.changed() => {}
                    Ok(()) = nodes.changed() => {}
                    () = replies.closed() => return,
                }
            }
        };
        let error = tokio::select! {
            () = telling => return,
            Some(not_leader) = ended => not_leader,
            () = stopping.cancelled() => stops(),
        };
        // A node that has gone already hears nothing.
        let _ = replies.try_send(Err(to_status(&error)));
    });
    Ok(ReceiverStream::new(stream))
}

/// What one node has been told.
struct View {
    /// Whether it gets the functions' settings.
    secrets: bool,
    revision: u64,
    told: Option<(Published, Arc<NodeList>)>,
}

impl View {
    /// What it has to be told, if anything.
    fn next(&mut self, now: (Published, Arc<NodeList>)) -> Option<Snapshot> {
        let (published, nodes) = &now;
        let (schema, functions, directory) = match &self.told {
            None => (true, true, true),
            Some((old, old_nodes)) => (
                old.source != published.source
                    || old.state.schema_revision != published.state.schema_revision,
                !Arc::ptr_eq(&old.state.functions, &published.state.functions),
                old_nodes != nodes,
            ),
        };
        if !(schema || functions || directory) {
            return None;
        }
        self.revision += 1;
        let snapshot = Snapshot {
            revision: self.revision,
            schema_revision: published.state.schema_revision,
            schema: schema.then(|| Schema {
                source: published.source.to_string(),
            }),
            functions: functions.then(|| self.functions(published)),
            nodes: directory.then(|| Nodes {
                nodes: nodes.nodes.clone(),
                complete: nodes.complete,
            }),
        };
        self.told = Some(now);
        Some(snapshot)
    }

    fn functions(&self, published: &Published) -> Functions {
        Functions {
            functions: published
                .state
                .functions
                .values()
                .map(|function| function_to_wire(function, self.secrets))
                .collect(),
        }
    }
}
