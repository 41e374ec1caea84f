//! What a handler gets: the database, the caller, settings, logs.

use std::sync::Arc;

use alyx_service::function::FunctionService;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{World, lines, returned};

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_over_the_call_itself() {
    let world = World::new();
    world.write(
        "all",
        "export default async function (ctx) {
            const { messages } = ctx.db;
            const made = await ctx.db.messages.create({ channel: 'a', content: 'one' });
            await messages.create({ channel: 'b' });
            const updated = await messages.update(made.id, { content: 'two' });
            const [got, one, missing, first] = await Promise.all([
                messages.get(made.id), messages.findOne(made.id), messages.get('none'),
                messages.findOne({ filter: { channel: 'b' } }),
            ]);
            const list = await messages.list({ filter: { channel: 'a' } });
            const found = await messages.find();
            const deleted = await messages.delete(made.id);
            return { made, updated, got, one, missing, first, list, found, deleted };
        }",
    );
    let all = world.value("all", json!({})).await;
    let document = json!({"channel": "a", "content": "two", "id": "doc-1"});
    assert_eq!(
        all["made"],
        json!({"channel": "a", "content": "one", "id": "doc-1"})
    );
    for same in ["updated", "got", "one"] {
        assert_eq!(all[same], document, "{same}");
    }
    assert_eq!(all["missing"], Value::Null);
    assert_eq!(all["first"]["id"], "doc-2");
    assert_eq!(all["list"], json!({"docs": [document], "total": 2}));
    assert_eq!(all["found"]["data"], all["found"]["docs"]);
    assert_eq!(all["deleted"], json!({"deleted": true}));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_database_are_errors_with_a_code() {
    let world = World::new();
    world.write(
        "caught",
        "export default async (ctx) => {
            try { await ctx.db.nothing.list() } catch (e) {
                return { error: e instanceof Error, code: e.code, status: e.status, message: e.message };
            }
        }",
    );
    assert_eq!(
        world.value("caught", json!({})).await,
        json!({"error": true, "code": "COLLECTION_NOT_FOUND", "status": 404, "message": "there is no collection `nothing`"})
    );
    world.write(
        "thrown",
        "export default (ctx) => ctx.db.messages.create({ content: 'taken' })",
    );
    let thrown = world.thrown("thrown", json!({})).await;
    assert_eq!(
        (thrown.code.as_deref(), thrown.status),
        (Some("UNIQUE_VIOLATION"), Some(409))
    );
    assert_eq!(thrown.extra["field"], "content");
    world.write("away", "export default (ctx) => ctx.db.away.list()");
    let thrown = world.thrown("away", json!({})).await;
    assert_eq!(thrown.status, Some(503));
    assert_eq!(thrown.extra["retryAfter"], 2, "in whole seconds");

    world.write("late", "let ctx; export default async (c) => { if (!ctx) { ctx = c; return 1 } try { await ctx.db.messages.list() } catch (e) { return e.code } }");
    assert_eq!(world.value("late", json!({})).await, 1);
    assert_eq!(world.value("late", json!({})).await, "INVOCATION_ENDED");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_database_calls_at_once_complete() {
    let world = World::new();
    world.write(
        "many",
        "export default async (ctx) => (await Promise.all(Array.from({ length: 1000 }, (_, i) =>
            ctx.db.messages.create({ i })))).length",
    );
    assert_eq!(world.value("many", json!({})).await, 1000);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_knows_the_caller_and_the_request() {
    let world = World::new();
    world.write(
        "who",
        "export default async (ctx) => ({ auth: ctx.auth, request: ctx.request_id, name: ctx.function_name,
            aborted: ctx.signal.aborted })",
    );
    let anonymous = world.value("who", json!({})).await;
    assert_eq!(
        anonymous,
        json!({"auth": null, "request": "req-\"1\"", "name": "who", "aborted": false})
    );
    let mut invocation = world.invocation("who", &json!({}));
    invocation.auth = Some(Bytes::from_static(r#"{"id":"u1","role":"ü"}"#.as_bytes()));
    let known = world.worker.invoke(invocation).await.expect("works");
    assert_eq!(returned(&known)["auth"], json!({"id": "u1", "role": "ü"}));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_functions_own_settings_are_visible() {
    let world = World::new();
    world.write_as(
        "env",
        "index.js",
        "import fs from 'node:fs'
        export default async (ctx) => ({ ctx: ctx.env, keys: Object.keys(process.env).sort(), key: process.env.API_KEY,
            start: fs.readFileSync('/proc/self/environ', 'utf8').split('\\0').filter(Boolean).sort(),
            cwd: process.cwd() === fs.realpathSync(import.meta.dirname ?? process.cwd()) })",
        |function| function.env = Arc::new([("API_KEY".to_owned(), "k".to_owned())].into()),
    );
    let seen = world.value("env", json!({})).await;
    assert_eq!(seen["ctx"], json!({"API_KEY": "k"}));
    assert_eq!(seen["key"], "k");
    assert_eq!(seen["keys"], json!(["API_KEY", "LANG", "NODE_ENV", "TZ"]));
    assert_eq!(
        seen["start"],
        json!(["LANG=C.UTF-8", "NODE_ENV=production", "TZ=UTC"])
    );
    assert_eq!(seen["cwd"], true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_back_with_the_call() {
    let world = World::new();
    world.write(
        "talk",
        "export default async function (ctx) {
            ctx.log.info('started', { user: 1 });
            const { debug } = ctx.log;
            debug('detached');
            console.log('plain %d', 5, { a: 1 });
            await new Promise((done) => setTimeout(done, 1));
            console.warn('after a wait');
            process.stdout.write('raw\\nlines\\n');
            process.stderr.write('bad');
            ctx.log.error('failed', new Error('why'));
            const loop = {}; loop.loop = loop;
            ctx.log.warn('odd', { big: 1n, loop });
            return null;
        }",
    );
    let completion = world.call("talk", json!({})).await.expect("works");
    assert_eq!(
        lines(&completion.logs),
        [
            ("info", "started"),
            ("debug", "detached"),
            ("info", "plain 5 { a: 1 }"),
            ("warn", "after a wait"),
            ("info", "raw"),
            ("info", "lines"),
            ("error", "bad"),
            ("error", "failed"),
            ("warn", "odd"),
        ]
    );
    assert_eq!(completion.logs[0].data, Some(json!({"user": 1})));
    assert_eq!(
        completion.logs[7]
            .data
            .as_ref()
            .map(|data| data["message"].clone()),
        Some(json!("why"))
    );
    assert_eq!(completion.logs[0].timestamp.len(), 24);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_bounded() {
    let world = World::new();
    world.write(
        "lines",
        "export default () => { for (let i = 0; i < 5000; i++) console.log(i) }",
    );
    let logs = world.call("lines", json!({})).await.expect("works").logs;
    assert_eq!(logs.len(), 1001);
    assert!(
        logs[1000].message.starts_with("log truncated"),
        "{}",
        logs[1000].message
    );

    world.write(
        "bytes",
        "export default () => { for (let i = 0; i < 100; i++) console.log('x'.repeat(200000)) }",
    );
    let logs = world.call("bytes", json!({})).await.expect("works").logs;
    let bytes: usize = logs.iter().map(|line| line.message.len()).sum();
    assert!(bytes <= (1 << 20) + (64 << 10), "{bytes}");
    assert!(logs[0].message.ends_with("[truncated]"));
    assert!(
        logs.last()
            .is_some_and(|line| line.message.starts_with("log truncated"))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_belongs_to_its_own_call() {
    let world = World::with(|options| options.node.concurrency = 64);
    world.write(
        "mine",
        "const turn = () => new Promise((done) => setImmediate(done));
        export default async (ctx) => {
            for (let i = 0; i < 3; i++) { console.log(ctx.input.n); await turn(); ctx.log.info(String(ctx.input.n)); }
            setTimeout(() => {}, 0);
            return ctx.input.n;
        }",
    );
    world.value("mine", json!({"n": -1})).await;
    let calls = (0..200).map(|n| {
        let world = &world;
        async move {
            let completion = world.call("mine", json!({"n": n})).await.expect("works");
            assert_eq!(completion.logs.len(), 6);
            assert!(
                completion.logs.iter().all(|line| line.message == n.to_string()),
                "{n}: {:?}",
                completion.logs
            );
        }
    });
    futures_util::future::join_all(calls).await;
    world.stop().await;
}
