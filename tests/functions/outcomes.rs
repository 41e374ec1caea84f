//! However a call ends, it ends the same in a worker of its own as in the same process.

use std::time::{Duration, Instant};

use alyx_function_worker::FunctionWorker;
use alyx_service::function::{FunctionService, Invocation, Outcome};
use alyx_service::tasks::Tasks;
use serde_json::{Value, json};

use crate::support::{PLENTY, Project, Remote, Worker, returned};

const SHORT: Duration = Duration::from_millis(300);

/// Handlers' bodies, and a word of what each must lead to.
const BODIES: &[(&str, &str)] = &[
    (
        "return { hello: ctx.input.name, caller: ctx.auth.id, id: ctx.requestId }",
        "Ann",
    ),
    ("return undefined", "null"),
    ("return 'é漢🎉\\n\"'", "漢"),
    ("return [1.5, null, true, { a: [] }]", "1.5"),
    (
        "console.log('a line', { n: 1 }); console.error('x'); return 1",
        "a line",
    ),
    (
        "for (let i = 0; i < 3000; i++) console.log('l'.repeat(100), i); return 1",
        "lllll",
    ),
    (
        "console.log('big', { text: 'y'.repeat(900000) }); return 1",
        "yyyyy",
    ),
    (
        "throw new Error('Authentication required')",
        "Authentication required",
    ),
    (
        "throw { code: 'VALIDATION_ERROR', message: 'Email is required', field: 'email' }",
        "email",
    ),
    (
        "throw Object.assign(new Error('gone'), { code: 'GONE', status: 410, details: { a: 1 } })",
        "410",
    ),
    ("throw { code: 'X', status: 99 }", "X"),
    ("throw undefined", "undefined"),
    ("throw 'é'.repeat(1 << 20)", "éééé"),
    ("throw { message: 'm', extra: 'z'.repeat(200000) }", "zzzz"),
    ("return 1n", "JSON"),
    ("return 'x'.repeat(11 << 20)", "larger than"),
    ("return await ctx.db.messages.list()", "docs"),
    ("return await ctx.db.nothing.list()", "COLLECTION_NOT_FOUND"),
    (
        "return await ctx.db.messages.create({ content: 'taken' })",
        "choose another",
    ),
    (
        "try { await ctx.db.messages.create({ content: 'taken' }) } catch (e) { return [e.code, e.status, e.field, e.details] }",
        "choose another",
    ),
    ("process.exit(3)", "exited with code 3"),
    ("await new Promise(() => {})", "did not finish within 300ms"),
    ("while (true) {}", "did not finish within 300ms"),
];

/// Whole modules.
const MODULES: &[(&str, &str)] = &[
    ("export default async (ctx => {", "SyntaxError"),
    ("throw new Error('no database url')", "no database url"),
    ("throw new Error('w'.repeat(300000))", "wwww"),
    ("export const nothing = 1", "exports no handler"),
    (
        "export default { input: { a: { type: 'string', required: true } }, handler: (input) => input.a }",
        "VALIDATION_ERROR",
    ),
    (
        "export default (req, res) => res.json({ error: 'bad signature', hint: 1 }, 401)",
        "bad signature",
    ),
];

/// Everything that a caller sees of a call's end, but for times.
async fn told(functions: &dyn FunctionService, invocation: Invocation) -> Value {
    match functions.invoke(invocation).await {
        Ok(completion) => {
            let logs: Vec<_> = completion
                .logs
                .iter()
                .map(|line| json!([line.level, line.message, line.data]))
                .collect();
            let outcome = match &completion.outcome {
                Outcome::Returned(_) => returned(&completion),
                Outcome::Threw(thrown) => {
                    json!({"code": thrown.code, "status": thrown.status, "message": thrown.message, "extra": thrown.extra})
                }
            };
            json!({"outcome": outcome, "logs": logs})
        }
        Err(error) => json!({
            "code": error.code(),
            "kind": format!("{:?}", error.kind()),
            "message": error.message(),
            "field": error.field(),
            "again": error.retry_after().is_some(),
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_the_same_in_a_worker_of_its_own() {
    let project = Project::new();
    let tasks = Tasks::new();
    let direct = FunctionWorker::start(project.options(), tasks.clone());
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&worker]).await;
    let bodies = BODIES.iter().map(|(body, word)| {
        let limited = word.contains("300ms");
        (
            format!("export default async (ctx) => {{ {body} }}"),
            limited,
            *word,
        )
    });
    let modules = MODULES
        .iter()
        .map(|(source, word)| ((*source).to_owned(), false, *word));
    for (number, (source, limited, word)) in bodies.chain(modules).enumerate() {
        let name = format!("f{number}");
        project.write_as(&name, &source, |function| {
            if limited {
                function.timeout = SHORT;
            }
        });
        let invocation = || project.invocation(&name, &json!({"name": "Ann"}));
        let expected = told(&*direct, invocation()).await;
        let shown = expected.to_string();
        assert!(shown.contains(word), "{source}: {:.300}", shown);
        let found = told(&*remote.functions, invocation()).await;
        let found_shown = found.to_string();
        assert!(
            found == expected,
            "{source}:\n{found_shown:.500}\nis not\n{shown:.500}"
        );
    }
    remote.stop().await;
    worker.stop().await;
    direct.drain(PLENTY).await;
    assert!(tasks.stop(PLENTY).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_at_all_is_told_in_the_same_words() {
    let project = Project::new();
    let tasks = Tasks::new();
    let mut options = project.options();
    options.node.max_instances = 1;
    options.node.concurrency = 1;
    let direct = FunctionWorker::start(options.clone(), tasks.clone());
    let worker = Worker::start("w1", options).await;
    let remote = Remote::to(&[&worker]).await;
    project.write("gate", "export default (ctx) => ctx.db.gate.get('x')");
    let mut gate_passed = 0;
    for functions in [&*direct as &dyn FunctionService, &*remote.functions] {
        let busy = functions.invoke(project.invocation("gate", &json!({})));
        let late = async {
            gate_passed += 1;
            project.data.at_gate(gate_passed).await;
            let mut late = project.invocation("gate", &json!({}));
            late.deadline = Instant::now() + SHORT;
            let late = told(functions, late).await;
            project.data.open_gate();
            late
        };
        let (busy, late) = tokio::join!(busy, late);
        busy.expect("the one before it ends");
        assert_eq!(late["code"], "FUNCTION_TIMEOUT");
        assert_eq!(
            late["message"],
            "function `gate` was not started: no process was free before the deadline"
        );
    }
    remote.stop().await;
    worker.stop().await;
    direct.drain(PLENTY).await;
    assert!(tasks.stop(PLENTY).await);
}
