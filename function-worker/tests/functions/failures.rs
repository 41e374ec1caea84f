//! Every way in which a call can fail.

use std::time::{Duration, Instant};

use alyx_core::ErrorKind;
use alyx_service::function::FunctionService;
use alyx_service::health::{HealthCheck, Status};
use serde_json::{Value, json};

use crate::support::{PLENTY, World, eventually};

const SHORT: Duration = Duration::from_millis(300);

/// A handler's body, and the code, status, words and further members of what it throws.
type Throw = (
    &'static str,
    Option<&'static str>,
    Option<u16>,
    &'static str,
    &'static str,
);

const THROWS: [Throw; 16] = [
    (
        "throw new Error('Authentication required')",
        None,
        None,
        "Authentication required",
        "{}",
    ),
    (
        "throw { code: 'VALIDATION_ERROR', message: 'Email is required', field: 'email' }",
        Some("VALIDATION_ERROR"),
        None,
        "Email is required",
        r#"{"field":"email"}"#,
    ),
    (
        "throw Object.assign(new Error('gone'), { code: 'GONE', status: 410, details: { a: 1 } })",
        Some("GONE"),
        Some(410),
        "gone",
        r#"{"details":{"a":1}}"#,
    ),
    ("throw { code: 'X', status: 99 }", Some("X"), None, "X", "{}"),
    ("throw 'just text'", None, None, "just text", "{}"),
    ("throw undefined", None, None, "undefined", "{}"),
    ("throw null", None, None, "null", "{}"),
    ("throw {}", None, None, "without a message", "{}"),
    ("null.x", None, None, "Cannot read properties of null", "{}"),
    ("require('fs')", None, None, "require is not defined", "{}"),
    (
        "(await import('node:fs')).readFileSync('/none')",
        None,
        None,
        "ENOENT",
        "{}",
    ),
    (
        "const e = new Error('loop'); e.self = e; throw e",
        None,
        None,
        "loop",
        "{}",
    ),
    ("return 1n", None, None, "cannot be written as JSON", "{}"),
    (
        "const a = {}; a.a = a; return a",
        None,
        None,
        "cannot be written as JSON",
        "{}",
    ),
    ("return 'x'.repeat(11 << 20)", None, None, "larger than", "{}"),
    (
        "setTimeout(() => { throw new Error('from a timer') }); await new Promise(() => {})",
        None,
        None,
        "from a timer",
        "{}",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_thrown_is_told() {
    let world = World::new();
    for (number, (body, code, status, message, extra)) in THROWS.into_iter().enumerate() {
        let name = format!("throws{number}");
        world.write(&name, &format!("export default async (ctx) => {{ {body} }}"));
        let thrown = world.thrown(&name, json!({})).await;
        assert_eq!(thrown.code.as_deref(), code, "{body}");
        assert_eq!(thrown.status, status, "{body}");
        assert!(thrown.message.contains(message), "{body}: {}", thrown.message);
        assert_eq!(Value::Object(thrown.extra).to_string(), extra, "{body}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_the_reply_makes_it_an_error() {
    let world = World::new();
    world.write(
        "status",
        "export default (req, res) => res.json({ error: 'bad signature', hint: 1 }, 401)",
    );
    let thrown = world.thrown("status", json!({})).await;
    assert_eq!(
        (thrown.code.as_deref(), thrown.status),
        (Some("FUNCTION_ERROR"), Some(401))
    );
    assert_eq!(thrown.message, "bad signature");
    assert_eq!(thrown.extra["hint"], 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_return_values_are_null() {
    let world = World::with(|options| options.node.max_instances = 40);
    for body in [
        "return undefined",
        "",
        "return () => 1",
        "return NaN",
        "return null",
    ] {
        let name = format!("n{}", body.len());
        world.write(&name, &format!("export default async () => {{ {body} }}"));
        assert_eq!(world.value(&name, json!({})).await, Value::Null, "{body}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_load_says_why() {
    let world = World::with(|options| {
        options.node.max_instances = 40;
        options.load_timeout = Duration::from_secs(5);
    });
    let check = async |source: &str, expected: &str| {
        let name = format!("l{}", source.len());
        world.write(&name, source);
        let error = world.refused(&name).await;
        assert_eq!(error.code(), "FUNCTION_UNAVAILABLE", "{source}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(expected), "{source}: {error}");
    };
    check("export default async (ctx => {", "SyntaxError").await;
    check("throw new Error('no database url')", "no database url").await;
    check("import x from 'left-pad'\nexport default () => x", "left-pad").await;
    check("export const nothing = 1", "exports no handler").await;
    check(
        "export default { input: { a: { type: 'text' } }, handler() {} }",
        "input.a.type",
    )
    .await;
    check("process.exit(4)\nexport default () => 1", "ended while it loaded").await;
    check("while (true) {}\nexport default () => 1", "did not end within").await;
    // A broken function is not started again for every call, and a repaired one runs at once.
    let started = world.stats().started;
    world.write("again", "throw new Error('x')");
    for _ in 0..50 {
        world.refused("again").await;
    }
    assert_eq!(world.stats().started, started);
    world.write("again", "export default () => 'repaired'");
    assert_eq!(world.value("again", json!({})).await, "repaired");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline_whatever_it_does() {
    let world = World::new();
    let check = async |name: &str, body: &str| {
        world.write_as(
            name,
            "index.js",
            &format!("let n = 0; export default async (ctx) => {{ if (ctx.input.fast) return ++n; {body} }}"),
            |function| {
                function.timeout = SHORT;
            },
        );
        world.write("sibling", "export default () => process.pid");
        let sibling = world.value("sibling", json!({})).await;
        assert_eq!(world.value(name, json!({"fast": 1})).await, 1);
        let began = Instant::now();
        let error = world.refused(name).await;
        assert_eq!(
            (error.code(), error.kind()),
            ("FUNCTION_TIMEOUT", ErrorKind::DeadlineExceeded),
            "{body}"
        );
        assert!(error.message().contains("within 300ms"), "{error}");
        assert!(began.elapsed() >= SHORT);
        assert_eq!(
            world.value("sibling", json!({})).await,
            sibling,
            "another function's process lives on"
        );
        assert_eq!(
            world.value(name, json!({"fast": 1})).await,
            1,
            "the next call runs in a fresh process"
        );
    };
    check("wait", "await new Promise(() => {})").await;
    check("spin", "while (true) {}").await;
    let timeouts = world.stats().timeouts;
    assert_eq!(timeouts, 2);
    eventually("one crash", || (world.stats().crashes == 1).then_some(())).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_heeds_its_signal_keeps_its_process() {
    let world = World::with(|options| options.grace = PLENTY);
    world.write_as(
        "heeds",
        "index.js",
        "export default async (ctx) => {
            if (ctx.input.fast) return process.pid;
            await new Promise((_, fail) => ctx.signal.addEventListener('abort', () => fail(ctx.signal.reason)));
        }",
        |function| function.timeout = SHORT,
    );
    let before = world.value("heeds", json!({"fast": 1})).await;
    assert_eq!(world.refused("heeds").await.code(), "FUNCTION_TIMEOUT");
    assert_eq!(world.value("heeds", json!({"fast": 1})).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_call_does_not_take_its_neighbours_along() {
    let world = World::new();
    world.write_as(
        "mixed",
        "index.js",
        "export default async (ctx) => { if (ctx.input.fast) return 1; if (ctx.input.hang) await new Promise(() => {}); return ctx.db.gate.get('x') }",
        |function| function.timeout = Duration::from_secs(20),
    );
    assert_eq!(world.value("mixed", json!({"fast": true})).await, 1);
    let mut hanging = world.invocation("mixed", &json!({"hang": true}));
    hanging.deadline = Instant::now() + SHORT;
    let (hung, neighbour, ()) = tokio::join!(
        world.worker.invoke(hanging),
        world.call("mixed", json!({})),
        async {
            eventually("the hanging call is given up", || {
                (world.stats().timeouts == 1).then_some(())
            })
            .await;
            // It is replaced while the neighbour still runs in the old process.
            tokio::join!(world.call("mixed", json!({})), world.data.open_gate(2))
                .0
                .expect("works");
        }
    );
    assert_eq!(hung.expect_err("it timed out").code(), "FUNCTION_TIMEOUT");
    neighbour.expect("the neighbour finishes");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_fails_only_its_own_calls() {
    let world = World::new();
    world.write("other", "export default (ctx) => ctx.db.gate.get('x')");
    world.write("dies", "export default async (ctx) => { console.log('last words'); await ctx.db.messages.list(); process.exit(3) }");
    let (other, error) = tokio::join!(world.call("other", json!({})), async {
        let error = world.refused("dies").await;
        world.data.open_gate(1).await;
        error
    });
    other.expect("the other function is unharmed");
    assert_eq!(
        (error.code(), error.kind()),
        ("FUNCTION_CRASHED", ErrorKind::BadGateway)
    );
    assert!(error.message().contains("exited with code 3"), "{error}");
    assert_eq!(world.stats().crashes, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_ends_the_process() {
    let world = World::new();
    world.write("other", "export default (ctx) => 1");
    let check = async |name: &str, memory: u64, body: &str| {
        world.write_as(
            name,
            "index.js",
            &format!("export default async () => {{ {body} }}"),
            |function| {
                function.memory_mib = memory;
            },
        );
        let error = world.refused(name).await;
        assert_eq!(error.code(), "FUNCTION_CRASHED", "{body}: {error}");
        assert!(error.message().contains("out of memory"), "{error}");
        assert_eq!(world.value("other", json!({})).await, 1);
    };
    let heap = "const all = []; for (;;) all.push({ a: new Array(100).fill(all.length) })";
    check("heap", 128, heap).await;
    check("small", 32, heap).await;
    let buffers = "const all = []; for (;;) { all.push(Buffer.alloc(8 << 20, 1)); await new Promise((d) => setTimeout(d, 10)) }";
    check("buffers", 128, buffers).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_writes_to_the_socket_is_ended() {
    let world = World::new();
    world.write("forges", "import fs from 'node:fs'\nexport default async () => { fs.writeSync(0, Buffer.alloc(64, 255)); await new Promise(() => {}) }");
    let error = world.refused("forges").await;
    assert_eq!(error.code(), "FUNCTION_CRASHED");
    assert!(error.message().contains("frame of 4294967295 bytes"), "{error}");
    world.write("closes", "import fs from 'node:fs'\nexport default async () => { fs.closeSync(0); await new Promise(() => {}) }");
    assert_eq!(world.refused("closes").await.code(), "FUNCTION_CRASHED");
    world.write(
        "reads",
        "export default async () => { for await (const _ of process.stdin) return 'data'; return 'empty' }",
    );
    assert_eq!(world.value("reads", json!({})).await, "empty");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_node_every_call_says_so() {
    let world = World::with(|options| options.node.binary = Some("/nowhere/node".into()));
    world.write("any", "export default () => 1");
    let error = world.refused("any").await;
    assert_eq!(error.code(), "FUNCTION_UNAVAILABLE");
    assert!(error.message().contains("install Node.js 20.10"), "{error}");
    let report = world.worker.check().await;
    assert_eq!(report.status, Status::Degraded);
    assert!(
        report
            .message
            .is_some_and(|message| message.contains("install Node.js"))
    );
    world.stop().await;
}
