//! What the admin API's calls do, in a cluster and in a server whose roles are one process.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::admin::{
    ApplySchemaRequest, ClusterStatus, DrainNodeRequest, DrainReply, ExplainRulesRequest, FunctionList,
    GetSchemaRequest, GetStatusRequest, ListFunctionsRequest, ListNodesRequest, ListSchemaRevisionsRequest,
    Node, NodeList, PlanSchemaRequest, RulesExplanation, SchemaHistory, SchemaPlan, SchemaRevision, Trouble,
    UndrainNodeRequest,
};
use alyx_service::health::Status;
use alyx_service::state::ControlPlane as _;

use super::convert;
use crate::cluster::{ClusterControl, Term};
use crate::plane::ControlPlane;

/// Largest schema that is read, in bytes, as for a file.
const MAX_SCHEMA: usize = 4 << 20;

/// Who answers.
#[derive(Clone)]
pub(super) enum Desk {
    Cluster(Arc<ClusterControl>),
    Alone(Arc<ControlPlane>),
}

/// The same while it leads.
pub(super) enum Lead {
    Cluster(Arc<ClusterControl>, Arc<Term>),
    Alone(Arc<ControlPlane>),
}

impl Desk {
    /// # Errors
    /// `NOT_LEADER`, `CONTROL_PLANE_STARTING`.
    pub(super) fn lead(&self) -> Result<Lead> {
        Ok(match self {
            Self::Cluster(control) => Lead::Cluster(Arc::clone(control), control.term()?),
            Self::Alone(plane) => Lead::Alone(Arc::clone(plane)),
        })
    }
}

impl Lead {
    fn plane(&self) -> &Arc<ControlPlane> {
        match self {
            Self::Cluster(_, term) => &term.plane,
            Self::Alone(plane) => plane,
        }
    }

    /// The nodes by role and name; whether all have had the time to be among them.
    fn nodes(&self) -> (Vec<Node>, bool) {
        match self {
            Self::Cluster(_, term) => {
                let (nodes, complete) = term.registry.with_wishes();
                let mut nodes: Vec<Node> = nodes
                    .into_iter()
                    .map(|(node, drained)| convert::node(node, drained))
                    .collect();
                nodes.sort_by(|a, b| (a.role, &a.name, &a.id).cmp(&(b.role, &b.name, &b.id)));
                (nodes, complete)
            }
            Self::Alone(_) => (Vec::new(), true),
        }
    }

    pub(super) async fn get_status(&self, _: GetStatusRequest) -> Result<ClusterStatus> {
        let mut troubles = Vec::new();
        for check in self.plane().health_checks() {
            let report = check.check().await;
            if report.status != Status::Healthy {
                troubles.push(Trouble {
                    part: check.name().to_owned(),
                    message: report.message.unwrap_or_default(),
                });
            }
        }
        let state = Arc::clone(&self.plane().watch().borrow());
        let (nodes, complete) = self.nodes();
        let (cluster, (leader_id, leader_address)) = match self {
            Self::Cluster(control, _) => (control.cluster(), control.identity()),
            Self::Alone(_) => ("", ("", "")),
        };
        Ok(ClusterStatus {
            cluster: cluster.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            single_process: matches!(self, Self::Alone(_)),
            leader_id: leader_id.to_owned(),
            leader_address: leader_address.to_owned(),
            schema_revision: state.schema_revision,
            functions: state.functions.len() as u64,
            roles: convert::counts(&nodes, state.schema_revision),
            complete,
            troubles,
        })
    }

    pub(super) async fn list_nodes(&self, _: ListNodesRequest) -> Result<NodeList> {
        let (nodes, complete) = self.nodes();
        Ok(NodeList { nodes, complete })
    }

    pub(super) async fn drain_node(&self, request: DrainNodeRequest) -> Result<DrainReply> {
        let Self::Cluster(control, term) = self else {
            return Err(no_nodes());
        };
        let changed = control.drain(term, &request.node).await?;
        Ok(self.drained(&request.node, changed))
    }

    pub(super) async fn undrain_node(&self, request: UndrainNodeRequest) -> Result<DrainReply> {
        let Self::Cluster(control, term) = self else {
            return Err(no_nodes());
        };
        let changed = control.undrain(term, &request.node).await?;
        Ok(self.drained(&request.node, changed))
    }

    fn drained(&self, asked: &str, changed: bool) -> DrainReply {
        let (mut nodes, _) = self.nodes();
        nodes.retain(|node| node.id == asked || node.name == asked);
        DrainReply {
            nodes,
            unchanged: !changed,
        }
    }

    pub(super) async fn get_schema(&self, request: GetSchemaRequest) -> Result<SchemaRevision> {
        let in_force = self.plane().watch().borrow().schema_revision;
        let kept = self.plane().revision(request.revision).await?;
        Ok(convert::revision(kept, in_force))
    }

    pub(super) async fn plan_schema(&self, request: PlanSchemaRequest) -> Result<SchemaPlan> {
        self.propose(request.source, false).await
    }

    pub(super) async fn apply_schema(&self, request: ApplySchemaRequest) -> Result<SchemaPlan> {
        self.propose(request.source, true).await
    }

    async fn propose(&self, source: String, apply: bool) -> Result<SchemaPlan> {
        if source.len() > MAX_SCHEMA {
            return Err(Error::new(
                ErrorKind::PayloadTooLarge,
                "SCHEMA_INVALID",
                format!("the schema is larger than {} MiB", MAX_SCHEMA >> 20),
            ));
        }
        let proposal = self.plane().propose(source, apply).await?;
        Ok(convert::plan(proposal))
    }

    pub(super) async fn list_schema_revisions(&self, _: ListSchemaRevisionsRequest) -> Result<SchemaHistory> {
        let in_force = self.plane().watch().borrow().schema_revision;
        let kept = self.plane().history().await?;
        Ok(SchemaHistory {
            revisions: kept
                .into_iter()
                .map(|kept| convert::revision(kept, in_force))
                .collect(),
        })
    }

    pub(super) async fn list_functions(&self, _: ListFunctionsRequest) -> Result<FunctionList> {
        let state = Arc::clone(&self.plane().watch().borrow());
        Ok(FunctionList {
            functions: state
                .functions
                .values()
                .map(|function| convert::function(function))
                .collect(),
        })
    }

    pub(super) async fn explain_rules(&self, request: ExplainRulesRequest) -> Result<RulesExplanation> {
        self.plane().explain(request).await
    }
}

fn no_nodes() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "NODE_NOT_FOUND",
        "all roles of this server are one process, so there is no node to drain; stop the process in its place",
    )
}
