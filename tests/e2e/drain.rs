//! Draining nodes of a running cluster, and letting them work again.

use alyx_tests::{Cluster, Http, Part, Project, Socket, eventually};
use http::Method;
use serde_json::{Value, json};

const MESSAGES: &str = "/api/collections/messages";

async fn chat() -> (Project, Cluster) {
    let project = Project::chat();
    let cluster = Cluster::start(&project).await;
    (project, cluster)
}

async fn operate(cluster: &Cluster, args: &[&str]) -> String {
    let (code, printed) = cluster.operate(args).await;
    assert_eq!(code, Some(0), "{args:?}: {printed}");
    printed
}

async fn state(cluster: &Cluster, name: &str) -> Value {
    // A control plane that has just started may still wait for its lease.
    let nodes = eventually("the nodes are listed", || async {
        let (code, printed) = cluster.operate(&["nodes", "list", "--json"]).await;
        if code == Some(0) {
            Ok(printed)
        } else {
            Err(printed)
        }
    })
    .await;
    let nodes: Value = serde_json::from_str(&nodes).expect("JSON");
    let mut nodes = nodes["nodes"].as_array().expect("nodes").iter();
    let node = nodes.find(|node| node["name"] == name);
    node.map_or(Value::Null, |node| json!([node["state"], node["drained"]]))
}

async fn say(http: &Http, content: &str) {
    let body = json!({"channel": "general", "author": "Bob", "content": content});
    let reply = http.post(MESSAGES, &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// A figure of a node, summed over its labels that contain `labels`.
async fn figure(cluster: &Cluster, part: Part, number: usize, name: &str, labels: &str) -> f64 {
    let page = cluster.metrics(part, number).get("/metrics").await.text;
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(labels))
    };
    let values = page.lines().filter(of_name).map(|line| {
        let value = line
            .rsplit(' ')
            .next()
            .and_then(|value| value.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{line}"))
    });
    values.sum()
}

/// Waits until the figure is as it should be.
async fn until(cluster: &Cluster, of: (Part, usize, &str, &str), fits: impl Fn(f64) -> bool) {
    let (part, number, name, labels) = of;
    eventually(&format!("{name} of {part:?} {number} fits"), || async {
        let value = figure(cluster, part, number, name, labels).await;
        if fits(value) { Ok(()) } else { Err(value) }
    })
    .await;
}

/// Reads until the content arrives; every other one must be a number that follows the last one.
async fn hears_all(socket: &mut Socket, last: &mut u64, until: u64) {
    while *last < until {
        let changes = socket.delta().await;
        for new in changes["inserts"].as_array().expect("inserts") {
            let content = new["content"].as_str().and_then(|content| content.parse().ok());
            assert_eq!(content, Some(*last + 1), "a gap or a duplicate: {changes}");
            *last += 1;
        }
    }
}

#[tokio::test]
async fn a_drained_realtime_node_gives_its_groups_away_without_a_gap_and_gets_some_back() {
    const GROUPS: &str = "alyx_realtime_node_groups";
    let (_project, cluster) = chat().await;
    let mut sockets = Vec::new();
    for n in 0..8 {
        let mut socket = Socket::open(&cluster.base(n % 2))
            .await
            .expect("the socket opens");
        let query = json!({"collection": "messages", "filter": {"content": {"$ne": format!("never {n}")}}});
        socket.subscribe(query).await;
        sockets.push((socket, 0));
    }
    let http = cluster.http();
    let mut said = 0;
    for node in [0, 1] {
        let name = format!("realtime-node-{node}");
        operate(&cluster, &["nodes", "drain", &name]).await;
        // While the groups move, writes go on.
        while figure(&cluster, Part::RealtimeNode, node, GROUPS, "").await > 0.0 {
            said += 1;
            say(&http, &said.to_string()).await;
        }
        for (socket, last) in &mut sockets {
            hears_all(socket, last, said).await;
        }
        assert_eq!(state(&cluster, &name).await, json!(["draining", true]));
        operate(&cluster, &["nodes", "undrain", &name]).await;
        until(&cluster, (Part::RealtimeNode, node, GROUPS, ""), |groups| {
            groups > 0.0
        })
        .await;
        assert_eq!(state(&cluster, &name).await, json!(["ready", false]));
    }
    said += 1;
    say(&http, &said.to_string()).await;
    for (socket, last) in &mut sockets {
        hears_all(socket, last, said).await;
    }
}

#[tokio::test]
async fn a_drained_worker_finishes_its_calls_and_takes_no_new_ones() {
    const BUSY: &str = "alyx_functions_instances";
    const CALLS: &str = "alyx_functions_invocations_total";
    let project = Project::chat();
    // Ends once it finds a message that tells it to.
    project.write(
        "functions/wait.js",
        "export default async (input, ctx) => {\n\
           for (;;) {\n\
             const { docs } = await ctx.db.messages.find({ filter: { content: 'go on' } });\n\
             if (docs.length > 0) return 'done';\n\
             await new Promise((resolve) => setTimeout(resolve, 20));\n\
           }\n\
         };\n",
    );
    let cluster = Cluster::start(&project).await;
    let http = cluster.http();
    let input = json!({"input": {}});
    let waiting = http.post("/api/functions/wait", &input);
    let meanwhile = async {
        let busy = eventually("a worker runs it", || async {
            let mut seen = Vec::new();
            for worker in [0, 1] {
                let busy = figure(&cluster, Part::FunctionWorker, worker, BUSY, "busy").await;
                if busy > 0.0 {
                    return Ok(worker);
                }
                seen.push(busy);
            }
            Err(seen)
        })
        .await;
        let name = format!("function-worker-{busy}");
        operate(&cluster, &["nodes", "drain", &name]).await;
        eventually("it drains", || async {
            let now = state(&cluster, &name).await;
            if now == json!(["draining", true]) {
                Ok(())
            } else {
                Err(now)
            }
        })
        .await;
        let other = 1 - busy;
        let calls = async |worker| figure(&cluster, Part::FunctionWorker, worker, CALLS, "").await;
        // Gateways hear of it as soon as the control plane's snapshot reaches them.
        eventually("new calls go to the other one alone", || async {
            let (here, there) = (calls(busy).await, calls(other).await);
            for _ in 0..20 {
                let reply = http.post("/api/functions/getStats", &input).await;
                assert_eq!(reply.status, 200, "{reply:?}");
            }
            let (here, there) = (calls(busy).await - here, calls(other).await - there);
            if (here, there) == (0.0, 20.0) {
                Ok(())
            } else {
                Err((here, there))
            }
        })
        .await;
        say(&http, "go on").await;
        (busy, other)
    };
    let (done, (drained, other)) = tokio::join!(waiting, meanwhile);
    assert_eq!(done.status, 200, "what it had begun ends well: {done:?}");

    operate(
        &cluster,
        &["nodes", "undrain", &format!("function-worker-{drained}")],
    )
    .await;
    operate(&cluster, &["nodes", "drain", &format!("function-worker-{other}")]).await;
    let before = figure(&cluster, Part::FunctionWorker, drained, CALLS, "").await;
    eventually("it works again", || async {
        let reply = http.post("/api/functions/getStats", &input).await;
        let calls = figure(&cluster, Part::FunctionWorker, drained, CALLS, "").await;
        if reply.status == 200 && calls > before {
            Ok(())
        } else {
            Err((reply, calls))
        }
    })
    .await;
}

#[tokio::test]
async fn a_drained_gateway_gives_away_traffic_writing_and_sockets_and_stays_drained_over_restarts() {
    const WRITER: &str = "alyx_cluster_writer";
    let (_project, mut cluster) = chat().await;
    say(&cluster.gateway(0), "before").await;
    // The one that writes, since it has most to give away.
    let writer = eventually("a gateway writes", || async {
        for gateway in [0, 1] {
            if figure(&cluster, Part::Gateway, gateway, WRITER, "").await > 0.0 {
                return Ok(gateway);
            }
        }
        Err("none")
    })
    .await;
    let (other, name) = (1 - writer, format!("gateway-{writer}"));
    let mut here = Socket::open(&cluster.base(writer))
        .await
        .expect("the socket opens");
    let mut there = Socket::open(&cluster.base(other))
        .await
        .expect("the socket opens");
    there.subscribe(json!({"collection": "messages"})).await;

    operate(&cluster, &["nodes", "drain", &name]).await;
    assert_eq!(here.closed().await, 1001);
    ready(&cluster, writer, 503).await;
    until(&cluster, (Part::Gateway, other, WRITER, ""), |writes| {
        writes > 0.0
    })
    .await;
    until(&cluster, (Part::Gateway, writer, WRITER, ""), |writes| {
        writes == 0.0
    })
    .await;
    let refused = Socket::open(&cluster.base(writer))
        .await
        .expect_err("it takes no sockets");
    assert!(refused.contains("503"), "{refused}");
    // Requests that reach it all the same are answered.
    say(&cluster.gateway(writer), "meanwhile").await;
    assert_eq!(there.delta().await["inserts"][0]["content"], "meanwhile");

    cluster.kill(Part::ControlPlane, 0).await;
    cluster.restart(Part::ControlPlane, 0).await;
    assert_eq!(cluster.terminate(Part::Gateway, writer).await, Some(0));
    cluster.launch_again(Part::Gateway, writer).await;
    // Both: the control plane knows nobody at first.
    let last = format!("gateway-{other}");
    for (name, expected) in [
        (&name, json!(["draining", true])),
        (&last, json!(["ready", false])),
    ] {
        eventually(&format!("{name} is {expected} again"), || async {
            let now = state(&cluster, name).await;
            if now == expected { Ok(()) } else { Err(now) }
        })
        .await;
    }
    ready(&cluster, writer, 503).await;

    // The last one that is ready keeps sockets and writing: draining takes nothing down.
    operate(&cluster, &["nodes", "drain", &last]).await;
    ready(&cluster, other, 503).await;
    say(&cluster.gateway(other), "alone").await;
    assert_eq!(there.delta().await["inserts"][0]["content"], "alone");

    operate(&cluster, &["nodes", "undrain", &name]).await;
    ready(&cluster, writer, 200).await;
    assert_eq!(there.closed().await, 1001, "now there is another one");
    let again = eventually("it takes sockets again", || async {
        Socket::open(&cluster.base(writer)).await
    })
    .await;
    drop(again);
    until(&cluster, (Part::Gateway, writer, WRITER, ""), |writes| {
        writes > 0.0
    })
    .await;
    operate(&cluster, &["nodes", "undrain", &last]).await;
    ready(&cluster, other, 200).await;
    say(&cluster.gateway(other), "after").await;
}

/// Waits until a gateway says to the public that it is ready, or that it is not.
async fn ready(cluster: &Cluster, gateway: usize, status: u16) {
    let http = cluster.gateway(gateway);
    eventually(&format!("gateway {gateway} answers {status}"), || async {
        match http.try_send(Method::GET, "/health/ready", &[], "").await {
            Ok(reply) if reply.status == status => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
