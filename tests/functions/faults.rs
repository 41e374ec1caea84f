//! Workers that stop, vanish or cannot run what they are asked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use alyx_core::ErrorKind;
use alyx_function_worker::WorkerOptions;
use alyx_service::function::FunctionService;
use alyx_service::health::{HealthCheck, Status};
use alyx_tests::Flow;
use serde_json::json;

use crate::support::{Project, Remote, Worker, until, value};

/// One call at a time.
fn narrow(mut options: WorkerOptions) -> WorkerOptions {
    options.node.max_instances = 1;
    options.node.concurrency = 1;
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_once_run_on_both_workers() {
    let project = Project::new();
    let one = Worker::start("w1", project.options()).await;
    let two = Worker::start("w2", project.options()).await;
    let remote = Remote::to(&[&one, &two]).await;
    until("both workers are connected", || {
        one.link.connections() + two.link.connections() == 4
    })
    .await;
    project.write("echo", "export default async (ctx) => ctx.input");
    let calls = (0..1000).map(|number| {
        let invocation = project.invocation("echo", &json!(number));
        let functions = &*remote.functions;
        async move { (number, value(functions, invocation).await) }
    });
    for (number, echoed) in futures_util::future::join_all(calls).await {
        assert_eq!(echoed, number);
    }
    let shares = [one.invocations(), two.invocations()];
    assert_eq!(shares[0] + shares[1], 1000, "{shares:?}");
    assert!(shares.iter().all(|share| *share >= 100), "{shares:?}");
    until("figures of both arrive", || {
        remote.functions.stats()["node"].invocations == 1000
    })
    .await;
    remote.stop().await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_had_started_is_lost_with_its_worker_and_one_that_had_not_goes_elsewhere() {
    let project = Project::new();
    let one = Worker::start("w1", narrow(project.options())).await;
    let remote = Remote::to(&[&one]).await;
    project.write(
        "gate",
        "export default async (ctx) => { await ctx.db.gate.get('x'); return process.ppid }",
    );
    let started = remote.functions.invoke(project.invocation("gate", &json!({})));
    let waiting = async {
        project.data.at_gate(1).await;
        let waiting = remote.functions.invoke(project.invocation("gate", &json!({})));
        waiting.await
    };
    let two = Worker::start("w2", narrow(project.options())).await;
    let fault = async {
        project.data.at_gate(1).await;
        until("the second call waits in the worker", || {
            one.worker.stats()["node"].queued == 1
        })
        .await;
        remote.nodes.send_modify(|nodes| {
            *nodes = vec![one.node.clone(), two.node.clone()].into();
        });
        one.link.set(Flow::Cut);
        project.data.at_gate(2).await;
        project.data.open_gate();
    };
    let (started, waiting, ()) = tokio::join!(started, waiting, fault);
    let error = started.expect_err("it may have run");
    assert_eq!(
        (error.code(), error.kind()),
        ("FUNCTION_CRASHED", ErrorKind::BadGateway)
    );
    assert_eq!(error.retry_after(), None);
    waiting.expect("it had not started");
    assert_eq!(two.invocations(), 1);
    remote.stop().await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_call_runs_again_elsewhere() {
    let project = Project::new();
    let one = Worker::start("w1", project.options()).await;
    let two = Worker::start("w2", project.options()).await;
    let remote = Remote::to(&[&one]).await;
    project.write(
        "gate",
        "export default async (ctx) => { await ctx.db.gate.get('x'); return 'done' }",
    );
    let mut invocation = project.invocation("gate", &json!({}));
    invocation.idempotent = true;
    let fault = async {
        project.data.at_gate(1).await;
        remote
            .nodes
            .send_modify(|nodes| *nodes = vec![one.node.clone(), two.node.clone()].into());
        one.link.set(Flow::Cut);
        project.data.at_gate(2).await;
        project.data.open_gate();
    };
    let (done, ()) = tokio::join!(value(&*remote.functions, invocation), fault);
    assert_eq!(done, "done");
    remote.stop().await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_says_nothing_any_more_is_given_up() {
    let project = Project::new();
    let one = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&one]).await;
    project.write("gate", "export default (ctx) => ctx.db.gate.get('x')");
    let fault = async {
        project.data.at_gate(1).await;
        one.link.set(Flow::Freeze);
    };
    let (lost, ()) = tokio::join!(
        remote.functions.invoke(project.invocation("gate", &json!({}))),
        fault
    );
    assert_eq!(lost.expect_err("it is lost").code(), "FUNCTION_CRASHED");
    project.data.open_gate();
    assert_eq!(remote.functions.check().await.status, Status::Degraded);
    // It comes back when the cable is in again.
    one.link.set(Flow::Cut);
    one.link.set(Flow::Pass);
    project.write("echo", "export default (ctx) => ctx.input");
    assert_eq!(
        value(&*remote.functions, project.invocation("echo", &json!(1))).await,
        1
    );
    assert_eq!(remote.functions.check().await.status, Status::Healthy);
    remote.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_drains_under_load_without_a_failed_call() {
    let project = Project::new();
    let one = Worker::start("w1", project.options()).await;
    let two = Worker::start("w2", narrow(project.options())).await;
    let remote = Remote::to(&[&one, &two]).await;
    project.write(
        "work",
        "export default async (ctx) => { await new Promise((done) => setTimeout(done, 5)); return ctx.input }",
    );
    let (running, done) = (AtomicBool::new(true), AtomicUsize::new(0));
    let callers = futures_util::future::join_all((0..48).map(|caller| {
        let (project, remote, running, done) = (&project, &remote, &running, &done);
        async move {
            while running.load(Ordering::Relaxed) {
                let invocation = project.invocation("work", &json!(caller));
                assert_eq!(value(&*remote.functions, invocation).await, caller);
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
    let drains = async {
        until("calls run on the first", || one.invocations() > 200).await;
        // Its streams and its server end too, with the load going on.
        one.stop().await;
        let so_far = done.load(Ordering::Relaxed);
        until("the second goes on alone", || {
            done.load(Ordering::Relaxed) > so_far + 100
        })
        .await;
        running.store(false, Ordering::Relaxed);
    };
    tokio::join!(callers, drains);
    assert!(two.invocations() > 0);
    remote.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_node_or_without_the_function_does_not_stand_in_the_way() {
    let project = Project::new();
    let other = Project::new();
    let mut options = project.options();
    options.node.binary = Some("/nowhere/node".into());
    let no_node = Worker::start("w1", options).await;
    let lagging = Worker::start("w2", other.options()).await;
    let good = Worker::start("w3", project.options()).await;
    let remote = Remote::to(&[&no_node, &lagging, &good]).await;
    for number in 0..10 {
        let name = format!("f{number}");
        project.write(&name, "export default (ctx) => ctx.input");
        assert_eq!(
            value(&*remote.functions, project.invocation(&name, &json!(number))).await,
            number
        );
    }
    remote.stop().await;
    for worker in [no_node, lagging, good] {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_a_call_waits_for_a_while_and_is_then_refused() {
    let project = Project::new();
    project.write("echo", "export default (ctx) => ctx.input");
    let impatient = Remote::with(&[], |options| options.patience = Duration::from_millis(50)).await;
    let refused = impatient
        .functions
        .invoke(project.invocation("echo", &json!(1)))
        .await;
    let error = refused.expect_err("nobody is there");
    assert_eq!(
        (error.code(), error.kind()),
        ("FUNCTION_UNAVAILABLE", ErrorKind::Unavailable)
    );
    assert!(error.retry_after().is_some());

    let remote = Remote::to(&[]).await;
    let worker = Worker::start("w1", project.options()).await;
    let arrives = async {
        remote.nodes.send_replace(vec![worker.node.clone()].into());
    };
    let (echoed, ()) = tokio::join!(
        value(&*remote.functions, project.invocation("echo", &json!(1))),
        arrives
    );
    assert_eq!(echoed, 1);
    impatient.stop().await;
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_the_directory_finishes_what_it_has() {
    let project = Project::new();
    let one = Worker::start("w1", project.options()).await;
    let remote = Remote::with(&[&one], |options| options.patience = Duration::from_millis(50)).await;
    project.write(
        "gate",
        "export default async (ctx) => { await ctx.db.gate.get('x'); return 'done' }",
    );
    let leaves = async {
        project.data.at_gate(1).await;
        remote.nodes.send_replace(Vec::new().into());
        until("it gets no more calls", || remote.functions.workers() == 0).await;
        let error = remote
            .functions
            .invoke(project.invocation("gate", &json!({})))
            .await;
        assert_eq!(error.expect_err("nobody is left").code(), "FUNCTION_UNAVAILABLE");
        project.data.open_gate();
    };
    let (done, ()) = tokio::join!(
        value(&*remote.functions, project.invocation("gate", &json!({}))),
        leaves
    );
    assert_eq!(done, "done");
    until("its connections are closed", || one.link.connections() == 0).await;
    remote.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_has_not_reached_any_worker_is_waited_for_and_then_unavailable() {
    let project = Project::new();
    let one = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&one]).await;
    let arrives = async {
        until("the worker was asked", || one.served.refused() > 0).await;
        project.write("late", "export default (ctx) => ctx.input");
    };
    let (echoed, ()) = tokio::join!(
        value(&*remote.functions, project.invocation("late", &json!(1))),
        arrives
    );
    assert_eq!(echoed, 1);
    let never = remote
        .functions
        .invoke(project.invocation("never", &json!(1)))
        .await;
    let error = never.expect_err("no worker has it");
    assert_eq!(
        (error.code(), error.kind()),
        ("FUNCTION_UNAVAILABLE", ErrorKind::Unavailable)
    );
    assert!(error.retry_after().is_some());
    remote.stop().await;
    one.stop().await;
}
