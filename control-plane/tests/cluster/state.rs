//! What nodes are told to serve.

use std::fs;
use std::time::Duration;

use alyx_core::ErrorKind;
use alyx_proto::control::{FetchBundleRequest, WatchRequest};
use alyx_rpc::from_status;
use alyx_service::cluster::Role;
use alyx_service::health::Status;
use alyx_service::state::ControlPlane as _;

use crate::support::{CLUSTER, NOTES, Site, eventually};

#[tokio::test]
async fn a_gateway_gets_schema_and_functions_without_their_secrets() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let gateway = site.node(Role::Gateway, "g", &[&plane.address]).await;
    let state = gateway.control.watch().borrow().clone();
    assert_eq!(state.schema_revision, 1);
    assert!(state.schema.collections.contains_key("posts"));
    let send = &state.functions["send"];
    assert!(send.env.is_empty(), "a gateway needs no settings");
    let kept = fs::read(site.path("g.state/snapshot")).expect("kept");
    assert!(!String::from_utf8_lossy(&kept).contains("s3cr3t"));
}

#[tokio::test]
async fn a_worker_gets_the_code_and_each_new_version_of_it() {
    let site = Site::new();
    site.write("functions/_lib/shared.js", &"x".repeat(600_000));
    site.write("node_modules/dep/index.js", "module.exports = 1");
    site.write("node_modules/.package-lock.json", "{}");
    let plane = site.plane("one").await;
    let worker = site.node(Role::FunctionWorker, "w", &[&plane.address]).await;
    let first = worker.control.watch().borrow().functions["send"].clone();
    assert_eq!(first.env.get("KEY").map(String::as_str), Some("s3cr3t"));
    assert_eq!(first.root, site.path("w.state/bundles").join(&first.version));
    let read = |path: &str| fs::read_to_string(first.root.join(path)).expect(path);
    assert_eq!(read("send.js"), "export default () => 1");
    assert_eq!(read("_lib/shared.js").len(), 600_000);
    assert_eq!(read("node_modules/dep/index.js"), "module.exports = 1");

    site.write("functions/send.js", "export default () => 2");
    site.write("functions/more.js", "export default () => 3");
    assert_eq!(worker.control.reload_functions().await.expect("reloaded"), 2);
    let state = eventually(worker.control.watch(), |state| state.functions.len() == 2).await;
    let second = &state.functions["send"];
    assert_ne!(second.version, first.version);
    let text = fs::read_to_string(second.root.join("send.js")).expect("there");
    assert_eq!(text, "export default () => 2");
    assert_eq!(read("send.js"), "export default () => 1");
}

#[tokio::test]
async fn code_that_is_not_what_its_hash_says_is_not_served() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let worker = site.node(Role::FunctionWorker, "w", &[&plane.address]).await;
    let first = worker.control.watch().borrow().functions["send"].clone();

    site.write("functions/send.js", "export default () => 2");
    worker.control.reload_functions().await.expect("reloaded");
    let state = eventually(worker.control.watch(), |state| {
        state.functions["send"].version != first.version
    })
    .await;
    let version = &state.functions["send"].version;
    let code = site.path("one.state/bundles").join(version).join("send.js");
    let fetched = site.path("w.state/bundles").join(version);
    make_writable(&code);
    fs::write(&code, "evil").expect("written");

    let fresh = site
        .try_node(
            Role::FunctionWorker,
            "x",
            &[&plane.address],
            Duration::from_secs(2),
        )
        .await
        .err()
        .expect("no code, no state");
    assert_eq!(fresh.code(), "CONTROL_PLANE_UNAVAILABLE");
    assert!(
        fresh.message().contains("other content than its hash says"),
        "{fresh}"
    );
    assert!(!site.path("x.state/bundles").join(version).exists());
    assert_eq!(
        fs::read_to_string(fetched.join("send.js")).expect("there"),
        "export default () => 2"
    );
}

fn make_writable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("set");
}

#[tokio::test]
async fn only_bundles_are_sent() {
    let site = Site::new();
    let plane = site.plane("one").await;
    for hash in ["", "..", "../../alyx.db", &"0".repeat(32)] {
        let request = FetchBundleRequest {
            hash: hash.to_owned(),
        };
        let error = plane
            .client()
            .fetch_bundle(request)
            .await
            .map_err(from_status)
            .expect_err(hash);
        assert_eq!(error.code(), "BUNDLE_NOT_FOUND", "{hash}");
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_is_told_so() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let request = WatchRequest {
        cluster: "other".to_owned(),
        ..WatchRequest::default()
    };
    let error = plane
        .client()
        .watch(request)
        .await
        .map_err(from_status)
        .expect_err("refused");
    assert_eq!(error.code(), "CLUSTER_MISMATCH");
    assert!(error.message().contains(CLUSTER), "{error}");
}

#[tokio::test]
async fn everything_goes_on_while_the_control_plane_is_dead_and_catches_up_when_it_is_back() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let worker = site.node(Role::FunctionWorker, "w", &[&plane.address]).await;
    let health = worker.control.health_check();
    assert_eq!(health.check().await.status, Status::Healthy);
    let address = plane.address.clone();
    plane.kill();
    while health.check().await.status == Status::Healthy {
        tokio::task::yield_now().await;
    }
    let state = worker.control.watch().borrow().clone();
    assert!(state.schema.collections.contains_key("posts"));
    assert!(state.functions["send"].root.join("send.js").is_file());

    site.write("schema.yaml", NOTES);
    site.write("functions/more.js", "export default () => 3");
    let _plane = site.plane_on("two", &address).await;
    let state = eventually(worker.control.watch(), |state| state.functions.len() == 2).await;
    assert!(state.schema.collections.contains_key("notes"));
    assert!(state.revision > 1);
    assert_eq!(health.check().await.status, Status::Healthy);
}

#[tokio::test]
async fn a_node_starts_from_what_it_kept_and_not_from_nothing() {
    let site = Site::new();
    let plane = site.plane("one").await;
    let worker = site.node(Role::FunctionWorker, "w", &[&plane.address]).await;
    worker.announce("127.0.0.1:1");
    worker.sees(&[("w", false)]).await;
    let version = worker.control.watch().borrow().functions["send"].version.clone();
    let address = plane.address.clone();
    plane.kill();
    worker.stop().await;

    let again = site.node(Role::FunctionWorker, "w", &[&address]).await;
    let state = again.control.watch().borrow().clone();
    assert_eq!(state.functions["send"].version, version);
    assert_eq!(
        state.functions["send"].env.get("KEY").map(String::as_str),
        Some("s3cr3t")
    );
    again.sees(&[("w", false)]).await;
    assert_eq!(
        again.control.health_check().check().await.status,
        Status::Degraded
    );

    let error = site
        .try_node(Role::Gateway, "new", &[&address], Duration::from_millis(300))
        .await
        .err()
        .expect("nothing to serve");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, "CONTROL_PLANE_UNAVAILABLE")
    );
}
