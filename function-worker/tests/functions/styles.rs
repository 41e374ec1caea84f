//! Every way to write a handler, and the checks of its input.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::World;

/// File name and source; each greets `input.name`.
const STYLES: [(&str, &str); 20] = [
    ("a.js", "export default async function handler(ctx) { return { hello: ctx.input.name } }"),
    ("a.js", "export default (ctx) => ({ hello: ctx.input.name || 'World' })"),
    ("a.mjs", "export default async ({ name }) => ({ hello: name })"),
    ("a.js", "export default async function h(req, res) { return res.json({ hello: req.input.name }) }"),
    ("a.js", "export default function (req, res) { res.status(200).json({ hello: req.input.name }) }"),
    ("a.js", "export default (req, res) => res.json({ hello: req.body === 'text' && req.input.name })"),
    ("a.js", "export default async (input, ctx) => ({ hello: input.name, db: ctx.db && undefined })"),
    ("a.js", "export default async (input, context) => ({ hello: context.input.name })"),
    ("a.js", "export default { async handler(input, ctx) { return { hello: input.name } } }"),
    ("a.js", "export default { greet: 'x', handler(input) { return { hello: this.greet && input.name } } }"),
    (
        "a.js",
        "import { defineFunction } from '@alyx/functions'
        export default defineFunction({ input: { name: { type: 'string' } }, handler: (input) => ({ hello: input.name }) })",
    ),
    (
        "a.js",
        "import { getContext } from '@alyx/functions'
        export default async () => { await null; return { hello: getContext().input.name } }",
    ),
    ("a.js", "export default defineFunction({ handler: async (input) => ({ hello: input.name }) })"),
    (
        "a.js",
        "export const config = { input: { name: { type: 'string', required: true } } }
        export default async (ctx) => ({ hello: ctx.input.name })",
    ),
    ("a.js", "export async function handler(ctx) { return { hello: ctx.input.name } }"),
    ("a.cjs", "module.exports = async (ctx) => ({ hello: ctx.input.name })"),
    ("a.js", "module.exports = { input: { name: 'string' }, handler: async (input) => ({ hello: input.name }) }"),
    (
        "a.js",
        "const { defineFunction } = require('@alyx/functions')
        module.exports = defineFunction({ handler: (input) => ({ hello: input.name }) })",
    ),
    ("a.cjs", "exports.__esModule = true; exports.default = async (ctx) => ({ hello: ctx.input.name })"),
    (
        "a.js",
        "const fs = await import('node:fs')
        export default (ctx) => ({ hello: fs.existsSync('a.js') && ctx.input.name })",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_style_of_handler_works() {
    let world = World::new();
    for (number, (file, source)) in STYLES.into_iter().enumerate() {
        let name = format!("style{number}");
        world.write_as(&name, file, source, |_| {});
        let input = json!({"name": "Ann", "body": "text"});
        assert_eq!(
            world.value(&name, input).await,
            json!({"hello": "Ann"}),
            "{file}: {source}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_argument_is_input_and_context_at_once() {
    let world = World::new();
    world.write(
        "seen",
        "export default async (first, second) => ({
            json: JSON.parse(JSON.stringify(first)), keys: Object.keys(first), spread: { ...first },
            auth: first.auth, same: first.db === second.db && first.log === second.log, name: first.name,
            has: 'name' in first && 'db' in first,
        })",
    );
    let input = json!({"name": "n", "auth": {"id": "forged"}, "db": 1});
    let seen = world.value("seen", input.clone()).await;
    assert_eq!(
        seen["json"],
        json!({"name": "n", "auth": null, "db": {}}),
        "members of the context win"
    );
    assert_eq!(seen["keys"], json!(["name", "auth", "db"]));
    assert_eq!(seen["auth"], Value::Null, "no input can pose as the caller");
    assert_eq!(seen["same"], true);
    assert_eq!(seen["has"], true);

    world.write(
        "pure",
        "export default { handler: (input) => ({ auth: input.auth, db: input.db }) }",
    );
    assert_eq!(
        world.value("pure", input).await,
        json!({"auth": {"id": "forged"}, "db": 1})
    );

    world.write("echo", "export default (ctx) => ctx.input");
    for input in [
        json!({}),
        json!([1, 2]),
        json!("text"),
        json!(7),
        json!(false),
        json!({"deep": [{"ü": "→"}]}),
    ] {
        assert_eq!(world.value("echo", input.clone()).await, input);
    }
    assert_eq!(
        world.value("echo", Value::Null).await,
        json!({}),
        "no input reads as an empty object"
    );
    world.stop().await;
}

const RULES: &str = "export default {
    input: {
        title: { type: 'string', required: true, minLength: 2, maxLength: 5 },
        count: { type: 'integer', min: 1, max: 9 },
        ratio: { type: 'number' },
        tags: { type: 'array', items: 'string', optional: true, maxLength: 2 },
        kind: { enum: ['a', 'b'] },
        slug: { type: 'string', pattern: '^[a-z]+$' },
        done: 'boolean',
        who: { type: 'object', properties: { name: { type: 'string', required: true } } },
        anything: { type: 'any' },
    },
    handler: (input) => 'ran',
}";

/// Input, the message it gets, the field that is told.
const BROKEN: [(&str, &str, &str); 18] = [
    ("{}", "Field 'title' is required", "title"),
    (r#"{"title":null}"#, "Field 'title' is required", "title"),
    (r#"{"title":5}"#, "Field 'title' must be of type string", "title"),
    (
        r#"{"title":"x"}"#,
        "Field 'title' must be at least 2 characters",
        "title",
    ),
    (
        r#"{"title":"xxxxxx"}"#,
        "Field 'title' must be at most 5 characters",
        "title",
    ),
    (
        r#"{"title":"ok","count":1.5}"#,
        "Field 'count' must be of type integer",
        "count",
    ),
    (
        r#"{"title":"ok","count":0}"#,
        "Field 'count' must be at least 1",
        "count",
    ),
    (
        r#"{"title":"ok","count":10}"#,
        "Field 'count' must be at most 9",
        "count",
    ),
    (
        r#"{"title":"ok","ratio":"1"}"#,
        "Field 'ratio' must be of type number",
        "ratio",
    ),
    (
        r#"{"title":"ok","tags":"a"}"#,
        "Field 'tags' must be an array",
        "tags",
    ),
    (
        r#"{"title":"ok","tags":["a",1]}"#,
        "Field 'tags[1]' must be of type string",
        "tags[1]",
    ),
    (
        r#"{"title":"ok","tags":["a","b","c"]}"#,
        "Field 'tags' must be at most 2 items",
        "tags",
    ),
    (
        r#"{"title":"ok","kind":"c"}"#,
        "Field 'kind' must be one of: a, b",
        "kind",
    ),
    (
        r#"{"title":"ok","slug":"A"}"#,
        "Field 'slug' must match ^[a-z]+$",
        "slug",
    ),
    (
        r#"{"title":"ok","done":"yes"}"#,
        "Field 'done' must be of type boolean",
        "done",
    ),
    (
        r#"{"title":"ok","who":[]}"#,
        "Field 'who' must be of type object",
        "who",
    ),
    (
        r#"{"title":"ok","who":{}}"#,
        "Field 'who.name' is required",
        "who.name",
    ),
    ("[1]", "Input must be an object", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn input_that_breaks_its_rules_never_reaches_the_handler() {
    let world = World::new();
    world.write("checked", RULES);
    for (input, expected, field) in BROKEN {
        let thrown = world
            .thrown("checked", serde_json::from_str(input).expect("JSON"))
            .await;
        assert_eq!(thrown.code.as_deref(), Some("VALIDATION_ERROR"));
        assert_eq!(thrown.status, Some(400));
        assert_eq!(thrown.message, expected);
        assert_eq!(thrown.extra["field"], field);
        assert_eq!(thrown.extra["details"][0]["message"], expected);
        assert_eq!(thrown.extra["details"][0]["field"], field);
    }
    let fine = json!({"title": "ok", "count": 9, "tags": [], "kind": null, "more": 1, "anything": [null]});
    assert_eq!(world.value("checked", fine).await, "ran");
    let both = world.thrown("checked", json!({"count": "x"})).await;
    assert_eq!(
        both.extra["details"].as_array().map(Vec::len),
        Some(2),
        "every problem is told"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_example_runs() {
    let world = World::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chat/functions");
    for name in ["sendMessage", "getStats"] {
        let file = format!("{name}.js");
        let source = std::fs::read_to_string(folder.join(&file)).expect("the example is there");
        world.write_as(name, &file, &source, |_| {});
    }
    let input = json!({"channel": "general", "content": "Hello world!", "author": "Bob"});
    let sent = world.value("sendMessage", input).await;
    assert_eq!(sent["author"], "Bob");
    assert_eq!(sent["id"], "doc-1");
    let anonymous = world
        .value("sendMessage", json!({"channel": "random", "content": "Hi"}))
        .await;
    assert!(
        anonymous["author"]
            .as_str()
            .is_some_and(|author| author.starts_with("Anon-")),
        "{anonymous}"
    );
    let stats = world.value("getStats", json!({})).await;
    assert_eq!(stats["totalMessages"], 2);
    assert_eq!(stats["channels"], json!({"general": 1, "random": 1}));
    let refused = world.thrown("sendMessage", json!({"channel": "general"})).await;
    assert_eq!(refused.message, "Field 'content' is required");
    world.stop().await;
}
