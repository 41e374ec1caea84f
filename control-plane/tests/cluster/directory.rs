//! Who is there.

use std::time::Duration;

use alyx_proto::control::ListNodesRequest;
use alyx_service::cluster::Role;
use tokio::time::Instant;

use crate::support::{PATIENCE, Site, summary};

#[tokio::test]
async fn nodes_see_each_other_and_how_they_are_reached() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    let realtime = site.node(Role::RealtimeNode, "r", &[&plane.address]).await;
    assert!(
        summary(&gateway.control.nodes().borrow()).is_empty(),
        "nobody has been announced"
    );
    gateway.announce("10.0.0.1:8190");
    realtime.announce("10.0.0.2:8190");
    gateway.sees(&[("g", false), ("r", false)]).await;
    realtime.sees(&[("g", false), ("r", false)]).await;
    let nodes = gateway.control.nodes().borrow().clone();
    assert_eq!(
        (nodes[1].role, nodes[1].address.as_str()),
        (Role::RealtimeNode, "10.0.0.2:8190")
    );
}

#[tokio::test]
async fn a_node_that_stops_leaves_at_once_and_one_that_dies_after_its_lease() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    let stopping = site.node(Role::RealtimeNode, "r", &[&plane.address]).await;
    for (node, address) in [(&gateway, "h:1"), (&stopping, "h:2")] {
        node.announce(address);
    }
    // A node on a runtime of its own, to be killed.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let dying = {
        let options = alyx_cluster::RemoteOptions {
            endpoints: vec![plane.address.clone()],
            security: crate::support::security(),
            cluster: crate::support::CLUSTER.to_owned(),
            node_id: "w".to_owned(),
            node_name: "w".to_owned(),
            role: Role::FunctionWorker,
            state_dir: site.path("w.state"),
            first_state_within: PATIENCE,
        };
        runtime.spawn(async move {
            let tasks = alyx_service::tasks::Tasks::new();
            let control = alyx_cluster::RemoteControl::connect(options, &tasks)
                .await
                .expect("connected");
            let announcement = alyx_cluster::Announcement {
                address: "h:3".to_owned(),
                version: String::new(),
                capacity: 0,
            };
            control.announce(announcement, &tasks);
            (control, tasks)
        })
    };
    let _dying = dying.await.expect("started");
    gateway.sees(&[("g", false), ("r", false), ("w", false)]).await;

    // Until then a node that is missing may only be late.
    plane.complete().await;
    let asked = Instant::now();
    stopping.stop().await;
    gateway.sees(&[("g", false), ("w", false)]).await;
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "it left only with its lease"
    );

    runtime.shutdown_background();
    gateway.sees(&[("g", false)]).await;
}

#[tokio::test]
async fn loads_are_listed() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let worker = site.node(Role::FunctionWorker, "w", &[&plane.address]).await;
    worker.control.set_load(7);
    worker.announce("h:1");
    worker.sees(&[("w", false)]).await;
    let nodes = plane
        .client()
        .list_nodes(ListNodesRequest {})
        .await
        .expect("listed")
        .into_inner()
        .nodes;
    assert_eq!(
        (nodes[0].load, nodes[0].capacity, nodes[0].version.as_str()),
        (7, 10, "0.0.0")
    );
}
