//! Several control planes: one leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alyx_proto::control::ListNodesRequest;
use alyx_rpc::from_status;
use alyx_service::cluster::Role;
use alyx_service::health::Status;
use alyx_service::state::ControlPlane as _;
use alyx_service::tasks::Tasks;

use crate::support::{Site, eventually};

#[tokio::test]
async fn one_leads_and_the_other_sends_nodes_on_to_it() {
    let site = Site::new();
    let first = site.plane("one").await;
    let second = site.plane("two").await;
    assert!(first.control.leads() && !second.control.leads());
    let error = second
        .client()
        .list_nodes(ListNodesRequest {})
        .await
        .map_err(from_status)
        .expect_err("does not lead");
    assert_eq!(error.code(), "NOT_LEADER");
    assert_eq!(error.field(), Some(first.address.as_str()));
    let gateway = site.node(Role::Gateway, "g", &[&second.address]).await;
    gateway.announce("h:1");
    gateway.sees(&[("g", false)]).await;
    for plane in [&first, &second] {
        for check in plane.control.health_checks() {
            assert_eq!(check.check().await.status, Status::Healthy, "{}", check.name());
        }
    }
}

/// Whether the directory of a node was ever seen without that node.
fn watch_for_loss(nodes: alyx_service::cluster::NodeWatch, tasks: &Tasks) -> Arc<AtomicBool> {
    let lost = Arc::new(AtomicBool::new(false));
    let (seen, mut nodes) = (Arc::clone(&lost), nodes);
    tasks.spawn_detached(async move {
        while nodes.changed().await.is_ok() {
            if nodes.borrow_and_update().is_empty() {
                seen.store(true, Ordering::Relaxed);
            }
        }
    });
    lost
}

#[tokio::test]
async fn when_the_leader_stops_the_other_leads_and_no_node_is_forgotten() {
    let site = Site::new();
    let first = site.plane("one").await;
    let second = site.plane("two").await;
    let endpoints = [first.address.clone(), second.address.clone()];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let gateway = site.node(Role::Gateway, "g", &endpoints).await;
    let worker = site.node(Role::FunctionWorker, "w", &endpoints).await;
    gateway.announce("h:1");
    worker.announce("h:2");
    gateway.sees(&[("g", false), ("w", false)]).await;
    let lost = watch_for_loss(gateway.control.nodes(), &gateway.tasks);
    site.write("functions/more.js", "export default () => 3");
    first.stop().await;
    eventually(worker.control.watch(), |state| state.functions.len() == 2).await;
    assert!(second.control.leads());
    // Asked of the new leader, which has heard of both again.
    let nodes = second.complete().await;
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    gateway.sees(&[("g", false), ("w", false)]).await;
    assert!(
        !lost.load(Ordering::Relaxed),
        "the directory was empty for a moment"
    );
}

#[tokio::test]
async fn when_the_leader_is_killed_the_other_leads_after_its_lease() {
    let site = Site::new();
    let first = site.plane("one").await;
    let second = site.plane("two").await;
    let endpoints = [first.address.clone(), second.address.clone()];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let gateway = site.node(Role::Gateway, "g", &endpoints).await;
    site.write("functions/more.js", "export default () => 3");
    first.kill();
    eventually(gateway.control.watch(), |state| state.functions.len() == 2).await;
    assert!(second.control.leads());
}

#[tokio::test]
async fn a_leader_whose_lease_was_taken_steps_down() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    site.execute(
        "UPDATE _alyx_leader SET holder = 'other', address = 'h:1', expires = unixepoch('subsec') + 1000",
    )
    .await;
    while plane.control.leads() {
        tokio::task::yield_now().await;
    }
    let error = plane
        .client()
        .list_nodes(ListNodesRequest {})
        .await
        .map_err(from_status)
        .expect_err("does not lead");
    assert_eq!(error.field(), Some("h:1"));
    assert!(
        gateway
            .control
            .watch()
            .borrow()
            .schema
            .collections
            .contains_key("posts")
    );
}
