//! Deadlines, cancellation and bounds across the hop.

use std::time::{Duration, Instant};

use alyx_core::ErrorKind;
use alyx_service::function::FunctionService;
use serde_json::json;

use crate::support::{Project, Remote, Worker, until, value};

const GATE: &str = "export default async (ctx) => { await ctx.db.gate.get('x'); return 'done' }";

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_is_seen_by_the_handler() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&worker]).await;
    let seen = project.path("seen");
    project.write(
        "waits",
        &format!(
            "import fs from 'node:fs'
             export default async (ctx) => {{
                ctx.signal.addEventListener('abort', () => fs.writeFileSync({seen:?}, 'aborted'));
                await ctx.db.gate.get('x');
            }}"
        ),
    );
    let invocation = project.invocation("waits", &json!({}));
    tokio::select! {
        ended = remote.functions.invoke(invocation) => panic!("{ended:?}"),
        () = project.data.at_gate(1) => {}
    }
    until("the signal", || seen.exists()).await;
    project.data.open_gate();
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_of_the_caller_ends_the_call_and_its_handler() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&worker]).await;
    let seen = project.path("seen");
    project.write(
        "waits",
        &format!(
            "import fs from 'node:fs'
             export default async (ctx) => {{
                ctx.signal.addEventListener('abort', () => fs.writeFileSync({seen:?}, 'aborted'));
                await ctx.db.gate.get('x');
            }}"
        ),
    );
    let mut invocation = project.invocation("waits", &json!({}));
    invocation.deadline = Instant::now() + Duration::from_millis(800);
    let error = remote.functions.invoke(invocation).await.expect_err("too late");
    assert_eq!(
        (error.code(), error.kind()),
        ("FUNCTION_TIMEOUT", ErrorKind::DeadlineExceeded)
    );
    until("the signal", || seen.exists()).await;
    project.data.open_gate();
    assert_eq!(worker.worker.stats()["node"].timeouts, 1);
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_what_the_workers_and_the_queue_take_calls_are_refused() {
    let project = Project::new();
    let mut options = project.options();
    options.node.max_instances = 1;
    options.node.concurrency = 1;
    options.python = options.node.clone();
    options.go = options.node.clone();
    let worker = Worker::start("w1", options).await;
    let remote = Remote::with(&[&worker], |options| options.queue = 2).await;
    project.write("gate", GATE);
    // One runs, one waits in the worker, two wait in the gateway.
    let calls = (0..4).map(|_| value(&*remote.functions, project.invocation("gate", &json!({}))));
    let calls = futures_util::future::join_all(calls);
    let overload = async {
        project.data.at_gate(1).await;
        until("one waits in the worker", || {
            worker.worker.stats()["node"].queued == 1
        })
        .await;
        let refused = remote
            .functions
            .invoke(project.invocation("gate", &json!({})))
            .await;
        let error = refused.expect_err("there is no room");
        assert_eq!(
            (error.code(), error.kind()),
            ("FUNCTION_OVERLOADED", ErrorKind::TooManyRequests)
        );
        assert!(error.retry_after().is_some());
        for passed in 1..=4 {
            project.data.at_gate(passed).await;
            project.data.open_gate();
        }
    };
    let (done, ()) = tokio::join!(calls, overload);
    assert!(done.iter().all(|done| done == "done"), "{done:?}");
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_other_gateways_have_filled_is_tried_again() {
    let project = Project::new();
    let mut options = project.options();
    options.node.max_instances = 1;
    options.node.concurrency = 1;
    options.queue = 0;
    // Nobody can wait for the first process then.
    project.write("gate", GATE);
    options.queue = 1;
    let worker = Worker::start("w1", options).await;
    let gateways = [
        Remote::to(&[&worker]).await,
        Remote::to(&[&worker]).await,
        Remote::to(&[&worker]).await,
    ];
    // Each of them may send two, the worker takes two in all.
    let calls = gateways
        .iter()
        .flat_map(|remote| (0..2).map(|_| value(&*remote.functions, project.invocation("gate", &json!({})))));
    let calls = futures_util::future::join_all(calls);
    let gate = async {
        for passed in 1..=6 {
            project.data.at_gate(passed).await;
            project.data.open_gate();
        }
    };
    let (done, ()) = tokio::join!(calls, gate);
    assert!(done.iter().all(|done| done == "done"), "{done:?}");
    for remote in gateways {
        remote.stop().await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_gateway_past_the_deadline_never_runs() {
    let project = Project::new();
    let mut options = project.options();
    options.node.max_instances = 1;
    options.node.concurrency = 1;
    let worker = Worker::start("w1", options).await;
    let remote = Remote::to(&[&worker]).await;
    project.write("gate", GATE);
    let calls = (0..2).map(|_| value(&*remote.functions, project.invocation("gate", &json!({}))));
    let calls = futures_util::future::join_all(calls);
    let late = async {
        project.data.at_gate(1).await;
        until("one waits in the worker", || {
            worker.worker.stats()["node"].queued == 1
        })
        .await;
        let mut late = project.invocation("gate", &json!({}));
        late.deadline = Instant::now() + Duration::from_millis(100);
        let error = remote.functions.invoke(late).await.expect_err("too late");
        assert_eq!(error.code(), "FUNCTION_TIMEOUT");
        assert!(error.message().contains("was not started"), "{error}");
        for passed in 1..=2 {
            project.data.at_gate(passed).await;
            project.data.open_gate();
        }
    };
    tokio::join!(calls, late);
    assert_eq!(worker.invocations(), 2);
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_an_input_is_refused_and_the_stream_goes_on() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::with(&[&worker], |options| options.streams = 1).await;
    project.write("length", "export default (ctx) => ctx.input.length");
    let mut large = project.invocation("length", &json!(null));
    large.input = vec![b' '; 70 << 20].into();
    let error = remote.functions.invoke(large).await.expect_err("too large");
    assert_eq!(
        (error.code(), error.kind()),
        ("PAYLOAD_TOO_LARGE", ErrorKind::PayloadTooLarge)
    );
    assert_eq!(
        value(&*remote.functions, project.invocation("length", &json!("abc"))).await,
        3
    );
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_any_size_leaves_the_other_calls_of_its_stream_alone() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::with(&[&worker], |options| options.streams = 1).await;
    project.write("gate", GATE);
    project.write("broken", "throw new Error('w'.repeat(8 << 20))");
    let beside = async {
        project.data.at_gate(1).await;
        let refused = remote
            .functions
            .invoke(project.invocation("broken", &json!({})))
            .await;
        assert_eq!(
            refused.expect_err("it does not load").code(),
            "FUNCTION_UNAVAILABLE"
        );
        project.data.open_gate();
    };
    let (done, ()) = tokio::join!(
        value(&*remote.functions, project.invocation("gate", &json!({}))),
        beside
    );
    assert_eq!(done, "done");
    remote.stop().await;
    worker.stop().await;
}
