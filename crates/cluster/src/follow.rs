//! Following the desired state: one stream after another, from whichever control plane answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::{Snapshot, WatchRequest};
use alyx_rpc::{Backoff, from_status};
use alyx_schema::Schema;
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::state::{DesiredState, Function};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Streaming;

use crate::bundle::BundleCache;
use crate::convert::{functions_from_wire, node_from_wire, role_to_wire};
use crate::endpoints::{Chosen, Endpoints};
use crate::keep;

/// Longest wait for a control plane to begin to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Waits between tries to put a snapshot in force.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// What has changed.
#[derive(Debug, Default)]
pub(crate) struct Update {
    /// The state, if it is another one.
    pub(crate) state: Option<Arc<DesiredState>>,
    /// The live nodes, if they are others.
    pub(crate) nodes: Option<Arc<Vec<ClusterNode>>>,
}

/// One process's view of the desired state.
pub(crate) struct Follower {
    endpoints: Arc<Endpoints>,
    request: WatchRequest,
    bundles: Option<BundleCache>,
    file: PathBuf,
    stream: Option<(Chosen, Streaming<Snapshot>)>,
    backoff: Backoff,
    /// Everything that was sent, put together.
    whole: Snapshot,
    /// When to put it in force, first or again; `None` while it is.
    retry: Option<(Instant, Backoff)>,
    nodes: Arc<Vec<ClusterNode>>,
    state: Option<(InForce, Arc<DesiredState>)>,
    trouble: Trouble,
}

/// Why there is nothing new, in words, while that is so.
pub(crate) type Trouble = Arc<Mutex<Option<String>>>;

/// Of what the state in force was made.
#[derive(Clone, PartialEq)]
struct InForce {
    schema_revision: u64,
    source: String,
    functions: Vec<alyx_proto::control::Function>,
}

impl Follower {
    pub(crate) fn new(
        endpoints: Arc<Endpoints>,
        request: WatchRequest,
        bundles: Option<BundleCache>,
        file: PathBuf,
    ) -> Self {
        Self {
            endpoints,
            request,
            bundles,
            file,
            stream: None,
            backoff: Backoff::default(),
            whole: Snapshot::default(),
            retry: None,
            nodes: Arc::default(),
            state: None,
            trouble: Arc::default(),
        }
    }

    /// The snapshot that was kept by an earlier process, put in force; nothing where there is none that can be.
    pub(crate) async fn load_kept(&mut self) -> Update {
        let file = self.file.clone();
        let kept = tokio::task::spawn_blocking(move || keep::load(&file)).await;
        let Ok(Some(mut kept)) = kept else {
            return Update::default();
        };
        // Some of them may have gone and others come since.
        if let Some(nodes) = &mut kept.nodes {
            nodes.complete = false;
        }
        self.whole = kept;
        let update = self.put_in_force(None).await;
        self.retry = None;
        update
    }

    /// Why there is nothing new, where that is so.
    pub(crate) fn trouble(&self) -> Trouble {
        Arc::clone(&self.trouble)
    }

    /// The next change. Where it is dropped, the next call goes on where it was, but for a connection or a bundle that
    /// is under way, which is begun anew.
    pub(crate) async fn next(&mut self) -> Update {
        loop {
            let Some((chosen, stream)) = &mut self.stream else {
                self.connect().await;
                continue;
            };
            let retry_at = self.retry.as_ref().map(|(at, _)| *at);
            let retry = async {
                match retry_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let update = tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(snapshot)) => {
                        self.backoff.reset();
                        let chosen = chosen.clone();
                        self.merge(snapshot);
                        self.put_in_force(Some(chosen)).await
                    }
                    Ok(None) => {
                        self.lost(Error::new(
                            ErrorKind::Unavailable,
                            "CONTROL_PLANE_UNAVAILABLE",
                            "the control plane has ended the stream",
                        )).await;
                        continue;
                    }
                    Err(status) => {
                        self.lost(from_status(status)).await;
                        continue;
                    }
                },
                () = retry => {
                    let chosen = chosen.clone();
                    self.put_in_force(Some(chosen)).await
                }
            };
            if update.state.is_some() || update.nodes.is_some() {
                return update;
            }
        }
    }

    async fn connect(&mut self) {
        let mut chosen = self.endpoints.choose();
        let answer = timeout(ANSWER_WITHIN, chosen.client.watch(self.request.clone())).await;
        match answer {
            Ok(Ok(reply)) => {
                tracing::info!(control_plane = chosen.address, "following the desired state");
                self.stream = Some((chosen, reply.into_inner()));
            }
            Ok(Err(status)) => self.failed(&chosen, from_status(status)).await,
            Err(_) => {
                let error = Error::new(
                    ErrorKind::DeadlineExceeded,
                    "CONTROL_PLANE_UNAVAILABLE",
                    format!("the control plane at {} does not answer", chosen.address),
                );
                self.failed(&chosen, error).await;
            }
        }
    }

    async fn lost(&mut self, error: Error) {
        if let Some((chosen, _)) = self.stream.take() {
            self.failed(&chosen, error).await;
        }
    }

    /// Moves on to another control plane, at once where the leader was named.
    async fn failed(&mut self, chosen: &Chosen, error: Error) {
        let known = self.endpoints.failed(chosen, &error);
        if self.trouble.lock().is_none() && !known {
            tracing::warn!(
                control_plane = chosen.address,
                code = error.code(),
                "the control plane is away: {error}; the last state goes on being served"
            );
        }
        *self.trouble.lock() = Some(error.message().to_owned());
        sleep(if known {
            Duration::from_millis(10)
        } else {
            self.backoff.next_wait()
        })
        .await;
    }

    fn merge(&mut self, snapshot: Snapshot) {
        let whole = &mut self.whole;
        whole.revision = snapshot.revision;
        whole.schema_revision = snapshot.schema_revision;
        if snapshot.schema.is_some() {
            whole.schema = snapshot.schema;
        }
        if snapshot.functions.is_some() {
            whole.functions = snapshot.functions;
        }
        if snapshot.nodes.is_some() {
            whole.nodes = snapshot.nodes;
        }
        self.retry = Some((Instant::now(), RETRY));
    }

    /// Makes what was sent the state in force, as far as that can be done. `from` is where code is fetched.
    async fn put_in_force(&mut self, from: Option<Chosen>) -> Update {
        let nodes = self.take_nodes();
        let state = match self.take_state(from).await {
            Ok(state) => {
                *self.trouble.lock() = None;
                self.retry = None;
                state
            }
            Err(error) => {
                tracing::error!(
                    code = error.code(),
                    "the desired state cannot be put in force: {error}; the last one goes on being served"
                );
                *self.trouble.lock() = Some(error.message().to_owned());
                let mut backoff = self.retry.take().map_or(RETRY, |(_, backoff)| backoff);
                self.retry = Some((Instant::now() + backoff.next_wait(), backoff));
                None
            }
        };
        if state.is_some() || nodes.is_some() {
            self.keep().await;
        }
        Update { state, nodes }
    }

    /// The directory, if it is another one. While the control plane is still finding its nodes, those that were known
    /// stay.
    fn take_nodes(&mut self) -> Option<Arc<Vec<ClusterNode>>> {
        let told = self.whole.nodes.as_mut()?;
        let mut nodes: BTreeMap<String, ClusterNode> = BTreeMap::new();
        if !told.complete {
            nodes.extend(self.nodes.iter().map(|node| (node.id.clone(), node.clone())));
        }
        nodes.extend(
            told.nodes
                .iter()
                .filter_map(node_from_wire)
                .map(|node| (node.id.clone(), node)),
        );
        let nodes: Vec<ClusterNode> = nodes.into_values().collect();
        if *self.nodes == nodes {
            return None;
        }
        self.nodes = Arc::new(nodes);
        Some(Arc::clone(&self.nodes))
    }

    /// The state, if it is another one.
    async fn take_state(&mut self, from: Option<Chosen>) -> Result<Option<Arc<DesiredState>>> {
        let (Some(schema), Some(functions)) = (&self.whole.schema, &self.whole.functions) else {
            return Ok(None);
        };
        let wanted = InForce {
            schema_revision: self.whole.schema_revision,
            source: schema.source.clone(),
            functions: functions.functions.clone(),
        };
        if self
            .state
            .as_ref()
            .is_some_and(|(in_force, _)| *in_force == wanted)
        {
            return Ok(None);
        }
        let root_of = |version: &str| match &self.bundles {
            Some(bundles) => bundles.root(version),
            None => PathBuf::new(),
        };
        let read = functions_from_wire(functions, root_of)?;
        let schema = match &self.state {
            Some((in_force, state)) if in_force.source == wanted.source => Arc::clone(&state.schema),
            Some(_) | None => parse(&wanted.source, wanted.schema_revision)?,
        };
        if let Some(bundles) = &self.bundles {
            fetch_code(bundles, from, &read).await?;
        }
        let state = Arc::new(DesiredState {
            revision: self.state.as_ref().map_or(1, |(_, state)| state.revision + 1),
            schema_revision: wanted.schema_revision,
            schema,
            functions: Arc::new(read),
        });
        tracing::info!(
            schema_revision = state.schema_revision,
            functions = state.functions.len(),
            "the desired state is in force"
        );
        self.state = Some((wanted, Arc::clone(&state)));
        Ok(Some(state))
    }

    /// Keeps what is in force on disk. A disk that is full is no reason not to serve.
    async fn keep(&self) {
        let Some((in_force, _)) = &self.state else { return };
        let snapshot = Snapshot {
            revision: self.whole.revision,
            schema_revision: in_force.schema_revision,
            schema: Some(alyx_proto::control::Schema {
                source: in_force.source.clone(),
            }),
            functions: Some(alyx_proto::control::Functions {
                functions: in_force.functions.clone(),
            }),
            nodes: self.whole.nodes.clone(),
        };
        let file = self.file.clone();
        let kept = tokio::task::spawn_blocking(move || keep::save(&file, &snapshot)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, file = %self.file.display(), "the snapshot could not be kept for the next start");
        }
    }
}

/// Who asks, for [`Follower::new`].
pub(crate) fn watch_request(node_id: &str, role: Role, cluster: &str) -> WatchRequest {
    WatchRequest {
        node_id: node_id.to_owned(),
        role: role_to_wire(role).into(),
        cluster: cluster.to_owned(),
    }
}

fn parse(source: &str, revision: u64) -> Result<Arc<Schema>> {
    let parsed = alyx_schema::parse(source, &format!("schema revision {revision}")).map_err(|errors| {
        Error::new(
            ErrorKind::Internal,
            "SNAPSHOT_UNREADABLE",
            format!(
                "this version cannot read the schema in force; bring all roles to the same version\n{errors}"
            ),
        )
    })?;
    Ok(Arc::new(parsed.schema))
}

async fn fetch_code(
    bundles: &BundleCache,
    from: Option<Chosen>,
    functions: &BTreeMap<String, Arc<Function>>,
) -> Result<()> {
    let used: BTreeSet<String> = functions
        .values()
        .map(|function| function.version.clone())
        .collect();
    for hash in &used {
        if bundles.has(hash).await? {
            continue;
        }
        let Some(mut chosen) = from.clone() else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "BUNDLE_INCOMPLETE",
                "the code of the kept functions is not on this disk",
            ));
        };
        bundles.fetch(&mut chosen.client, hash).await?;
        tracing::info!(bundle = hash, "the code of the functions has arrived");
    }
    let bundles = bundles.clone();
    tokio::task::spawn_blocking(move || bundles.prune(&used))
        .await
        .map_err(Error::internal)
}
