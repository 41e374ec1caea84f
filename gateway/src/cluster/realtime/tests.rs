//! Without any node.

use std::sync::Arc;
use std::time::Duration;

use alyx_query::parse_query_json;
use alyx_rpc::Security;
use alyx_schema::Schema;
use alyx_service::health::{HealthCheck as _, Status};
use alyx_service::realtime::{GroupCommand, GroupEvent, GroupId, RealtimeService as _};
use alyx_service::state::DesiredState;
use alyx_service::tasks::Tasks;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{RemoteRealtime, RemoteRealtimeParts};

const SCHEMA: &str = "collections: {notes: {fields: {id: {type: int, primary: true}}}}";

#[tokio::test(start_paused = true)]
async fn live_queries_wait_for_a_node_and_not_for_ever() {
    let schema: Schema = alyx_schema::parse(SCHEMA, "schema.yaml")
        .expect("a sound schema")
        .schema;
    let collection = Arc::clone(schema.collection("notes").expect("it is declared"));
    let state = watch::Sender::new(Arc::new(DesiredState {
        revision: 1,
        schema_revision: 1,
        schema: Arc::new(schema),
        functions: Arc::default(),
    }));
    let nodes = watch::Sender::new(Arc::default());
    let tasks = Tasks::new();
    let remote = RemoteRealtime::new(RemoteRealtimeParts {
        nodes: nodes.subscribe(),
        state: state.subscribe(),
        security: Security::new(Some("a token that is long enough for tests"), None)
            .expect("a token is enough"),
        tasks: tasks.clone(),
    });
    let mut link = remote.connect().await.expect("a link needs no node");
    let query = Arc::new(parse_query_json(&collection, &json!({})).expect("a sound query"));
    let began = Instant::now();
    for group in [GroupId(1), GroupId(2)] {
        let query = Arc::clone(&query);
        let open = GroupCommand::Open {
            group,
            query,
            have: None,
            trace: None,
        };
        link.commands.send(open).await.expect("the link is there");
    }
    let close = GroupCommand::Close { group: GroupId(2) };
    link.commands.send(close).await.expect("the link is there");
    let Some(GroupEvent::Failed { group, error }) = link.events.recv().await else {
        panic!("it is given up");
    };
    assert_eq!((group, error.code()), (GroupId(1), "REALTIME_UNAVAILABLE"));
    assert!(error.retry_after().is_some());
    assert!(began.elapsed() >= Duration::from_secs(30));
    assert_eq!(remote.stats().groups, 0);
    assert_eq!(remote.check().await.status, Status::Degraded);
    drop(link);
    assert!(
        tasks.stop(Duration::from_secs(10)).await,
        "the link's task ends with it"
    );
}
