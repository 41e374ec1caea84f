//! Planning and applying a schema that was sent.

use alyx_core::Result;
use alyx_proto::control::{PlannedStep, ProposeSchemaReply, ProposeSchemaRequest};

use crate::plane::ControlPlane;
use crate::proposal::Proposal;

pub(super) async fn propose(
    plane: &ControlPlane,
    request: ProposeSchemaRequest,
) -> Result<ProposeSchemaReply> {
    plane.propose(request.source, request.apply).await.map(to_wire)
}

fn to_wire(proposal: Proposal) -> ProposeSchemaReply {
    ProposeSchemaReply {
        steps: proposal
            .steps
            .into_iter()
            .map(|step| PlannedStep {
                description: format!("{}: {}", step.path, step.description),
                refused: step.refused.unwrap_or_default(),
            })
            .collect(),
        applied: proposal.applied,
        schema_revision: proposal.schema_revision,
        warnings: proposal.warnings,
    }
}
