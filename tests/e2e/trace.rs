//! W3C trace context, from the caller through every hop.

use alyx_tests::{Cluster, Form, Http, Part, Project, Shape, Socket, eventually, in_both_forms};
use http::Method;
use serde_json::json;

const TRACES: &str = "export default (input, ctx) => ctx.traceparent;\n";
const MESSAGES: &str = "/api/collections/messages";
const CALL: &str = r#"{"input": {"channel": "general", "content": "hi", "author": "Eve"}}"#;

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-01")
}

async fn traced(http: &Http, path: &str, parent: &str, body: &str) -> alyx_tests::Reply {
    let headers = [("content-type", "application/json"), ("traceparent", parent)];
    http.send(Method::POST, path, &headers, body.to_owned()).await
}

in_both_forms!(a_function_is_told_its_callers_trace_or_a_new_one);

async fn a_function_is_told_its_callers_trace_or_a_new_one(form: Form) {
    let project = Project::chat();
    project.write("functions/trace.js", TRACES);
    let server = form.start(&project).await;
    let http = server.http();
    let told = async |parent: &str| {
        let reply = traced(&http, "/api/functions/trace", parent, r#"{"input": {}}"#).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let told = reply.json()["output"].clone();
        told.as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
    };
    let parent = traceparent("4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(told(&parent).await, parent);
    // What has not the form of the header counts as none.
    let (one, other) = (told("nonsense").await, told(&parent.to_uppercase()).await);
    for made in [&one, &other] {
        assert!(
            made.len() == 55 && made.starts_with("00-") && made.ends_with("-00"),
            "{made}"
        );
    }
    assert_ne!(one, other);
}

#[tokio::test]
async fn every_role_that_a_request_concerns_logs_its_trace() {
    let project = Project::chat();
    let env = [("ALYX_LOGGING_LEVEL", "debug"), ("ALYX_LOGGING_FORMAT", "json")];
    let shape = Shape {
        realtime_nodes: 1,
        function_workers: 1,
        ..Shape::default()
    };
    let cluster = Cluster::start_with(&project, shape, &env).await;
    // One of the two gateways writes, so that the other one's writes go over gRPC to it.
    for gateway in [0, 1] {
        let http = cluster.gateway(gateway);
        let by_rest = format!("{gateway:032x}").replacen('0', "a", 1);
        let by_function = format!("{gateway:032x}").replacen('0', "b", 1);
        let by_socket = format!("{gateway:032x}").replacen('0', "c", 1);
        let parent = traceparent(&by_socket);
        let mut socket = Socket::open_with(&cluster.base(gateway), &[("traceparent", &parent)])
            .await
            .expect("the socket opens");
        let filter = json!({"author": {"$ne": format!("nobody {gateway}")}});
        socket
            .subscribe(json!({"collection": "messages", "filter": filter}))
            .await;
        let body = r#"{"channel": "general", "author": "Bob", "content": "hello"}"#;
        let sent = traced(&http, MESSAGES, &traceparent(&by_rest), body).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        let sent = traced(
            &http,
            "/api/functions/sendMessage",
            &traceparent(&by_function),
            CALL,
        )
        .await;
        assert_eq!(sent.status, 200, "{sent:?}");

        let here = (Part::Gateway, gateway);
        let node = (Part::RealtimeNode, 0);
        logs(&cluster, here, &by_rest, "request answered").await;
        logs(&cluster, here, &by_function, "request answered").await;
        logs(
            &cluster,
            (Part::FunctionWorker, 0),
            &by_function,
            "a gateway calls a function",
        )
        .await;
        // Over NATS: what REST and what the function's `ctx.db` wrote.
        logs(&cluster, node, &by_rest, "a commit is applied").await;
        logs(&cluster, node, &by_function, "a commit is applied").await;
        logs(&cluster, node, &by_socket, "a live query is opened").await;
    }
    let forwarded = [0, 1].map(|gateway| {
        let printed = cluster.printed(Part::Gateway, gateway);
        let lines = printed.lines();
        lines
            .filter(|line| line.contains("another node's write") && line.contains("\"trace_id\":\""))
            .count()
    });
    assert_eq!(
        forwarded.iter().sum::<usize>(),
        2,
        "one by REST, one by a function: {forwarded:?}"
    );
}

/// Waits until the node has logged that, as a part of the trace.
async fn logs(cluster: &Cluster, (part, number): (Part, usize), trace: &str, message: &str) {
    let id = format!("\"trace_id\":\"{trace}\"");
    eventually(
        &format!("{part:?} {number} logs {message} in {trace}"),
        || async {
            let printed = cluster.printed(part, number);
            let found = printed.lines().any(|line| {
                let is_json = serde_json::from_str::<serde_json::Value>(line).is_ok();
                is_json && line.contains(&id) && line.contains(message)
            });
            if found { Ok(()) } else { Err(printed) }
        },
    )
    .await;
}
