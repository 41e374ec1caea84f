//! Functions in TypeScript: what they may be written in, and where their errors are said to be.

use alyx_tests::{Form, Project, Server, eventually};
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    functions_in_typescript_run,
    the_readmes_typescript_runs_as_it_stands,
    the_guides_example_runs,
    errors_are_where_they_are_in_the_typescript_file,
}

const SCHEMA: &str =
    "collections:\n  notes: {fields: {text: {type: text}}}\n  users: {fields: {name: {type: text}}}\n";

async fn with_functions(form: Form, functions: &[(&str, &str)]) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    for (name, code) in functions {
        project.write(&format!("functions/{name}"), code);
    }
    let server = form.start(&project).await;
    (project, server)
}

async fn call(server: &Server, name: &str, input: Value) -> Value {
    let reply = server
        .http()
        .post(&format!("/api/functions/{name}"), &input)
        .await;
    assert_eq!(reply.status, 200, "{name}: {reply:?}");
    reply.json()
}

const NOTES: &str = r#"import type { Context, Note } from "./_shared/types";
import { shout, Level } from "./_shared/words.ts";
import { defineFunction } from "@alyx/functions";
import { Counter } from "./_shared/counter.js";

interface Input { text: string; level?: Level }

const counter = new Counter(40);

export default defineFunction({
  input: { text: { type: "string", required: true } },
  async handler(input: Input, ctx: Context) {
    const made = (await ctx.db.notes.create({ text: shout(input.text) })) as Note;
    const all = await ctx.db.notes.list<Note>({});
    return { text: made.text, total: all.total!, level: Level[input.level ?? Level.Low], count: counter.next() };
  },
});
"#;

/// Every kind of file, and every way to name another one.
const FILES: [(&str, &str); 11] = [
    ("notes.ts", NOTES),
    (
        "_shared/types.ts",
        "export interface Note { id: string; text: string }\nexport type Context = any;\n",
    ),
    (
        "_shared/words.ts",
        "export enum Level { Low, High = 5 }\nexport const shout = (text: string): string => `${text}!`;\n",
    ),
    (
        "_shared/counter.ts",
        "export class Counter {\n  private readonly step: number = 2;\n  constructor(private value: number) {}\n  next(): number { return (this.value += this.step); }\n}\n",
    ),
    (
        "strict.mts",
        "import { shout } from './_shared/words';\nexport default (ctx: { input: { a: string } }) => shout(ctx.input.a);\n",
    ),
    (
        "common.cts",
        "import path = require('node:path');\nimport parts = require('./_shared/parts.cts');\nexport = (ctx: any): string => path.join('a', parts.name as string);\n",
    ),
    (
        "_shared/parts.cts",
        "const name: string = 'b';\nexport = { name };\n",
    ),
    (
        "folder/index.ts",
        "import { part } from './part';\nexport default (): number => part;\n",
    ),
    ("folder/part.ts", "export const part: number = 7;\n"),
    (
        "script.js",
        "import { shout } from './_shared/words.ts';\nexport default () => shout('js');\n",
    ),
    ("notes.yaml", "runtime: node\ndescription: In TypeScript.\n"),
];

async fn functions_in_typescript_run(form: Form) {
    let (_project, server) = with_functions(form, &FILES).await;
    let notes = call(&server, "notes", json!({"text": "hello", "level": 5})).await;
    let expected = json!({"text": "hello!", "total": 1, "level": "High", "count": 42});
    assert_eq!(notes, expected);
    let refused = server.http().post("/api/functions/notes", &json!({})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "VALIDATION_ERROR")
    );
    assert_eq!(call(&server, "strict", json!({"a": "x"})).await, "x!");
    assert_eq!(call(&server, "common", json!({})).await, "a/b");
    assert_eq!(call(&server, "folder", json!({})).await, 7);
    assert_eq!(call(&server, "script", json!({})).await, "js!");
    let listed = server.http().get("/api/functions/notes").await.json();
    assert_eq!(
        (&listed["runtime"], &listed["description"]),
        (&json!("node"), &json!("In TypeScript."))
    );
}

/// The example of the README, beside what `alyx generate sdk` would have made.
const README: &str = r"import { getContext } from './sdk';

export default async function handler(req, res) {
  const { alyx, auth, env } = getContext();
  
  // Access database
  const users = await alyx.collections.users.list();
  
  // Invoke other functions
  const result = await alyx.functions.invoke('send-email', {
    to: auth.email,
    subject: 'Hello!'
  });
  
  // Publish custom events
  await alyx.events.publish({
    type: 'custom',
    source: 'my-app',
    action: 'user-action',
    payload: { user_id: auth.id }
  });
  
  return res.json({ success: true });
}
";

const SDK: &str = r#"import { getContext as context } from "@alyx/functions";

interface Sdk { alyx: any; auth: { id: string; email: string }; env: Record<string, string> }

export function getContext(): Sdk {
  const ctx = context();
  const note = (text: string) => ctx.db.notes.create({ text });
  return {
    alyx: {
      collections: ctx.db,
      functions: { invoke: (name: string, input: { to: string }) => note(`${name} to ${input.to}`) },
      events: { publish: (event: { action: string }) => note(event.action) },
    },
    auth: ctx.auth ?? { id: "1", email: "ann@example.com" },
    env: ctx.env,
  };
}
"#;

async fn the_readmes_typescript_runs_as_it_stands(form: Form) {
    let (_project, server) = with_functions(
        form,
        &[
            ("example.ts", README),
            ("sdk/index.ts", SDK),
            ("sdk/README.md", ""),
        ],
    )
    .await;
    assert_eq!(
        call(&server, "example", json!({})).await,
        json!({"success": true})
    );
    let notes = server.http().get("/api/collections/notes?sort=id").await.json();
    let texts: Vec<&Value> = notes["docs"]
        .as_array()
        .expect("notes")
        .iter()
        .map(|note| &note["text"])
        .collect();
    assert_eq!(texts, ["send-email to ann@example.com", "user-action"]);
}

async fn the_guides_example_runs(form: Form) {
    let blocks = crate::docs::blocks("docs/functions.md");
    let (_, code) = blocks
        .iter()
        .find(|(language, text)| language == "ts" && text.starts_with("// functions/price.ts"))
        .expect("the guide has it");
    let functions = [
        ("price.ts", code.as_str()),
        (
            "_shared/types.ts",
            "export interface Order { level: string; amount: number }\n",
        ),
        (
            "_shared/discount.ts",
            "export const enum Level { None, Silver = 10, Gold = Silver * 2 }\n\
             export const discount = (level: Level) => level / 100;\n",
        ),
    ];
    let (_project, server) = with_functions(form, &functions).await;
    let price = call(&server, "price", json!({"amount": 100, "level": 20})).await;
    assert_eq!(price, json!({"level": "Gold", "amount": 80}));
    let plain = call(&server, "price", json!({"amount": 1})).await;
    assert_eq!(plain["level"], "None");
}

async fn errors_are_where_they_are_in_the_typescript_file(form: Form) {
    let code = "interface Input {\n  name: string;\n}\n\nexport default async (ctx: { input: Input }): Promise<string> => {\n  \
                const check = (name: string): string => { const n = name as any; return n.first.second; };\n  \
                return check(ctx.input.name);\n};\n";
    let (_project, server) = with_functions(form, &[("fails.ts", code)]).await;
    let reply = server
        .http()
        .post("/api/functions/fails", &json!({"input": {"name": "x"}}))
        .await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (500, "FUNCTION_ERROR"),
        "{reply:?}"
    );
    if form == Form::Embedded {
        let logs = reply.json()["logs"].to_string();
        assert!(logs.contains("functions/fails.ts:6:83"), "{logs}");
        assert!(logs.contains("functions/fails.ts:7:10"), "{logs}");
    }
}

// One form alone: the harness takes no cluster for ready whose control plane reports a fault.
#[tokio::test]
async fn a_file_that_is_no_typescript_takes_only_its_users_with_it() {
    let functions = [
        (
            "user.ts",
            "import { rate } from './_shared/rates';\nexport default () => rate;\n",
        ),
        (
            "plain.js",
            "import { rate } from './_shared/rates.js';\nexport default () => rate;\n",
        ),
        (
            "_shared/rates.ts",
            "export const rate: number = 1;\nexport const other: = 2;\n",
        ),
        ("fine.ts", "export default (): string => 'fine';\n"),
    ];
    let (project, server) = with_functions(Form::Embedded, &functions).await;
    assert_eq!(call(&server, "fine", json!({})).await, "fine");
    for name in ["user", "plain"] {
        let reply = server
            .http()
            .post(&format!("/api/functions/{name}"), &json!({}))
            .await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (503, "FUNCTION_UNAVAILABLE"),
            "{reply:?}"
        );
        let words = reply.json()["error"]["message"].to_string();
        assert!(words.contains("functions/_shared/rates.ts:2:21: "), "{words}");
    }
    let health = server.http().get("/health").await.text;
    assert!(health.contains("rates.ts:2:21"), "{health}");
    project.write("functions/_shared/rates.ts", "export const rate: number = 3;\n");
    eventually("the mended function answers", async || {
        let reply = server.http().post("/api/functions/user", &json!({})).await;
        if reply.text == "3" { Ok(()) } else { Err(reply) }
    })
    .await;
}
