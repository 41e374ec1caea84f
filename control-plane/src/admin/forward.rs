//! Passing an operator's call on to the control plane that leads.

use std::time::{Duration, Instant};

use alyx_core::Error;
use alyx_proto::admin::admin_client::AdminClient;
use alyx_rpc::{
    Call, Channel, MAX_MESSAGE_BYTES, Security, connect, from_status, operator_proof, pass_on, to_status,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

/// Longest time for a call that came without a deadline. A migration may take long.
const LONGEST: Duration = Duration::from_secs(600);

/// A client of the leader that `not_leader` names, and the call for it; `None` where no leader is known, or where the
/// call has been passed on already.
pub(super) fn to_leader<Q>(
    links: Option<&Security>,
    not_leader: &Error,
    metadata: &MetadataMap,
    message: Q,
) -> Option<(AdminClient<Channel>, Request<Q>)> {
    let leader = not_leader.field().filter(|_| not_leader.code() == "NOT_LEADER")?;
    let proof = operator_proof(metadata)?;
    let channel = connect(leader, links?).ok()?;
    let mut call = Call::of(metadata);
    call.deadline = call.deadline.or_else(|| Instant::now().checked_add(LONGEST));
    let mut request = call.request(message);
    pass_on(request.metadata_mut(), proof);
    let client = AdminClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Some((client, request))
}

/// The leader's answer. That it cannot be reached is told as what it is, since this process was.
pub(super) fn told<A>(answer: Result<Response<A>, Status>) -> Result<Response<A>, Status> {
    answer.map_err(|status| to_status(&from_status(status)))
}
