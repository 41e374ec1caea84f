//! `ctx.db` travels back over the stream of its call.

use serde_json::{Value, json};

use crate::support::{Project, Remote, Worker, until, value};

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_makes_the_round_trip() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&worker]).await;
    project.write(
        "all",
        "export default async (ctx) => {
            const made = await ctx.db.messages.create({ content: ctx.input.text });
            const changed = await ctx.db.messages.update(made.id, { read: true });
            const got = await ctx.db.messages.get(made.id);
            const { total } = await ctx.db.messages.list();
            await ctx.db.messages.delete(made.id);
            return [made.content, changed.read, got, total, await ctx.db.messages.get(made.id)];
        }",
    );
    let found = value(
        &*remote.functions,
        project.invocation("all", &json!({"text": "hé"})),
    )
    .await;
    assert_eq!(
        found,
        json!(["hé", true, {"content": "hé", "id": "doc-1", "read": true}, 1, null])
    );
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_may_be_open_wait_and_all_are_answered() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&worker]).await;
    project.write(
        "many",
        "export default async (ctx) => {
            const all = Array.from({ length: 500 }, (_, n) => ctx.db.messages.create({ n }));
            return (await Promise.all(all)).reduce((sum, doc) => sum + doc.n, 0);
        }",
    );
    let sum = value(&*remote.functions, project.invocation("many", &json!({}))).await;
    assert_eq!(sum, 500 * 499 / 2);
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_five_mebibytes_go_all_ways_beside_small_calls() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&worker]).await;
    project.write("echo", "export default (ctx) => ctx.input");
    project.write(
        "stores",
        "export default async (ctx) => {
            const made = await ctx.db.messages.create({ text: ctx.input });
            const got = await ctx.db.messages.get(made.id);
            return got.text === ctx.input && got.text.length;
        }",
    );
    let text: String = (0..5 << 20)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect();
    let large = Value::from(text);
    let large_calls = futures_util::future::join_all((0..4).map(|_| async {
        let echoed = value(&*remote.functions, project.invocation("echo", &large)).await;
        assert!(echoed == large, "it comes back as it went");
        let stored = value(&*remote.functions, project.invocation("stores", &large)).await;
        assert_eq!(stored, 5 << 20);
    }));
    let small_calls = async {
        for number in 0..200 {
            let echoed = value(&*remote.functions, project.invocation("echo", &json!(number))).await;
            assert_eq!(echoed, number);
        }
    };
    tokio::join!(large_calls, small_calls);
    remote.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_has_ended_asks_nothing_any_more() {
    let project = Project::new();
    let worker = Worker::start("w1", project.options()).await;
    let remote = Remote::to(&[&worker]).await;
    let told = project.path("told");
    project.write(
        "late",
        &format!(
            "import fs from 'node:fs'
             export default (ctx) => {{
                const late = () => ctx.db.messages.create({{}}).catch((e) => fs.writeFileSync({told:?}, e.code));
                ctx.db.gate.get('x').catch((e) => fs.writeFileSync({told:?}, e.code));
                setTimeout(late, 20);
                return 1;
            }}"
        ),
    );
    value(&*remote.functions, project.invocation("late", &json!({}))).await;
    until("the handler is told", || {
        std::fs::read_to_string(&told).is_ok_and(|code| code == "INVOCATION_ENDED")
    })
    .await;
    project.data.open_gate();
    remote.stop().await;
    worker.stop().await;
}
