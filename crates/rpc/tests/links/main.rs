//! Links between two roles over real sockets: who is let in, what travels beside a call, and how a server stops.

mod certificates;
mod echo;

use std::time::Duration;

use alyx_core::{Error, ErrorKind, RequestId};
use alyx_proto::control::ReloadFunctionsRequest;
use alyx_proto::control::control_client::ControlClient;
use alyx_rpc::{Call, Security, bind, connect, from_status};
use alyx_service::tasks::Tasks;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response};

use crate::certificates::Authority;
use crate::echo::{Echo, Heard};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn token(token: &str) -> Security {
    Security::new(Some(token), None).expect("a token")
}

/// Calls the server, and returns the functions that it says to have.
async fn call(server: &Echo, security: &Security) -> Result<u64, Error> {
    let channel = connect(&server.address, security).expect("an address");
    let request = Call::within(Duration::from_secs(10)).request(ReloadFunctionsRequest {});
    let reply = ControlClient::new(channel).reload_functions(request).await;
    reply
        .map(|reply| reply.into_inner().functions)
        .map_err(from_status)
}

#[tokio::test]
async fn only_callers_with_the_token_are_served() {
    let server = Echo::start(&token(TOKEN)).await;
    assert_eq!(call(&server, &token(TOKEN)).await.expect("served"), 7);
    let wrong = token("fedcba9876543210fedcba9876543210");
    let error = call(&server, &wrong).await.expect_err("refused");
    assert_eq!(error.code(), "CLUSTER_UNAUTHENTICATED");
    let plain =
        tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let none = ControlClient::new(plain.connect_lazy());
    let error = none
        .clone()
        .reload_functions(ReloadFunctionsRequest {})
        .await
        .map_err(from_status)
        .expect_err("refused");
    assert_eq!(error.code(), "CLUSTER_UNAUTHENTICATED");
    assert_eq!(server.calls(), 1, "a refused call reached the service");
}

#[tokio::test]
async fn health_is_told_to_anyone() {
    let server = Echo::start(&token(TOKEN)).await;
    let plain =
        tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let mut client = HealthClient::new(plain.connect_lazy());
    let mut check = async |expected: health_check_response::ServingStatus| {
        let reply = client
            .check(HealthCheckRequest::default())
            .await
            .expect("answered");
        assert_eq!(reply.into_inner().status(), expected);
    };
    check(ServingStatus::NotServing).await;
    server.server.set_ready(true).await;
    check(ServingStatus::Serving).await;
}

#[tokio::test]
async fn certificates_of_one_authority_trust_each_other_and_no_others() {
    let (own, foreign) = (Authority::new(), Authority::new());
    let server = Echo::start(&own.security("127.0.0.1", None)).await;
    assert_eq!(
        call(&server, &own.security("client", None))
            .await
            .expect("served"),
        7
    );
    let refused = async |security: &Security, why: &str| {
        let error = call(&server, security).await.expect_err(why);
        assert_eq!(error.code(), "PEER_UNAVAILABLE", "{why}: {error}");
    };
    refused(&foreign.security("client", None), "another authority").await;
    refused(
        &foreign.security_trusting(&own, "client"),
        "a certificate of another authority",
    )
    .await;
    refused(&token(TOKEN), "no TLS at all").await;
    let misnamed = Echo::start(&own.security("other.example", None)).await;
    let error = call(&misnamed, &own.security("client", None))
        .await
        .expect_err("another name");
    assert_eq!(error.code(), "PEER_UNAVAILABLE");
    assert_eq!(
        server.calls() + misnamed.calls(),
        1,
        "a refused call reached the service"
    );
}

#[tokio::test]
async fn one_name_may_stand_for_every_role() {
    let authority = Authority::new();
    let security = authority.security("alyx.internal", Some("alyx.internal"));
    let server = Echo::start(&security).await;
    assert_eq!(call(&server, &security).await.expect("served"), 7);
}

#[tokio::test]
async fn a_token_beside_certificates_is_needed_too() {
    let authority = Authority::new();
    let server = Echo::start(&authority.security_with_token("127.0.0.1", TOKEN)).await;
    let with = authority.security_with_token("client", TOKEN);
    assert_eq!(call(&server, &with).await.expect("served"), 7);
    let error = call(&server, &authority.security("client", None))
        .await
        .expect_err("refused");
    assert_eq!(error.code(), "CLUSTER_UNAUTHENTICATED");
}

#[tokio::test]
async fn request_and_trace_travel_beside_a_call() {
    let server = Echo::start(&token(TOKEN)).await;
    let mut client = ControlClient::new(connect(&server.address, &token(TOKEN)).expect("an address"));
    let mut call = Call::within(Duration::from_secs(60)).for_request(RequestId::from("r-1".to_owned()));
    call.trace = Some(alyx_core::TraceContext::new());
    client
        .reload_functions(call.request(ReloadFunctionsRequest {}))
        .await
        .expect("served");
    let Heard { call: heard, .. } = server.heard();
    assert_eq!(heard.request_id, call.request_id);
    assert_eq!(heard.trace, call.trace);
    let (left, sent) = (
        heard.deadline.expect("a deadline"),
        call.deadline.expect("a deadline"),
    );
    assert!(
        left <= sent + Duration::from_secs(1),
        "more time was told than there was"
    );
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_on_both_sides() {
    let server = Echo::start(&token(TOKEN)).await;
    server.never_answer();
    let mut client = ControlClient::new(connect(&server.address, &token(TOKEN)).expect("an address"));
    let request = Call::within(Duration::from_millis(50)).request(ReloadFunctionsRequest {});
    let error = client
        .reload_functions(request)
        .await
        .map_err(from_status)
        .expect_err("late");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    server.all_dropped().await;
}

#[tokio::test]
async fn an_error_crosses_whole() {
    let server = Echo::start(&token(TOKEN)).await;
    server.fail(|| {
        Error::new(ErrorKind::Conflict, "UNIQUE_VIOLATION", "taken")
            .with_field("email")
            .with_retry_after(Duration::from_millis(1500))
    });
    let error = call(&server, &token(TOKEN)).await.expect_err("an error");
    assert_eq!(
        (error.kind(), error.code(), error.message()),
        (ErrorKind::Conflict, "UNIQUE_VIOLATION", "taken")
    );
    assert_eq!(error.field(), Some("email"));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_unavailable_and_found_when_it_is() {
    let security = token(TOKEN);
    let free = bind("127.0.0.1:0").await.expect("bound").local_addr().to_string();
    let mut client = ControlClient::new(connect(&free, &security).expect("an address"));
    let error = client
        .reload_functions(ReloadFunctionsRequest {})
        .await
        .map_err(from_status)
        .expect_err("nobody there");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, "PEER_UNAVAILABLE")
    );
    let _server = Echo::start_on(&free, &security).await;
    let reply = client
        .reload_functions(ReloadFunctionsRequest {})
        .await
        .expect("served");
    assert_eq!(reply.into_inner().functions, 7);
}

#[tokio::test]
async fn a_stopping_server_finishes_what_it_has_begun_and_no_more() {
    let security = token(TOKEN);
    let server = Echo::start(&security).await;
    server.wait_for_release();
    let channel = connect(&server.address, &security).expect("an address");
    let mut begun = ControlClient::new(channel.clone());
    let tasks = Tasks::new();
    let (told, answer) = tokio::sync::oneshot::channel();
    tasks.spawn_detached(async move {
        let _ = told.send(begun.reload_functions(ReloadFunctionsRequest {}).await);
    });
    server.begun(1).await;
    let (address, stopping) = server.stop(Duration::from_secs(10));
    let late = async {
        loop {
            let fresh = connect(&address, &security).expect("an address");
            let request = Call::within(Duration::from_secs(5)).request(ReloadFunctionsRequest {});
            match ControlClient::new(fresh).reload_functions(request).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(status) => return from_status(status),
            }
        }
    };
    assert_eq!(late.await.kind(), ErrorKind::Unavailable);
    stopping.release();
    assert!(stopping.clean().await, "calls under way were cut off");
    let reply = answer.await.expect("answered").expect("finished");
    assert_eq!(reply.into_inner().functions, 7);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let security = token(TOKEN);
    let server = Echo::start(&security).await;
    server.never_answer();
    let mut client = ControlClient::new(connect(&server.address, &security).expect("an address"));
    let tasks = Tasks::new();
    tasks.spawn_detached(async move {
        let _ = client.reload_functions(ReloadFunctionsRequest {}).await;
    });
    server.begun(1).await;
    let (_, stopping) = server.stop(Duration::from_millis(50));
    assert!(!stopping.clean().await);
}
