//! What only a cluster has: roles that go away one by one, and more than one of each.

use std::time::{Duration, Instant};

use alyx_tests::{Cluster, Http, Part, Project, Server, Shape, Socket, eventually};
use http::Method;
use serde_json::{Value, json};

const MESSAGES: &str = "/api/collections/messages";
/// The longest that clients may notice the loss of a role.
const FAIL_OVER: Duration = Duration::from_secs(5);

async fn chat() -> (Project, Cluster) {
    let project = Project::chat();
    let cluster = Cluster::start(&project).await;
    (project, cluster)
}

fn message(content: &str) -> Value {
    json!({"channel": "general", "author": "Bob", "content": content})
}

async fn say(http: &Http, content: &str) -> Value {
    let reply = http.post(MESSAGES, &message(content)).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

/// Says it until that works; how long it took.
async fn say_until_heard(http: &Http, content: &str) -> Duration {
    let began = Instant::now();
    eventually("a write is taken", || async {
        let sent = http.try_send(Method::POST, MESSAGES, &[], message(content).to_string());
        match tokio::time::timeout(Duration::from_secs(2), sent).await {
            Ok(Ok(reply)) if reply.status == 201 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    began.elapsed()
}

/// The content of the next message that comes in.
async fn heard(socket: &mut Socket) -> String {
    loop {
        let changes = socket.delta().await;
        if let Some(content) = changes["inserts"][0]["content"].as_str() {
            return content.to_owned();
        }
    }
}

async fn listen(cluster: &Cluster, gateway: usize) -> Socket {
    let mut socket = Socket::open(&cluster.base(gateway))
        .await
        .expect("the socket opens");
    socket.subscribe(json!({"collection": "messages"})).await;
    socket
}

#[tokio::test]
async fn what_one_gateway_or_a_function_writes_is_heard_on_the_other() {
    let (_project, cluster) = chat().await;
    let (mut a, mut b) = (listen(&cluster, 0).await, listen(&cluster, 1).await);
    for gateway in [0, 1] {
        let content = format!("from {gateway}");
        say(&cluster.gateway(gateway), &content).await;
        assert_eq!(heard(&mut a).await, content);
        assert_eq!(heard(&mut b).await, content);
        let call = json!({"input": {"channel": "general", "content": content, "author": "Eve"}});
        let sent = cluster
            .gateway(gateway)
            .post("/api/functions/sendMessage", &call)
            .await;
        assert_eq!(sent.status, 200, "{sent:?}");
        assert_eq!(heard(&mut a).await, content);
        assert_eq!(heard(&mut b).await, content);
    }
}

#[tokio::test]
async fn every_role_tells_its_health_and_its_figures_on_a_listener_of_its_own() {
    let (_project, cluster) = chat().await;
    for part in [
        Part::ControlPlane,
        Part::Gateway,
        Part::RealtimeNode,
        Part::FunctionWorker,
    ] {
        let http = cluster.metrics(part, 0);
        for path in ["/health/live", "/health/ready"] {
            let reply = http.get(path).await;
            assert_eq!(reply.status, 200, "{part:?} {path}: {reply:?}");
        }
        let metrics = http.get("/metrics").await;
        assert!(
            metrics.header("content-type").starts_with("text/plain"),
            "{metrics:?}"
        );
        assert!(metrics.text.contains("alyx_"), "{part:?}: {}", metrics.text);
    }
}

#[tokio::test]
async fn a_role_without_a_secret_does_not_start() {
    let project = Project::chat();
    for role in ["control-plane", "gateway", "realtime-node", "function-worker"] {
        for (token, named) in [("", "cluster.token"), ("too short", "cluster.token")] {
            let env = [
                ("ALYX_CLUSTER_TOKEN", token),
                ("ALYX_CLUSTER_CONTROL_PLANE", "127.0.0.1:1"),
                ("ALYX_CLUSTER_NATS", "nats://127.0.0.1:1"),
                ("ALYX_DATABASE_TURSO_ENABLED", "true"),
                ("ALYX_DATABASE_TURSO_URL", "http://127.0.0.1:1"),
            ];
            let (code, printed) = Server::run(&project, &[role], &env).await;
            assert_eq!(code, Some(64), "{role}: {printed}");
            assert!(printed.contains(named), "{role}: {printed}");
        }
    }
}

#[tokio::test]
async fn without_the_control_plane_everything_serves_on() {
    let (_project, mut cluster) = chat().await;
    let mut before = listen(&cluster, 1).await;
    cluster.kill(Part::ControlPlane, 0).await;
    let mut after = listen(&cluster, 0).await;
    for gateway in [0, 1] {
        say(&cluster.gateway(gateway), "hello").await;
        assert_eq!(heard(&mut before).await, "hello");
        assert_eq!(heard(&mut after).await, "hello");
        let call = json!({"input": {}});
        let stats = cluster
            .gateway(gateway)
            .post("/api/functions/getStats", &call)
            .await;
        assert_eq!(stats.status, 200, "{stats:?}");
    }
    cluster.restart(Part::ControlPlane, 0).await;
    cluster.healthy().await;
}

#[tokio::test]
async fn without_nats_writes_go_on_and_live_queries_catch_up_from_the_log() {
    let (_project, mut cluster) = chat().await;
    let mut socket = listen(&cluster, 0).await;
    cluster.wipe_nats().await;
    for n in 0..20 {
        say(&cluster.gateway(n % 2), &format!("{n}")).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let changes = socket.delta().await;
        for new in changes["inserts"].as_array().expect("inserts") {
            seen.push(new["content"].as_str().expect("content").to_owned());
        }
    }
    seen.sort_by_key(|content| content.parse::<u32>().expect("a number"));
    assert_eq!(seen, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    cluster.restart(Part::Nats, 0).await;
    cluster.healthy().await;
    say(&cluster.gateway(1), "again").await;
    assert_eq!(heard(&mut socket).await, "again");
}

#[tokio::test]
async fn without_the_database_writes_are_asked_to_come_back_and_then_work() {
    let (_project, mut cluster) = chat().await;
    let mut socket = listen(&cluster, 1).await;
    cluster.kill(Part::Database, 0).await;
    for gateway in [0, 1] {
        let http = cluster.gateway(gateway);
        eventually("the loss is noticed", || async {
            let reply = http.post(MESSAGES, &message("lost")).await;
            let told = reply.status == 503 && !reply.header("retry-after").is_empty();
            if told { Ok(()) } else { Err(reply) }
        })
        .await;
        for path in ["/health", "/health/ready"] {
            eventually("health tells that the database is away", || async {
                let reply = http.get(path).await;
                if reply.status == 503 { Ok(()) } else { Err(reply) }
            })
            .await;
        }
        assert_eq!(http.get("/health/live").await.status, 200);
    }
    cluster.restart(Part::Database, 0).await;
    let took = say_until_heard(&cluster.gateway(0), "back").await;
    assert!(took < FAIL_OVER, "{took:?}");
    while heard(&mut socket).await != "back" {}
}

#[tokio::test]
async fn when_a_gateway_dies_the_other_one_writes_within_five_seconds() {
    for dies in [0, 1] {
        let (_project, mut cluster) = chat().await;
        let other = 1 - dies;
        let mut socket = listen(&cluster, other).await;
        say(&cluster.gateway(dies), "before").await;
        assert_eq!(heard(&mut socket).await, "before");
        cluster.kill(Part::Gateway, dies).await;
        let took = say_until_heard(&cluster.gateway(other), "after").await;
        assert!(took < FAIL_OVER, "{took:?}");
        assert_eq!(heard(&mut socket).await, "after");
    }
}

#[tokio::test]
async fn when_realtime_nodes_die_or_drain_sockets_stay_and_miss_nothing() {
    let (_project, mut cluster) = chat().await;
    let mut sockets = Vec::new();
    for n in 0..8 {
        let mut socket = Socket::open(&cluster.base(n % 2))
            .await
            .expect("the socket opens");
        // Eight different queries, so that both nodes have some.
        let query = json!({"collection": "messages", "filter": {"content": {"$ne": format!("never {n}")}}});
        socket.subscribe(query).await;
        sockets.push(socket);
    }
    for (round, gentle) in [(0, false), (1, true)] {
        if gentle {
            assert_eq!(cluster.terminate(Part::RealtimeNode, round).await, Some(0));
        } else {
            cluster.kill(Part::RealtimeNode, round).await;
        }
        let content = format!("round {round}");
        say(&cluster.gateway(round), &content).await;
        for socket in &mut sockets {
            let mut found = false;
            while !found {
                let frame = socket.receive().await;
                let payload = &frame["payload"];
                let docs = match frame["type"].as_str() {
                    Some("delta") => &payload["changes"]["inserts"],
                    Some("snapshot") => &payload["docs"],
                    _ => panic!("{frame}"),
                };
                let docs = docs.as_array().expect("documents");
                found = docs.iter().any(|doc| doc["content"] == content.as_str());
            }
        }
        cluster.restart(Part::RealtimeNode, round).await;
        cluster.healthy().await;
    }
}

#[tokio::test]
async fn when_a_worker_dies_functions_go_on_on_the_other() {
    let (_project, mut cluster) = chat().await;
    for dies in [0, 1] {
        cluster.kill(Part::FunctionWorker, dies).await;
        for gateway in [0, 1] {
            let http = cluster.gateway(gateway);
            let began = Instant::now();
            eventually("a function runs", || async {
                let reply = http.post("/api/functions/getStats", &json!({"input": {}})).await;
                if reply.status == 200 { Ok(()) } else { Err(reply) }
            })
            .await;
            assert!(began.elapsed() < FAIL_OVER, "{:?}", began.elapsed());
        }
        cluster.restart(Part::FunctionWorker, dies).await;
        cluster.healthy().await;
    }
}

/// One role after the other is replaced while clients write, each of which tries a failed request once more.
#[tokio::test]
async fn a_rolling_restart_of_every_role_fails_no_request_of_a_client_that_retries_once() {
    let project = Project::chat();
    // Gateways keep their addresses, as behind a balancer.
    let shape = Shape {
        linked: true,
        ..Shape::default()
    };
    let mut cluster = Cluster::start_with(&project, shape, &[]).await;
    let gateways = [0, 1].map(|number| cluster.gateway(number));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = async |client: usize| {
        let mut done = 0;
        while !*stopped.borrow() {
            let body = message(&format!("{done}")).to_string();
            let mut seen = Vec::new();
            for attempt in 0..2 {
                let gateway = &gateways[(client + attempt) % 2];
                let sent = gateway.try_send(Method::POST, MESSAGES, &[], body.clone()).await;
                let good = sent.as_ref().is_ok_and(|reply| reply.status == 201);
                seen.push(sent);
                if good {
                    break;
                }
            }
            let good = matches!(seen.last(), Some(Ok(reply)) if reply.status == 201);
            assert!(good, "client {client}: {seen:?}");
            done += 1;
        }
        done
    };
    let clients = futures_util::future::join_all((0..4).map(load));
    let roll = async {
        for part in [
            Part::ControlPlane,
            Part::RealtimeNode,
            Part::FunctionWorker,
            Part::Gateway,
        ] {
            for number in 0..cluster.count(part) {
                let code = cluster.terminate(part, number).await;
                assert_eq!(code, Some(0), "{part:?} {number}");
                cluster.restart(part, number).await;
            }
        }
        stop.send_replace(true);
    };
    let (done, ()) = tokio::join!(clients, roll);
    assert!(done.iter().all(|done| *done > 10), "{done:?}");
}
