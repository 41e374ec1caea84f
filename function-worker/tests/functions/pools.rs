//! Which process runs what, and when processes come and go.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alyx_core::ErrorKind;
use alyx_service::function::FunctionService;
use alyx_service::health::{HealthCheck, Status};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use crate::support::{PLENTY, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_once_complete() {
    let world = World::with(|options| options.node.max_instances = 2);
    world.write(
        "add",
        "export default async (ctx) => { await null; return ctx.input.n + 1 }",
    );
    let calls = (0..1000).map(|n| {
        let world = &world;
        async move { assert_eq!(world.value("add", json!({"n": n})).await, n + 1) }
    });
    futures_util::future::join_all(calls).await;
    let stats = world.stats();
    assert_eq!((stats.invocations, stats.queued, stats.busy), (1000, 0, 0));
    assert!(stats.started <= 2, "{stats:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_inputs_and_outputs_pass() {
    let world = World::new();
    world.write(
        "size",
        "export default { handler: (input) => ({ length: input.text.length, text: input.text }) }",
    );
    for length in [10_000, 16_000, 70_000, 3_000_000] {
        let text = "ä→x".repeat(length / 3);
        let reply = world.value("size", json!({"text": text})).await;
        assert_eq!(reply["text"], text);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_waiting_ends_at_the_deadline() {
    let world = World::with(|options| {
        options.node.max_instances = 1;
        options.node.concurrency = 2;
        options.queue = 3;
    });
    world.write(
        "gate",
        "export default (ctx) => ctx.input.fast ? 1 : ctx.db.gate.get('x')",
    );
    assert_eq!(world.value("gate", json!({"fast": true})).await, 1);
    let calls = futures_util::future::join_all((0..5).map(|_| world.call("gate", json!({}))));
    let (done, ()) = tokio::join!(calls, async {
        eventually("a full queue", || (world.stats().queued == 3).then_some(())).await;
        let error = world.refused("gate").await;
        assert_eq!(
            (error.code(), error.kind()),
            ("FUNCTION_OVERLOADED", ErrorKind::TooManyRequests)
        );
        assert!(error.retry_after().is_some());
        world.data.open_gate(2).await;
        world.data.open_gate(4).await;
        world.data.open_gate(5).await;
    });
    assert!(done.iter().all(Result::is_ok), "{done:?}");

    let holders = futures_util::future::join_all((0..2).map(|_| world.call("gate", json!({}))));
    let (_, late) = tokio::join!(holders, async {
        eventually("both places taken", || (world.stats().busy == 1).then_some(())).await;
        let mut late = world.invocation("gate", &json!({}));
        late.deadline = Instant::now() + Duration::from_millis(100);
        let late = world.worker.invoke(late).await;
        assert_eq!(world.stats().queued, 0, "its place is free again");
        world.data.open_gate(7).await;
        late
    });
    let error = late.expect_err("it never ran");
    assert_eq!(error.code(), "FUNCTION_TIMEOUT");
    assert!(error.message().contains("was not started"), "{error}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_new_calls_while_the_old_one_finishes() {
    let world = World::new();
    let source = |version: u32| {
        format!(
            "export default async (ctx) => {{ if (ctx.input.wait) await ctx.db.gate.get('x'); return {version} }}"
        )
    };
    world.write("edit", &source(1));
    let (old, ()) = tokio::join!(world.value("edit", json!({"wait": true})), async {
        eventually("the call runs", || (world.stats().busy == 1).then_some(())).await;
        world.write("edit", &source(2));
        assert_eq!(world.value("edit", json!({})).await, 2);
        world.data.open_gate(1).await;
    });
    assert_eq!(old, 1);
    eventually("the old process ends", || {
        (world.stats().total == 2).then_some(())
    })
    .await;
    world.remove("edit");
    assert_eq!(world.refused("edit").await.code(), "FUNCTION_NOT_FOUND");
    eventually("only the warm process is left", || {
        (world.stats().total == 1).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_share_the_cap_without_starving() {
    let world = World::with(|options| options.node.max_instances = 1);
    for name in ["one", "two", "three"] {
        world.write(name, &format!("export default async (ctx) => {{ if (ctx.input.wait) await ctx.db.gate.get('x'); return '{name}' }}"));
    }
    for name in ["one", "two", "three", "one"] {
        assert_eq!(world.value(name, json!({})).await, name);
    }
    // A busy process of one function does not keep another function out.
    let (held, ()) = tokio::join!(world.value("one", json!({"wait": true})), async {
        eventually("it runs", || (world.stats().busy == 1).then_some(())).await;
        assert_eq!(world.value("two", json!({})).await, "two");
        world.data.open_gate(1).await;
    });
    assert_eq!(held, "one");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_calls_spread_over_more_processes() {
    let world = World::with(|options| {
        options.node.concurrency = 1;
        options.node.max_instances = 3;
    });
    world.write(
        "pid",
        "export default async (ctx) => { await ctx.db.gate.get('x'); return process.pid }",
    );
    let calls = futures_util::future::join_all((0..3).map(|_| world.value("pid", json!({}))));
    let (mut pids, ()) = tokio::join!(calls, world.data.open_gate(3));
    pids.sort_by_key(|pid| pid.as_i64());
    pids.dedup();
    assert_eq!(pids.len(), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_process_gets_no_new_calls() {
    let world = World::with(|options| options.node.max_instances = 2);
    let signal = tempfile::tempdir().expect("a folder");
    let file = signal.path().join("go");
    world.write(
        "busy",
        "import fs from 'node:fs'
        export default (ctx) => { while (ctx.input.until && !fs.existsSync(ctx.input.until)); return process.pid }",
    );
    let quick = async {
        eventually("it runs", || (world.stats().busy == 1).then_some(())).await;
        // The first may still be sent to the blocked process, and then waits with it.
        let mut calls = FuturesUnordered::new();
        let pid = loop {
            calls.push(world.value("busy", json!({})));
            if let Ok(Some(pid)) = tokio::time::timeout(Duration::from_millis(50), calls.next()).await {
                break pid;
            }
        };
        std::fs::write(&file, "").expect("writes");
        calls.collect::<Vec<_>>().await;
        pid
    };
    let (blocked, quick) = tokio::join!(world.value("busy", json!({"until": file})), quick);
    assert_ne!(blocked, quick);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_processes_end_and_warm_ones_stay() {
    let world = World::with(|options| {
        options.node.min_warm = 2;
        options.node.idle_timeout = Duration::from_millis(50);
    });
    world.write("once", "export default () => 1");
    eventually("warm processes", || (world.stats().ready == 2).then_some(())).await;
    assert_eq!(world.stats_of("python").total, 0, "no function is in Python");
    world.value("once", json!({})).await;
    eventually("it ended", || {
        let stats = world.stats();
        (stats.total == 2 && stats.ready == 2 && stats.started == 1).then_some(())
    })
    .await;
    assert_eq!(world.value("once", json!({})).await, 1);
    assert_eq!(world.worker.check().await.status, Status::Healthy);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_takes_no_place_with_it() {
    let world = World::with(|options| {
        options.node.max_instances = 1;
        options.node.concurrency = 1;
    });
    world.write("slow", "export default async (ctx) => { if (!ctx.input.fast) await new Promise((done) => ctx.signal.addEventListener('abort', done)); return 1 }");
    assert_eq!(world.value("slow", json!({"fast": 1})).await, 1);
    tokio::select! {
        done = world.call("slow", json!({})) => panic!("{done:?}"),
        () = eventually("it runs", || (world.stats().busy == 1).then_some(())) => {}
    }
    assert_eq!(world.value("slow", json!({"fast": 1})).await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_finishes_what_runs_and_refuses_what_comes() {
    let world = World::new();
    world.write(
        "gate",
        "export default async (ctx) => { await ctx.db.gate.get('x'); return 'done' }",
    );
    world.write("quick", "export default () => 1");
    let running = async {
        eventually("it runs", || (world.stats().busy == 1).then_some(())).await;
        world.worker.drain(PLENTY).await
    };
    let refused = async {
        eventually("it waits", || {
            (world.data.waiting.load(Ordering::SeqCst) == 1).then_some(())
        })
        .await;
        let error = loop {
            if let Err(error) = world.call("quick", json!({})).await {
                break error;
            }
        };
        world.data.open_gate(1).await;
        error
    };
    let (done, drained, error) = tokio::join!(world.value("gate", json!({})), running, refused);
    assert_eq!(done, "done");
    assert!(drained);
    assert_eq!(error.code(), "FUNCTION_UNAVAILABLE");
    assert!(error.message().contains("stopping"), "{error}");
    eventually("all processes end", || (world.stats().total == 0).then_some(())).await;
    world.stop().await;
}
