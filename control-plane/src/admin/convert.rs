//! The control plane's types as the admin API tells them.

use alyx_proto::admin as wire;
use alyx_proto::control;
use alyx_schema::Class;
use alyx_service::state::Function;

use crate::proposal::Proposal;
use crate::revision::Kept;

const ROLES: [wire::Role; 3] = [
    wire::Role::Gateway,
    wire::Role::RealtimeNode,
    wire::Role::FunctionWorker,
];

pub(super) fn node(node: control::Node, drained: bool) -> wire::Node {
    let (role, state) = (role(node.role()), state(node.state()));
    wire::Node {
        id: node.id,
        name: node.name,
        role: role.into(),
        address: node.address,
        version: node.version,
        state: state.into(),
        drained,
        load: node.load,
        capacity: node.capacity,
        schema_revision: node.schema_revision,
    }
}

const fn role(role: control::Role) -> wire::Role {
    match role {
        control::Role::Unspecified => wire::Role::Unspecified,
        control::Role::ControlPlane => wire::Role::ControlPlane,
        control::Role::Gateway => wire::Role::Gateway,
        control::Role::RealtimeNode => wire::Role::RealtimeNode,
        control::Role::FunctionWorker => wire::Role::FunctionWorker,
    }
}

const fn state(state: control::NodeState) -> wire::NodeState {
    match state {
        control::NodeState::Unspecified => wire::NodeState::Unspecified,
        control::NodeState::Ready => wire::NodeState::Ready,
        control::NodeState::Draining => wire::NodeState::Draining,
    }
}

/// How many nodes each role has, where `revision` is the schema in force.
pub(super) fn counts(nodes: &[wire::Node], revision: u64) -> Vec<wire::RoleCount> {
    let count = |role: wire::Role, which: &dyn Fn(&wire::Node) -> bool| {
        let counted = nodes.iter().filter(|node| node.role() == role && which(node));
        counted.count() as u64
    };
    ROLES
        .into_iter()
        .map(|role| wire::RoleCount {
            role: role.into(),
            ready: count(role, &|node| node.state() == wire::NodeState::Ready),
            draining: count(role, &|node| node.state() == wire::NodeState::Draining),
            behind: count(role, &|node| node.schema_revision != revision),
        })
        .collect()
}

pub(super) fn revision(kept: Kept, in_force: u64) -> wire::SchemaRevision {
    let revision = kept.id.unsigned_abs();
    wire::SchemaRevision {
        revision,
        source: kept.source,
        hash: kept.hash,
        applied_at: kept.applied_at,
        in_force: revision == in_force,
    }
}

pub(super) fn plan(proposal: Proposal) -> wire::SchemaPlan {
    wire::SchemaPlan {
        steps: proposal
            .steps
            .into_iter()
            .map(|step| wire::SchemaStep {
                path: step.path,
                description: step.description,
                class: class(step.class).into(),
                rows: step.rows,
                refused: step.refused.map(|refused| wire::Refusal {
                    loses: refused.loses,
                    remedy: refused.remedy,
                }),
            })
            .collect(),
        warnings: proposal.warnings,
        applied: proposal.applied,
        schema_revision: proposal.schema_revision,
    }
}

const fn class(class: Class) -> wire::StepClass {
    match class {
        Class::Safe => wire::StepClass::Safe,
        Class::NeedsDecision => wire::StepClass::NeedsDecision,
        Class::Destructive => wire::StepClass::Destructive,
    }
}

pub(super) fn function(function: &Function) -> wire::Function {
    wire::Function {
        name: function.name.clone(),
        runtime: function.runtime.name().to_owned(),
        version: function.version.clone(),
        entrypoint: function.entrypoint.to_string_lossy().into_owned(),
        description: function.description.clone(),
        timeout_millis: u64::try_from(function.timeout.as_millis()).unwrap_or(u64::MAX),
        memory_mib: function.memory_mib,
    }
}
