//! What operators ask and want of a cluster's control planes.

use alyx_core::{Error, ErrorKind};
use alyx_proto::admin::admin_client::AdminClient;
use alyx_proto::admin::{
    ApplySchemaRequest, DrainNodeRequest, GetSchemaRequest, GetStatusRequest, ListFunctionsRequest,
    ListNodesRequest, ListSchemaRevisionsRequest, NodeState, PlanSchemaRequest, UndrainNodeRequest,
};
use alyx_rpc::{Channel, connect, connect_operator, from_status};
use alyx_service::cluster::Role;
use alyx_service::state::ControlPlane as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::support::{NOTES, OPERATOR, POSTS, Site, eventually, security};

const TAGS: &str = "collections: {posts: {fields: {id: {type: uuid, primary: true}, title: {type: string}}}, \
                    tags: {fields: {id: {type: uuid, primary: true}, text: {type: string}}}}\n";

async fn apply(
    client: &mut AdminClient<Channel>,
    source: &str,
) -> Result<alyx_proto::admin::SchemaPlan, Error> {
    let source = source.to_owned();
    let reply = client.apply_schema(ApplySchemaRequest { source }).await;
    reply.map(tonic::Response::into_inner).map_err(from_status)
}

async fn drain(client: &mut AdminClient<Channel>, node: &str) -> Result<bool, Error> {
    let node = node.to_owned();
    let reply = client.drain_node(DrainNodeRequest { node }).await;
    reply
        .map(|reply| !reply.into_inner().unchanged)
        .map_err(from_status)
}

async fn undrain(client: &mut AdminClient<Channel>, node: &str) -> Result<bool, Error> {
    let node = node.to_owned();
    let reply = client.undrain_node(UndrainNodeRequest { node }).await;
    reply
        .map(|reply| !reply.into_inner().unchanged)
        .map_err(from_status)
}

#[tokio::test]
async fn a_schema_that_is_sent_is_planned_and_applied_and_reaches_everybody() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    let mut client = plane.operator();
    let planned = client
        .plan_schema(PlanSchemaRequest {
            source: NOTES.to_owned(),
        })
        .await
        .expect("planned")
        .into_inner();
    assert!(!planned.applied && planned.schema_revision == 1, "{planned:?}");
    let step = planned.steps.first().expect("a step");
    assert!(
        step.description.contains("notes") && step.refused.is_none(),
        "{step:?}"
    );

    let applied = apply(&mut client, NOTES).await.expect("applied");
    assert!(applied.applied && applied.schema_revision == 2, "{applied:?}");
    let state = eventually(gateway.control.watch(), |state| state.schema_revision == 2).await;
    assert!(state.schema.collections.contains_key("notes"));

    site.execute("INSERT INTO notes (id, text) VALUES ('1', 'x')")
        .await;
    let refused = apply(&mut client, POSTS).await.expect("planned");
    assert!(!refused.applied && refused.schema_revision == 2, "{refused:?}");
    let why = refused.steps.iter().find_map(|step| step.refused.as_ref());
    let why = why.expect("a refused step");
    assert!(!why.loses.is_empty() && !why.remedy.is_empty(), "{why:?}");
    let error = apply(&mut client, "collections: [").await.expect_err("no schema");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::InvalidInput, "SCHEMA_INVALID")
    );

    let history = client
        .list_schema_revisions(ListSchemaRevisionsRequest {})
        .await
        .expect("listed")
        .into_inner()
        .revisions;
    let told: Vec<(u64, bool)> = history
        .iter()
        .map(|kept| (kept.revision, kept.in_force))
        .collect();
    assert_eq!(told, [(2, true), (1, false)]);
    for (revision, source) in [(None, NOTES), (Some(1), POSTS)] {
        let kept = client.get_schema(GetSchemaRequest { revision }).await;
        assert_eq!(kept.expect("kept").into_inner().source, source);
    }
    let revision = Some(9);
    let error = client.get_schema(GetSchemaRequest { revision }).await;
    assert_eq!(
        from_status(error.expect_err("not kept")).code(),
        "REVISION_NOT_FOUND"
    );
}

#[tokio::test]
async fn what_an_operator_applied_outlives_a_restart_until_the_file_says_something_new() {
    let site = Site::new();
    let plane = site.plane("one").await;
    // Nothing is lost when `notes` goes away again: it has no rows.
    apply(&mut plane.operator(), NOTES).await.expect("applied");
    plane.stop().await;

    let plane = site.plane("two").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    let state = gateway.control.watch().borrow().clone();
    assert_eq!(state.schema_revision, 2);
    assert!(state.schema.collections.contains_key("notes"));
    plane.stop().await;

    let both = NOTES.replace(
        "}}}\n",
        "}}, tags: {fields: {id: {type: uuid, primary: true}}}}\n",
    );
    site.write("schema.yaml", &both);
    let plane = site.plane("three").await;
    let state = eventually(gateway_of(&site, &plane).await, |state| {
        state.schema_revision == 3
    })
    .await;
    assert!(state.schema.collections.contains_key("tags"));

    // The file comes to say what is in force already, in other words: it has been heard then, too.
    apply(&mut plane.operator(), &format!("# applied\n{both}"))
        .await
        .expect("the same schema");
    plane.stop().await;
    site.write("schema.yaml", &format!("# written\n{both}"));
    let plane = site.plane("four").await;
    let more = both.replace(
        "tags:",
        "more: {fields: {id: {type: uuid, primary: true}}}, tags:",
    );
    apply(&mut plane.operator(), &more).await.expect("applied");
    plane.stop().await;
    let plane = site.plane("five").await;
    let state = gateway_of(&site, &plane).await.borrow().clone();
    assert!(state.schema.collections.contains_key("more"), "{state:?}");
}

async fn gateway_of(site: &Site, plane: &crate::support::Plane) -> alyx_service::state::StateWatch {
    let gateway = site.node(Role::Gateway, "fresh", &[&plane.address]).await;
    let watch = gateway.control.watch();
    // It follows for as long as the test runs.
    std::mem::forget(gateway);
    watch
}

#[tokio::test]
async fn draining_is_asked_for_told_and_kept_over_restarts() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    let worker = site.node(Role::FunctionWorker, "w", &[&plane.address]).await;
    worker.announce("h:1");
    gateway.sees(&[("w", false)]).await;
    let mut client = plane.operator();
    assert!(drain(&mut client, "w").await.expect("there"));
    assert!(!drain(&mut client, "w").await.expect("drained already"));
    gateway.sees(&[("w", true)]).await;
    eventually(worker.control.drain_requested(), |drain| *drain).await;
    let error = drain(&mut client, "nobody").await.expect_err("no such node");
    assert_eq!(error.code(), "NODE_NOT_FOUND");

    // The control plane and the node begin again; the node has another id and the same name.
    drop((gateway, client));
    worker.stop().await;
    plane.stop().await;
    let plane = site.plane("two").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    let worker = site
        .named_node(Role::FunctionWorker, ("w-2", "w"), &[&plane.address])
        .await;
    worker.announce("h:2");
    gateway.sees(&[("w-2", true)]).await;
    eventually(worker.control.drain_requested(), |drain| *drain).await;
    let mut client = plane.operator();
    let nodes = client.list_nodes(ListNodesRequest {}).await.expect("listed");
    let node = nodes.into_inner().nodes.remove(0);
    assert_eq!(
        (node.id.as_str(), node.name.as_str(), node.drained),
        ("w-2", "w", true)
    );
    assert_eq!(node.state(), NodeState::Draining);

    assert!(undrain(&mut client, "w-2").await.expect("there"));
    assert!(!undrain(&mut client, "w").await.expect("works already"));
    eventually(worker.control.drain_requested(), |drain| !*drain).await;
    gateway.sees(&[("w-2", false)]).await;
    let error = undrain(&mut client, "nobody").await.expect_err("no such node");
    assert_eq!(error.code(), "NODE_NOT_FOUND");
}

#[tokio::test]
async fn status_tells_who_leads_what_is_served_and_who_is_behind() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    gateway.announce("h:1");
    gateway.sees(&[("g", false)]).await;
    let mut client = plane.operator();
    let status = client
        .get_status(GetStatusRequest {})
        .await
        .expect("told")
        .into_inner();
    assert_eq!(
        (status.cluster.as_str(), status.leader_id.as_str()),
        ("test", "one")
    );
    assert_eq!(status.leader_address, plane.address);
    assert_eq!((status.schema_revision, status.functions), (1, 1));
    assert!(!status.single_process && status.troubles.is_empty(), "{status:?}");
    let gateways = status.roles.first().expect("gateways");
    assert_eq!((gateways.ready, gateways.draining, gateways.behind), (1, 0, 0));
    let functions = client
        .list_functions(ListFunctionsRequest {})
        .await
        .expect("listed");
    let functions = functions.into_inner().functions;
    assert_eq!(functions[0].name, "send");
    assert!(!format!("{functions:?}").contains("s3cr3t"));
}

#[tokio::test]
async fn whoever_does_not_lead_passes_operators_on_to_the_one_that_does() {
    let site = Site::new();
    let leader = site.plane("one").await;
    let other = site.plane("two").await;
    assert!(leader.control.leads() && !other.control.leads());
    let mut client = other.operator();
    let status = client
        .get_status(GetStatusRequest {})
        .await
        .expect("told")
        .into_inner();
    assert_eq!(status.leader_id, "one");
    let applied = apply(&mut client, TAGS).await.expect("applied");
    assert!(applied.applied, "{applied:?}");
    // An error of the leader arrives as it is.
    let error = drain(&mut client, "nobody").await.expect_err("no such node");
    assert_eq!(error.code(), "NODE_NOT_FOUND");
    leader.kill();
    let took_over = async {
        loop {
            // Until the other one has taken the lead, it says that the leader cannot be reached.
            match client.get_status(GetStatusRequest {}).await {
                Ok(status) if status.get_ref().leader_id == "two" => return,
                Ok(status) => panic!("{status:?}"),
                Err(error) => assert_eq!(from_status(error).kind(), ErrorKind::Unavailable),
            }
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, took_over)
        .await
        .expect("the other one leads");
}

#[tokio::test]
async fn neither_token_opens_what_the_other_one_is_for() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let role = connect(&plane.address, &security()).expect("an address");
    let refused = AdminClient::new(role).get_status(GetStatusRequest {}).await;
    assert_eq!(refused.expect_err("a role's token").code(), Code::Unauthenticated);
    for (address, token) in [
        // The listener of roles with the operators' token, that of operators with the roles'.
        (format!("http://{}", plane.address), OPERATOR),
        (plane.admin.clone(), "0123456789abcdef0123456789abcdef"),
    ] {
        let channel = connect_operator(&address, token, None).expect("an address");
        let refused = AdminClient::new(channel.clone())
            .get_status(GetStatusRequest {})
            .await;
        assert_eq!(refused.expect_err(&address).code(), Code::Unauthenticated);
        let refused = alyx_proto::control::control_client::ControlClient::new(channel)
            .list_nodes(alyx_proto::control::ListNodesRequest {})
            .await;
        assert_eq!(refused.expect_err(&address).code(), Code::Unauthenticated);
    }
    let mut operator = alyx_proto::control::control_client::ControlClient::new(
        connect_operator(&plane.admin, OPERATOR, None).expect("an address"),
    );
    let refused = operator
        .list_nodes(alyx_proto::control::ListNodesRequest {})
        .await;
    assert_eq!(refused.expect_err("a role's call").code(), Code::Unimplemented);
}

#[tokio::test]
async fn operators_find_reflection_and_whoever_asks_finds_health() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let ask = async |token: &str| {
        let channel = connect_operator(&plane.admin, token, None).expect("an address");
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let reply = ServerReflectionClient::new(channel)
            .server_reflection_info(tokio_stream::iter([request]))
            .await?;
        reply.into_inner().message().await
    };
    let reply = ask(OPERATOR).await.expect("answered").expect("a message");
    assert!(format!("{reply:?}").contains("alyx.admin.v1.Admin"), "{reply:?}");
    let refused = ask("0123456789abcdef0123456789abcdef")
        .await
        .expect_err("no operator");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let nobody = connect_operator(&plane.admin, &"x".repeat(32), None).expect("an address");
    let health = HealthClient::new(nobody)
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await;
    health.expect("anyone may ask");
}
