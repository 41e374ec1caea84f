//! What a server answers, for people and as JSON.

use std::fmt;

use alyx_proto::admin as wire;
use serde::Serialize;

use super::table::Table;

/// An answer that can be shown either way.
pub(crate) trait Answer: Serialize + fmt::Display {}

impl<T: Serialize + fmt::Display> Answer for T {}

#[derive(Serialize)]
pub(super) struct Status {
    cluster: String,
    version: String,
    single_process: bool,
    leader: Option<Leader>,
    schema_revision: u64,
    functions: u64,
    /// False while nodes are still finding a new leader.
    complete: bool,
    roles: Vec<RoleCount>,
    troubles: Vec<Trouble>,
}

#[derive(Serialize)]
struct Leader {
    id: String,
    address: String,
}

#[derive(Serialize)]
struct RoleCount {
    role: &'static str,
    ready: u64,
    draining: u64,
    /// Nodes that do not serve the schema in force yet.
    behind: u64,
}

#[derive(Serialize)]
struct Trouble {
    part: String,
    message: String,
}

impl From<wire::ClusterStatus> for Status {
    fn from(status: wire::ClusterStatus) -> Self {
        let roles = status.roles.iter().map(|count| RoleCount {
            role: role(count.role()),
            ready: count.ready,
            draining: count.draining,
            behind: count.behind,
        });
        Self {
            roles: roles.collect(),
            cluster: status.cluster,
            version: status.version,
            single_process: status.single_process,
            leader: (!status.leader_id.is_empty()).then_some(Leader {
                id: status.leader_id,
                address: status.leader_address,
            }),
            schema_revision: status.schema_revision,
            functions: status.functions,
            complete: status.complete,
            troubles: status
                .troubles
                .into_iter()
                .map(|trouble| Trouble {
                    part: trouble.part,
                    message: trouble.message,
                })
                .collect(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.single_process {
            writeln!(f, "Server     Alyx {}, all roles in one process", self.version)?;
        } else {
            writeln!(f, "Cluster    {} (Alyx {})", self.cluster, self.version)?;
        }
        if let Some(leader) = &self.leader {
            writeln!(f, "Leader     {} at {}", leader.id, leader.address)?;
        }
        writeln!(f, "Schema     revision {}", self.schema_revision)?;
        writeln!(f, "Functions  {}", self.functions)?;
        if !self.single_process {
            let mut table = Table::new(&["ROLE", "READY", "DRAINING", "BEHIND"]);
            for count in &self.roles {
                table.row([
                    count.role.to_owned(),
                    count.ready.to_string(),
                    count.draining.to_string(),
                    count.behind.to_string(),
                ]);
            }
            write!(f, "\n{table}")?;
        }
        if !self.complete {
            writeln!(
                f,
                "\nThis control plane has just taken the lead; nodes may be missing."
            )?;
        }
        for trouble in &self.troubles {
            writeln!(f, "\n! {}: {}", trouble.part, trouble.message)?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    complete: bool,
}

#[derive(Serialize)]
struct Node {
    name: String,
    id: String,
    role: &'static str,
    address: String,
    version: String,
    state: &'static str,
    /// An operator wants it so.
    drained: bool,
    load: u64,
    capacity: u64,
    schema_revision: u64,
}

impl From<wire::Node> for Node {
    fn from(node: wire::Node) -> Self {
        Self {
            role: role(node.role()),
            state: match node.state() {
                wire::NodeState::Unspecified => "unknown",
                wire::NodeState::Ready => "ready",
                wire::NodeState::Draining => "draining",
            },
            name: node.name,
            id: node.id,
            address: node.address,
            version: node.version,
            drained: node.drained,
            load: node.load,
            capacity: node.capacity,
            schema_revision: node.schema_revision,
        }
    }
}

impl From<wire::NodeList> for Nodes {
    fn from(list: wire::NodeList) -> Self {
        Self {
            nodes: list.nodes.into_iter().map(Node::from).collect(),
            complete: list.complete,
        }
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_nodes(f, &self.nodes)?;
        if !self.complete {
            writeln!(
                f,
                "\nThis control plane has just taken the lead; nodes may be missing."
            )?;
        }
        Ok(())
    }
}

fn write_nodes(f: &mut fmt::Formatter<'_>, nodes: &[Node]) -> fmt::Result {
    if nodes.is_empty() {
        return writeln!(f, "There are no nodes.");
    }
    let mut table = Table::new(&[
        "NAME", "ROLE", "STATE", "LOAD", "ADDRESS", "SCHEMA", "VERSION", "ID",
    ]);
    for node in nodes {
        let state = if node.drained && node.state == "draining" {
            "drained"
        } else {
            node.state
        };
        let load = match node.capacity {
            0 => node.load.to_string(),
            capacity => format!("{}/{capacity}", node.load),
        };
        table.row([
            node.name.clone(),
            node.role.to_owned(),
            state.to_owned(),
            load,
            node.address.clone(),
            node.schema_revision.to_string(),
            node.version.clone(),
            node.id.clone(),
        ]);
    }
    write!(f, "{table}")
}

#[derive(Serialize)]
pub(super) struct Drained {
    changed: bool,
    nodes: Vec<Node>,
    #[serde(skip)]
    drains: bool,
}

impl Drained {
    /// `drains` where the node was drained, and not let work again.
    pub(super) fn new(reply: wire::DrainReply, drains: bool) -> Self {
        Self {
            changed: !reply.unchanged,
            nodes: reply.nodes.into_iter().map(Node::from).collect(),
            drains,
        }
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match (self.drains, self.changed) {
            (true, true) => "It takes no new work now, and finishes what it has.",
            (true, false) => "It was drained already.",
            (false, true) => "It may work again.",
            (false, false) => "It was not drained.",
        };
        writeln!(f, "{said}")?;
        if !self.nodes.is_empty() {
            writeln!(f)?;
            write_nodes(f, &self.nodes)?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct Functions {
    functions: Vec<Function>,
}

#[derive(Serialize)]
struct Function {
    name: String,
    runtime: String,
    version: String,
    entrypoint: String,
    description: String,
    timeout_ms: u64,
    memory_mib: u64,
}

impl From<wire::FunctionList> for Functions {
    fn from(list: wire::FunctionList) -> Self {
        let functions = list.functions.into_iter().map(|function| Function {
            name: function.name,
            runtime: function.runtime,
            version: function.version,
            entrypoint: function.entrypoint,
            description: function.description,
            timeout_ms: function.timeout_millis,
            memory_mib: function.memory_mib,
        });
        Self {
            functions: functions.collect(),
        }
    }
}

impl fmt::Display for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.functions.is_empty() {
            return writeln!(f, "There are no functions.");
        }
        let mut table = Table::new(&[
            "NAME",
            "RUNTIME",
            "FILE",
            "TIMEOUT",
            "MEMORY",
            "VERSION",
            "DESCRIPTION",
        ]);
        for function in &self.functions {
            let version = function.version.get(..12).unwrap_or(&function.version);
            table.row([
                function.name.clone(),
                function.runtime.clone(),
                function.entrypoint.clone(),
                format!("{} ms", function.timeout_ms),
                format!("{} MiB", function.memory_mib),
                version.to_owned(),
                function.description.lines().next().unwrap_or_default().to_owned(),
            ]);
        }
        write!(f, "{table}")
    }
}

/// The word for a role.
pub(super) const fn role(role: wire::Role) -> &'static str {
    match role {
        wire::Role::Unspecified => "unknown",
        wire::Role::ControlPlane => "control-plane",
        wire::Role::Gateway => "gateway",
        wire::Role::RealtimeNode => "realtime-node",
        wire::Role::FunctionWorker => "function-worker",
    }
}
