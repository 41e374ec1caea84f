//! Nodes come, speak and go.

use std::time::Duration;

use alyx_proto::control::Role;

use super::*;

fn heartbeat(id: &str) -> Heartbeat {
    Heartbeat {
        node_id: id.to_owned(),
        role: Role::Gateway.into(),
        address: "h:1".to_owned(),
        cluster: "c".to_owned(),
        ..Heartbeat::default()
    }
}

fn ids(list: &NodeList) -> Vec<&str> {
    list.nodes.iter().map(|node| node.id.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_nothing_is_gone_after_its_lease() {
    let registry = Registry::new("c".to_owned(), BTreeSet::new());
    let mut list = registry.follow();
    let silent = registry.enter(&heartbeat("silent")).expect("entered");
    let alive = registry.enter(&heartbeat("alive")).expect("entered");
    assert_eq!(ids(&list.borrow_and_update()), ["alive", "silent"]);
    let beating = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            registry.renew(&alive, &heartbeat("alive")).expect("renewed");
        }
    };
    let gone = async {
        list.wait_for(|list| ids(list) == ["alive"])
            .await
            .expect("the registry lives")
            .complete
    };
    let began = Instant::now();
    let complete = tokio::select! {
        complete = gone => complete,
        () = beating => false,
        () = registry.expire() => false,
    };
    assert!(complete);
    assert!(
        began.elapsed() <= LEASE + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        registry
            .renew(&silent, &heartbeat("silent"))
            .expect_err("gone")
            .code(),
        "NODE_REPLACED"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fresh_directory_is_complete_after_a_lease() {
    let registry = Registry::new("c".to_owned(), BTreeSet::new());
    let mut list = registry.follow();
    assert!(!list.borrow().complete);
    tokio::select! {
        complete = list.wait_for(|list| list.complete) => drop(complete),
        () = registry.expire() => {}
    }
    assert!(registry.follow().borrow().complete);
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_stream_speaks_for_a_node() {
    let registry = Registry::new("c".to_owned(), BTreeSet::new());
    let old = registry.enter(&heartbeat("a")).expect("entered");
    let new = registry.enter(&heartbeat("a")).expect("entered again");
    assert_eq!(
        registry
            .renew(&old, &heartbeat("a"))
            .expect_err("replaced")
            .code(),
        "NODE_REPLACED"
    );
    registry.leave(&old);
    assert_eq!(ids(&registry.follow().borrow()), ["a"]);
    registry.leave(&new);
    assert!(registry.follow().borrow().nodes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn load_alone_tells_nobody_and_draining_does() {
    let registry = Registry::new("c".to_owned(), BTreeSet::new());
    let node = registry.enter(&heartbeat("a")).expect("entered");
    let mut list = registry.follow();
    list.mark_unchanged();
    let mut beat = |change: fn(&mut Heartbeat), told: bool| {
        let mut heartbeat = heartbeat("a");
        change(&mut heartbeat);
        let drain = registry.renew(&node, &heartbeat).expect("renewed");
        assert_eq!(list.has_changed().expect("the registry lives"), told);
        list.mark_unchanged();
        drain
    };
    assert!(!beat(|h| h.load = 7, false));
    assert!(!beat(|h| h.draining = true, true));
    assert!(!beat(|_| (), true));
    registry.set_drained(BTreeSet::from(["a".to_owned()]));
    assert!(beat(|_| (), true));
    registry.set_drained(BTreeSet::new());
    assert!(!beat(|_| (), true));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_belong_are_refused() {
    let registry = Registry::new("c".to_owned(), BTreeSet::new());
    let check = |change: fn(&mut Heartbeat), code: &str| {
        let mut heartbeat = heartbeat("a");
        change(&mut heartbeat);
        assert_eq!(registry.enter(&heartbeat).expect_err(code).code(), code);
    };
    check(|h| h.cluster = "other".to_owned(), "CLUSTER_MISMATCH");
    check(|h| h.node_id = String::new(), "NODE_INVALID");
    check(|h| h.address = "nowhere".to_owned(), "NODE_INVALID");
    check(|h| h.role = 99, "NODE_INVALID");
    for number in 0..MAX_NODES {
        registry.enter(&heartbeat(&number.to_string())).expect("entered");
    }
    check(|_| (), "CLUSTER_FULL");
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_is_known_by_its_name_after_a_restart_and_by_its_id_where_names_are_shared() {
    let registry = Registry::new("c".to_owned(), BTreeSet::from(["b".to_owned()]));
    let named = |id: &str, name: &str| Heartbeat {
        name: name.to_owned(),
        ..heartbeat(id)
    };
    let enter = |id: &str, name: &str| {
        let registered = registry.enter(&named(id, name)).expect("entered");
        registry.renew(&registered, &named(id, name)).expect("renewed")
    };
    assert!(!enter("a-1", "a"));
    assert!(enter("b-1", "b"), "drained before it came");
    assert!(!enter("twin-1", "twin"));
    assert!(!enter("twin-2", "twin"));
    let key = |node: &str| registry.drain_key(node).map_err(|error| error.code().to_owned());
    assert_eq!(key("a"), Ok("a".to_owned()));
    assert_eq!(key("a-1"), Ok("a".to_owned()));
    assert_eq!(key("twin-1"), Ok("twin-1".to_owned()));
    assert_eq!(key("twin"), Err("NODE_AMBIGUOUS".to_owned()));
    assert_eq!(key("nobody"), Err("NODE_NOT_FOUND".to_owned()));
    registry.set_drained(["a", "twin-1", "away"].map(str::to_owned).into());
    assert!(enter("a-2", "a"));
    let keys = |node: &str| {
        registry
            .undrain_keys(node)
            .map_err(|error| error.code().to_owned())
    };
    assert_eq!(keys("a-2"), Ok(vec!["a".to_owned()]));
    assert_eq!(keys("twin"), Ok(vec!["twin-1".to_owned()]));
    assert_eq!(keys("away"), Ok(vec!["away".to_owned()]));
    assert_eq!(keys("b"), Ok(Vec::new()), "not drained any more");
    assert_eq!(keys("nobody"), Err("NODE_NOT_FOUND".to_owned()));
}
