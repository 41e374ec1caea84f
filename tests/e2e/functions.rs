//! Functions over HTTP, in real processes of Node, Python and Go.

use alyx_tests::{Form, Project, Server, eventually};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    the_demo_functions_answer_as_documented,
    wrapped_and_bare_calls_get_their_own_shapes,
    the_context_reaches_data_logs_and_settings_but_not_the_server,
    time_is_up_for_waits_and_for_busy_loops_while_others_go_on,
    functions_are_listed_without_paths_or_settings,
    functions_in_python_do_what_those_in_node_do,
    a_folder_with_an_index_is_a_function_too,
    functions_in_go_do_what_those_in_node_do,
}

const SCHEMA: &str = "collections: {notes: {fields: {text: {type: text}}}}\n";

async fn with_functions(form: Form, functions: &[(&str, &str)]) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    for (name, code) in functions {
        project.write(&format!("functions/{name}"), code);
    }
    let server = form.start(&project).await;
    (project, server)
}

async fn the_demo_functions_answer_as_documented(form: Form) {
    let project = Project::chat();
    let server = form.start(&project).await;
    let http = server.http();
    let call = json!({"input": {"channel": "general", "content": "Hello world!", "author": "Bob"}});
    let sent = http.post("/api/functions/sendMessage", &call).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let sent = sent.json();
    assert_eq!(sent["success"], true);
    assert!(sent["duration_ms"].is_number(), "{sent}");
    assert_eq!(sent["output"]["content"], "Hello world!");
    let stored = http
        .get(&format!(
            "/api/collections/messages/{}",
            sent["output"]["id"].as_str().expect("an id")
        ))
        .await;
    assert_eq!(stored.json()["author"], "Bob");

    let anonymous = json!({"input": {"channel": "random", "content": "hi"}});
    let anonymous = http.post("/api/functions/sendMessage", &anonymous).await.json();
    assert!(
        anonymous["output"]["author"]
            .as_str()
            .is_some_and(|a| a.starts_with("Anon-")),
        "{anonymous}"
    );

    let stats = http
        .post("/api/functions/getStats", &json!({"input": {}}))
        .await
        .json();
    assert_eq!(stats["output"]["totalMessages"], 2, "{stats}");
    assert_eq!(stats["output"]["channels"], json!({"general": 1, "random": 1}));
    assert_eq!(stats["output"]["recentAuthors"].as_array().map(Vec::len), Some(2));

    let refused = http
        .post(
            "/api/functions/sendMessage",
            &json!({"input": {"channel": "general"}}),
        )
        .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let refused = refused.json();
    assert_eq!(
        (&refused["success"], &refused["error"]["code"]),
        (&json!(false), &json!("VALIDATION_ERROR")),
        "{refused}"
    );
}

async fn wrapped_and_bare_calls_get_their_own_shapes(form: Form) {
    let code = "export default { handler(input) {
        if (input?.fail) { const error = new Error('no money'); error.code = 'PAYMENT_REQUIRED'; error.status = 402; throw error; }
        if (input?.crash) throw new Error('boom');
        return { got: input };
    } };";
    let (_project, server) = with_functions(form, &[("echo.js", code)]).await;
    let http = server.http();
    let check = async |body: Value, status: u16, expected: Value| {
        let reply = http.post("/api/functions/echo", &body).await;
        assert_eq!(reply.status, status, "{body} → {reply:?}");
        let mut got = reply.json();
        if let Some(envelope) = got.as_object_mut() {
            envelope.remove("duration_ms");
            envelope.remove("logs");
        }
        if let Some(error) = got.get_mut("error").and_then(Value::as_object_mut) {
            error.remove("request_id");
        }
        assert_eq!(got, expected, "{body}");
    };
    check(
        json!({"input": {"a": 1}}),
        200,
        json!({"success": true, "output": {"got": {"a": 1}}}),
    )
    .await;
    check(json!({"a": 1}), 200, json!({"got": {"a": 1}})).await;
    check(
        json!({"input": 1, "b": 2}),
        200,
        json!({"got": {"input": 1, "b": 2}}),
    )
    .await;
    let paid = json!({"code": "PAYMENT_REQUIRED", "message": "no money"});
    check(json!({"fail": true}), 402, json!({"error": paid})).await;
    check(
        json!({"input": {"fail": true}}),
        402,
        json!({"success": false, "error": paid}),
    )
    .await;
    let boom = json!({"code": "FUNCTION_ERROR", "message": "boom"});
    check(json!({"crash": true}), 500, json!({"error": boom})).await;
    let broken = http.send(Method::POST, "/api/functions/echo", &[], "{").await;
    assert_eq!(
        (broken.status, broken.code().as_str()),
        (400, "INVALID_JSON"),
        "{broken:?}"
    );
    let empty = http.send(Method::POST, "/api/functions/echo", &[], "").await;
    assert_eq!(empty.json(), json!({"got": {}}), "no body is an empty input");
    let unknown = http.post("/api/functions/nope", &json!({})).await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "FUNCTION_NOT_FOUND")
    );
}

async fn the_context_reaches_data_logs_and_settings_but_not_the_server(form: Form) {
    let code = "export default async function (ctx) {
        const made = await ctx.db.notes.create({ text: ctx.input.text });
        const changed = await ctx.db.notes.update(made.id, { text: 'changed' });
        const listed = await ctx.db.notes.list({ filter: { text: { $eq: 'changed' } }, sort: '-id', limit: 5 });
        const found = await ctx.db.notes.find({});
        const one = await ctx.db.notes.get(made.id);
        const none = await ctx.db.notes.findOne('01890a5d-ac96-774b-bcce-b302099a8057');
        let refused = null;
        try { await ctx.db.notes.create({ nope: 1 }); } catch (error) { refused = error.code; }
        const gone = await ctx.db.notes.delete(made.id);
        ctx.log.info('done', { id: made.id });
        console.log('plain line');
        return { changed: changed.text, listed: listed.docs.length, total: listed.total, data: found.data.length,
                 one: one.text, none, refused, gone, auth: ctx.auth, env: ctx.env, process: Object.keys(process.env) };
    }";
    let project = Project::with_schema(SCHEMA);
    project.write("functions/work.js", code);
    project.write("functions/work.yaml", "env:\n  GREETING: ${GREETING}\n");
    let env = [("GREETING", "hello"), ("SERVER_SECRET", "do-not-leak")];
    let server = form.start_with(&project, &env).await;
    let reply = server
        .http()
        .post("/api/functions/work", &json!({"input": {"text": "new"}}))
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let output = &reply.json()["output"];
    assert_eq!(output["changed"], "changed", "{output}");
    assert_eq!(
        (&output["listed"], &output["total"], &output["data"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(
        (&output["one"], &output["none"]),
        (&json!("changed"), &Value::Null)
    );
    assert_eq!(output["refused"], "VALIDATION_ERROR");
    assert_eq!(output["auth"], Value::Null);
    assert_eq!(output["env"], json!({"GREETING": "hello"}));
    assert!(
        !reply.text.contains("SERVER_SECRET") && !reply.text.contains("do-not-leak"),
        "{}",
        reply.text
    );
    // What a handler logs is for its author, so that only `alyx dev` returns it.
    let logs = reply.json()["logs"].to_string();
    let told = logs.contains("done") && logs.contains("plain line");
    assert_eq!(told, form == Form::Embedded, "{logs}");
}

async fn time_is_up_for_waits_and_for_busy_loops_while_others_go_on(form: Form) {
    let functions = [
        ("wait.js", "export default () => new Promise(() => {});"),
        ("wait.yaml", "timeout: 300ms\n"),
        ("spin.js", "export default () => { for (;;) {} };"),
        ("spin.yaml", "timeout: 300ms\n"),
        ("fine.js", "export default () => 'fine';"),
        ("die.js", "export default () => process.exit(3);"),
        (
            "eat.js",
            "export default () => { const a = []; for (;;) a.push(new Array(1e6).fill(Math.random())); };",
        ),
        ("eat.yaml", "memory: 64mb\ntimeout: 60s\n"),
    ];
    let (_project, server) = with_functions(form, &functions).await;
    let http = server.http();
    let call = async |name: &str| {
        let reply = http.post(&format!("/api/functions/{name}"), &json!({})).await;
        let code = if reply.status == 200 {
            String::new()
        } else {
            reply.code()
        };
        (reply.status, code)
    };
    let (wait, spin, die, eat, fine) =
        tokio::join!(call("wait"), call("spin"), call("die"), call("eat"), call("fine"));
    assert_eq!(wait, (504, "FUNCTION_TIMEOUT".to_owned()));
    assert_eq!(spin, (504, "FUNCTION_TIMEOUT".to_owned()));
    assert_eq!(die, (502, "FUNCTION_CRASHED".to_owned()));
    assert_eq!(eat, (502, "FUNCTION_CRASHED".to_owned()));
    assert_eq!(fine, (200, String::new()));
    assert_eq!(call("fine").await, (200, String::new()));
    assert_eq!(http.get("/health").await.status, 200);
}

#[tokio::test]
async fn an_edited_function_runs_on_the_next_calls_and_calls_in_flight_finish_on_the_old_code() {
    let slow = "export default { async handler(_, ctx) {
        await ctx.db.notes.create({ text: 'started' });
        while ((await ctx.db.notes.list({ filter: { text: 'go' } })).total === 0) await new Promise((r) => setTimeout(r, 5));
        return 'old';
    } };";
    let (project, server) = with_functions(Form::Embedded, &[("slow.js", slow)]).await;
    let http = server.http();
    let in_flight = http.post("/api/functions/slow", &Value::Null);
    let change = async {
        eventually("the call is in flight", || async {
            let total = http.get("/api/collections/notes?text=started").await.json()["total"].clone();
            if total == 1 { Ok(()) } else { Err(total) }
        })
        .await;
        project.write("functions/slow.js", "export default () => 'new';");
        project.write("functions/added.js", "export default () => 'added';");
        // Both files become live together, so the added one tells when the edited one is.
        eventually("the new code is live", || async {
            let reply = http.post("/api/functions/added", &json!({})).await;
            if reply.text == "\"added\"" {
                Ok(())
            } else {
                Err(reply)
            }
        })
        .await;
        assert_eq!(http.post("/api/functions/slow", &json!({})).await.text, "\"new\"");
        assert_eq!(
            http.post("/api/collections/notes", &json!({"text": "go"}))
                .await
                .status,
            201
        );
    };
    let (old, ()) = tokio::join!(in_flight, change);
    assert_eq!(old.text, "\"old\"", "{old:?}");
}

async fn functions_are_listed_without_paths_or_settings(form: Form) {
    let project = Project::chat();
    project.write(
        "functions/getStats.yaml",
        "description: Counts.\nenv: {API_KEY: hush}\n",
    );
    let server = form.start(&project).await;
    let list = server.http().get("/api/functions").await.json();
    assert_eq!(list["count"], 2, "{list}");
    let names: Vec<&str> = list["functions"]
        .as_array()
        .expect("functions")
        .iter()
        .filter_map(|f| f["name"].as_str())
        .collect();
    assert_eq!(names, ["getStats", "sendMessage"]);
    let one = server.http().get("/api/functions/getStats").await;
    assert_eq!(one.json()["description"], "Counts.");
    assert!(
        !one.text.contains("hush") && !one.text.contains(&project.path().display().to_string()),
        "{}",
        one.text
    );
}

/// Python files of a project, by name.
const PYTHON: [(&str, &str); 7] = [
    (
        "hello.py",
        "from _shared import greeting\ndef handler(req, res):\n    return res.json({'message': greeting('Python')})",
    ),
    (
        "_shared.py",
        "def greeting(name):\n    return f'Hello from {name}!'",
    ),
    ("greet.yaml", "env: {GREETING: Hi}\nruntime: python\n"),
    (
        "greet.py",
        "import os\nfrom alyx_functions import FunctionError
SCHEMA = {'input': {'name': {'type': 'string', 'required': True}}}
async def handler(ctx):
    if ctx.input['name'] == 'Eve':
        raise FunctionError('NOT_EVE', 'anybody else', status=403, name='Eve')
    return {'text': f\"{ctx.env['GREETING']} {ctx.input['name']}\", 'process': sorted(os.environ)}",
    ),
    (
        "notes.py",
        "def handler(ctx):
    made = ctx.db.notes.create(text=ctx.input['text'])
    def work(tx):
        tx.notes.update(made['id'], text=tx.notes.get(made['id'])['text'] + '!')
        return tx.notes.create(text='second')
    second = ctx.db.transaction(work)
    def undone(tx):
        tx.notes.create(text='never')
        raise ValueError('no')
    try:
        ctx.db.transaction(undone)
    except ValueError:
        pass
    kept = ctx.db.notes.find(sort='id')['data']
    gone = ctx.db.notes.delete_many(filter={'text': {'$contains': 'o'}})
    return {'kept': [doc['text'] for doc in kept], 'second': second['text'], 'gone': gone}",
    ),
    (
        "slow.py",
        "import time\ndef handler(ctx):\n    while True: time.time()",
    ),
    ("slow.yaml", "timeout: 300ms\n"),
];

async fn functions_in_python_do_what_those_in_node_do(form: Form) {
    let (_project, server) = with_functions(form, &PYTHON).await;
    let http = server.http();
    let hello = http.post("/api/functions/hello", &json!({})).await;
    assert_eq!(
        hello.json(),
        json!({"message": "Hello from Python!"}),
        "{hello:?}"
    );

    let greet = http
        .post("/api/functions/greet", &json!({"input": {"name": "Ann"}}))
        .await;
    assert_eq!(greet.json()["output"]["text"], "Hi Ann", "{greet:?}");
    assert_eq!(
        greet.json()["output"]["process"],
        json!(["GREETING", "LANG", "TZ"])
    );
    let refused = http.post("/api/functions/greet", &json!({"name": 5})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "VALIDATION_ERROR"),
        "{refused:?}"
    );
    let refused = http.post("/api/functions/greet", &json!({"name": "Eve"})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "NOT_EVE"),
        "{refused:?}"
    );
    assert_eq!(refused.json()["error"]["name"], "Eve");

    let notes = http.post("/api/functions/notes", &json!({"text": "first"})).await;
    assert_eq!(
        notes.json(),
        json!({"kept": ["first!", "second"], "second": "second", "gone": {"deleted": 1}}),
        "{notes:?}"
    );
    let slow = http.post("/api/functions/slow", &json!({})).await;
    assert_eq!(
        (slow.status, slow.code().as_str()),
        (504, "FUNCTION_TIMEOUT"),
        "{slow:?}"
    );
    let listed = http.get("/api/functions/hello").await.json();
    assert_eq!(listed["runtime"], "python", "{listed}");
}

async fn a_folder_with_an_index_is_a_function_too(form: Form) {
    let functions = [
        (
            "report/index.py",
            "from parts import ONE\nfrom _shared import TWO\ndef handler(ctx):\n    return [ONE, TWO]",
        ),
        ("report/parts.py", "ONE = 1"),
        ("_shared.py", "TWO = 2"),
        (
            "basket/index.js",
            "import { three } from './parts.js'; import { four } from '../_lib/numbers.js'
             export default () => [three, four]",
        ),
        ("basket/parts.js", "export const three = 3"),
        ("basket/manifest.yaml", "description: Of a shop.\n"),
        ("_lib/numbers.js", "export const four = 4"),
    ];
    let (_project, server) = with_functions(form, &functions).await;
    let http = server.http();
    let report = http.post("/api/functions/report", &json!({})).await;
    assert_eq!(report.json(), json!([1, 2]), "{report:?}");
    let basket = http.post("/api/functions/basket", &json!({})).await;
    assert_eq!(basket.json(), json!([3, 4]), "{basket:?}");
    let listed = http.get("/api/functions/basket").await.json();
    assert_eq!(listed["description"], "Of a shop.", "{listed}");
    assert_eq!(http.get("/api/functions").await.json()["count"], 2);
}

/// Go files of a project, by name. The first two are the guides' own.
const GO: [(&str, &str); 9] = [
    (
        "hello.go",
        r#"package main

import (
    "net/http"
    "github.com/watzon/alyx/pkg/runtime"
)

func Handle(w http.ResponseWriter, r *http.Request) {
    runtime.JSON(w, 200, map[string]string{"message": "Hello from Go!"})
}
"#,
    ),
    (
        "myFunction.go",
        r#"package main

import (
    "github.com/watzon/alyx/pkg/runtime"
)

func Handler(ctx *runtime.Context) (any, error) {
    // ctx.Input - Request body (map[string]any)
    // ctx.Auth - Authenticated user (or nil)
    // ctx.DB - Database client
    // ctx.Log - Logger
    // ctx.Env - Environment variables

    return map[string]string{"result": "success"}, nil
}
"#,
    ),
    ("greet.yaml", "env: {GREETING: Hi}\nruntime: go\n"),
    (
        "greet.go",
        r#"package main

import (
    "os"

    "functions/_shared/words"
    "github.com/watzon/alyx/pkg/runtime"
)

var greeting = os.Getenv("GREETING")

var Schema = runtime.Schema{Input: runtime.Fields{"name": {Type: "string", Required: true}}}

func Handler(ctx *runtime.Context) (any, error) {
    if ctx.Text("name") == "Eve" {
        return nil, runtime.NewError("NOT_EVE", "anybody else").WithStatus(403).With("name", "Eve")
    }
    return map[string]any{"text": words.Join(greeting, ctx.Text("name")), "own": ctx.Env}, nil
}
"#,
    ),
    (
        "_shared/words/words.go",
        "package words\n\nfunc Join(a, b string) string { return a + \" \" + b }\n",
    ),
    (
        "notes/main.go",
        r#"package main

import (
    "errors"

    "github.com/watzon/alyx/pkg/runtime"
)

func Handler(ctx *runtime.Context) (any, error) {
    notes := ctx.DB.Collection("notes")
    made, err := notes.Create(runtime.Doc{"text": ctx.Input["text"]})
    if err != nil {
        return nil, err
    }
    err = ctx.DB.Transaction(func(tx *runtime.DB) error { return louder(tx, made["id"]) })
    if err != nil {
        return nil, err
    }
    undone := ctx.DB.Transaction(func(tx *runtime.DB) error {
        if _, err := tx.Collection("notes").Create(runtime.Doc{"text": "never"}); err != nil {
            return err
        }
        return errors.New("no")
    })
    page, err := notes.List(runtime.Query{Sort: "id"})
    if err != nil {
        return nil, err
    }
    gone, err := notes.DeleteMany(runtime.Doc{"text": runtime.Doc{"$contains": "o"}})
    return runtime.Doc{"kept": texts(page), "total": page.Total, "gone": gone, "undone": undone.Error()}, err
}
"#,
    ),
    (
        "notes/louder.go",
        r#"package main

import "github.com/watzon/alyx/pkg/runtime"

func louder(tx *runtime.DB, id any) error {
    note, err := tx.Collection("notes").Get(id)
    if err != nil {
        return err
    }
    if _, err := tx.Collection("notes").Update(id, runtime.Doc{"text": note["text"].(string) + "!"}); err != nil {
        return err
    }
    _, err = tx.Collection("notes").Create(struct {
        Text string `json:"text"`
    }{"second"})
    return err
}

func texts(page *runtime.Page) (found []any) {
    for _, doc := range page.Docs {
        found = append(found, doc["text"])
    }
    return found
}
"#,
    ),
    (
        "broken.go",
        "package main\n\nimport \"github.com/watzon/alyx/pkg/runtime\"\n\nfunc Handler(ctx *runtime.Context) (any, error)          {\n\treturn missing, nil\n}\n",
    ),
    ("broken.yaml", "description: Does not compile.\n"),
];

/// Until a function that has to be compiled first answers.
async fn compiled(http: &alyx_tests::Http, name: &str, input: &Value) -> Value {
    let path = format!("/api/functions/{name}");
    eventually(&format!("{name} answers"), async || {
        let reply = http.post(&path, input).await;
        if reply.text.contains("still being compiled") {
            Err(reply)
        } else {
            Ok(reply)
        }
    })
    .await
    .json()
}

async fn functions_in_go_do_what_those_in_node_do(form: Form) {
    let (project, server) = with_functions(form, &GO).await;
    let http = server.http();
    let hello = compiled(&http, "hello", &json!({})).await;
    assert_eq!(hello, json!({"message": "Hello from Go!"}));
    let guide = compiled(&http, "myFunction", &json!({})).await;
    assert_eq!(guide, json!({"result": "success"}));

    let greet = compiled(&http, "greet", &json!({"input": {"name": "Ann"}})).await;
    assert_eq!(greet["output"]["text"], "Hi Ann", "{greet}");
    assert_eq!(greet["output"]["own"], json!({"GREETING": "Hi"}));
    let refused = http.post("/api/functions/greet", &json!({"name": 5})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "VALIDATION_ERROR"),
        "{refused:?}"
    );
    let refused = http.post("/api/functions/greet", &json!({"name": "Eve"})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "NOT_EVE"),
        "{refused:?}"
    );
    assert_eq!(refused.json()["error"]["name"], "Eve");

    let notes = compiled(&http, "notes", &json!({"text": "first"})).await;
    assert_eq!(
        notes,
        json!({"kept": ["first!", "second"], "total": 2, "gone": 1, "undone": "no"})
    );

    let broken = compiled(&http, "broken", &json!({})).await;
    assert_eq!(broken["error"]["code"], "FUNCTION_UNAVAILABLE", "{broken}");
    let words = broken["error"]["message"].as_str().unwrap_or_default();
    assert!(words.contains("broken.go:6:9: undefined: missing"), "{words}");

    let listed = http.get("/api/functions/hello").await.json();
    assert_eq!(listed["runtime"], "go", "{listed}");

    // A cluster serves what its control plane was started with, or told to apply.
    if form == Form::Cluster {
        return;
    }
    project.write("functions/broken.go", GO[1].1);
    eventually("the mended function answers", async || {
        let reply = http.post("/api/functions/broken", &json!({})).await;
        if reply.text == r#"{"result":"success"}"# {
            Ok(())
        } else {
            Err(reply)
        }
    })
    .await;
}
