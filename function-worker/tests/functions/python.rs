//! Functions in Python.

use std::time::Duration;

use alyx_service::function::FunctionService;
use serde_json::{Value, json};

use crate::support::{PLENTY, World, eventually, lines, returned};

const SHORT: Duration = Duration::from_millis(700);

/// Each greets `input["name"]`.
const STYLES: [&str; 12] = [
    "def handler(ctx):\n    return {'hello': ctx.input['name']}",
    "def handler(ctx):\n    return {'hello': ctx.get('name', 'World')}",
    "def handler(ctx):\n    return {'hello': ctx['name']}",
    "async def handler(ctx):\n    return {'hello': ctx.input['name']}",
    "def handler(req, res):\n    return res.json({'hello': req.input['name']})",
    "def handler(req, res):\n    res.status(200).json({'hello': req.body['name']})",
    "handler = lambda ctx: {'hello': ctx.input['name']}",
    "SCHEMA = {'input': {'name': {'type': 'string', 'required': True}}}\n\
     def handler(ctx):\n    return {'hello': ctx.input['name']}",
    "from alyx_functions import define_function\n\
     def greet(input, ctx):\n    return {'hello': input['name']}\n\
     default = define_function(greet, {'name': 'string'})",
    "from alyx_functions import define_function\n\
     @define_function(input={'name': 'string'})\n\
     async def handler(input, ctx):\n    return {'hello': input['name']}",
    "from alyx_functions import get_context\n\
     def handler(ctx):\n    return {'hello': get_context().input['name']}",
    "import functools\n\
     def loud(inner):\n    @functools.wraps(inner)\n    def outer(ctx):\n        return inner(ctx)\n    return outer\n\
     @loud\ndef handler(ctx):\n    return {'hello': ctx.input['name']}",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_style_of_handler_works() {
    let world = World::new();
    for (number, source) in STYLES.into_iter().enumerate() {
        let name = format!("style{number}");
        world.python(&name, source);
        assert_eq!(
            world.value(&name, json!({"name": "Ann"})).await,
            json!({"hello": "Ann"}),
            "{source}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_written_as_users_mean_them() {
    let world = World::new();
    world.python(
        "values",
        "import datetime, decimal, uuid, dataclasses
@dataclasses.dataclass
class Point:
    x: int
def handler(ctx):
    return {'at': datetime.datetime(2026, 1, 2, 3, 4, 5), 'day': datetime.date(2026, 1, 2), 'big': 2**60,
            'sum': decimal.Decimal('1.5'), 'id': uuid.UUID(int=1), 'point': Point(1), 'set': {7}, 'ü': '→', 'no': None}",
    );
    assert_eq!(
        world.value("values", json!({})).await,
        json!({"at": "2026-01-02T03:04:05.000Z", "day": "2026-01-02", "big": 1_152_921_504_606_846_976_u64, "sum": 1.5,
            "id": "00000000-0000-0000-0000-000000000001", "point": {"x": 1}, "set": [7], "ü": "→", "no": null})
    );
    world.python("echo", "def handler(ctx):\n    return ctx.input");
    for input in [
        json!([1, 2]),
        json!("text"),
        json!(7),
        json!(false),
        json!({"deep": [{"ü": "→"}]}),
    ] {
        assert_eq!(world.value("echo", input.clone()).await, input);
    }
    assert_eq!(world.value("echo", Value::Null).await, json!({}));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_input_is_refused_with_the_same_words_as_in_node() {
    let world = World::new();
    let rules = json!({
        "title": {"type": "string", "required": true, "min_length": 2, "max_length": 4, "pattern": "^[a-z]+$"},
        "n": {"type": "integer", "min": 1, "max": 3}, "tags": {"type": "array", "items": "string"},
        "kind": {"enum": ["a", "b"]}, "deep": {"type": "object", "properties": {"x": {"type": "boolean", "required": true}}},
    });
    world.python(
        "py",
        &format!(
            "import json\nSCHEMA = {{'input': json.loads('''{rules}''')}}\ndef handler(ctx):\n    return 1"
        ),
    );
    world.write(
        "js",
        &format!("export const config = {{ input: {rules} }}; export default () => 1"),
    );
    for input in [
        json!({}),
        json!({"title": "A"}),
        json!({"title": "abcde", "n": 0}),
        json!({"title": "ab", "n": 4.5, "tags": ["x", 1]}),
        json!({"title": 7, "n": true, "tags": "x", "kind": "c", "deep": {}}),
        json!({"title": null, "deep": {"x": 1}}),
        json!([1]),
    ] {
        let (python, node) = (
            world.thrown("py", input.clone()).await,
            world.thrown("js", input.clone()).await,
        );
        assert_eq!(
            (&python.code, python.status, &python.message),
            (&node.code, node.status, &node.message),
            "{input}"
        );
        assert_eq!(python.extra, node.extra, "{input}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_from_plain_handlers_coroutines_and_threads() {
    let world = World::new();
    world.python(
        "plain",
        "from concurrent.futures import ThreadPoolExecutor
def handler(ctx):
    messages = ctx.db.messages
    made = messages.create({'channel': 'a', 'content': 'one'})
    messages.create(channel='b')
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: ctx.db.messages.create(channel='t'), range(4)))
    return {'made': made, 'got': messages.get(made['id']), 'missing': messages.get('none'),
            'first': messages.find_one({'filter': {'channel': 'b'}}), 'list': messages.list(filter={'channel': 'a'}),
            'found': messages.find(filter={'channel': 't'})['data'], 'deleted': messages.delete(made['id'])}",
    );
    let all = world.value("plain", json!({})).await;
    assert_eq!(
        all["made"],
        json!({"channel": "a", "content": "one", "id": "doc-1"})
    );
    assert_eq!(all["got"], all["made"]);
    assert_eq!(all["missing"], Value::Null);
    assert_eq!(all["first"]["id"], "doc-2");
    assert_eq!(all["list"]["docs"], json!([all["made"]]));
    assert_eq!(all["found"].as_array().map(Vec::len), Some(4));
    assert_eq!(all["deleted"], json!({"deleted": true}));

    world.python(
        "coroutine",
        "import asyncio
async def handler(ctx):
    made = await asyncio.gather(*(ctx.db.messages.create(channel='c') for n in range(20)))
    return {'made': len(made), 'one': (await ctx.db.messages.find_one(filter={'channel': 'c'}))['channel']}",
    );
    assert_eq!(
        world.value("coroutine", json!({})).await,
        json!({"made": 20, "one": "c"})
    );

    world.python(
        "caught",
        "from alyx_functions import DataError
def handler(ctx):
    try:
        ctx.db.nothing.list()
    except DataError as error:
        return {'code': error.code, 'status': error.status, 'message': str(error)}",
    );
    assert_eq!(
        world.value("caught", json!({})).await,
        json!({"code": "COLLECTION_NOT_FOUND", "status": 404, "message": "there is no collection `nothing`"})
    );
    world.python("passed_on", "def handler(ctx):\n    ctx.db.away.list()");
    let thrown = world.thrown("passed_on", json!({})).await;
    assert_eq!(
        (thrown.code.as_deref(), thrown.status),
        (Some("DATABASE_UNAVAILABLE"), Some(503))
    );
    assert_eq!(thrown.extra["retryAfter"], 2);
    world.stop().await;
}

/// A handler's body, and the code, status and words of what it raises.
const RAISES: [(&str, Option<&str>, Option<u16>, &str); 9] = [
    (
        "raise Exception('Authentication required')",
        None,
        None,
        "Authentication required",
    ),
    (
        "raise FunctionError('GONE', 'it is gone', status=410)",
        Some("GONE"),
        Some(410),
        "it is gone",
    ),
    ("raise FunctionError('X')", Some("X"), None, "X"),
    ("1 / 0", None, None, "division by zero"),
    ("raise KeyError", None, None, "KeyError"),
    ("import sys; sys.exit(3)", None, None, "3"),
    ("return {1, object()}", None, None, "cannot be written as JSON"),
    ("return float('nan')", None, None, "cannot be written as JSON"),
    ("return 'x' * (11 << 20)", None, None, "larger than"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_raised_is_told() {
    let world = World::new();
    for kind in ["def", "async def"] {
        for (number, (body, code, status, message)) in RAISES.into_iter().enumerate() {
            let name = format!("raises{number}");
            world.python(
                &name,
                &format!("from alyx_functions import FunctionError\n{kind} handler(ctx):\n    {body}"),
            );
            let thrown = world.thrown(&name, json!({})).await;
            assert_eq!(
                (thrown.code.as_deref(), thrown.status),
                (code, status),
                "{kind} {body}"
            );
            assert!(
                thrown.message.contains(message),
                "{kind} {body}: {}",
                thrown.message
            );
        }
    }
    world.python(
        "told",
        "from alyx_functions import FunctionError\ndef handler(ctx):\n    raise FunctionError('TAKEN', 'is taken', {'a': 1}, field='email')",
    );
    let extra = world.thrown("told", json!({})).await.extra;
    assert_eq!(
        Value::Object(extra),
        json!({"field": "email", "details": {"a": 1}})
    );
    world.python(
        "refuses",
        "def handler(req, res):\n    return res.json({'error': 'bad signature', 'hint': 1}, 401)",
    );
    let thrown = world.thrown("refuses", json!({})).await;
    assert_eq!(
        (thrown.status, thrown.message.as_str()),
        (Some(401), "bad signature")
    );
    assert_eq!(thrown.extra["hint"], 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_load_says_why_and_where() {
    let world = World::new();
    let check = async |source: &str, expected: &[&str]| {
        world.python("broken", source);
        let error = world.refused("broken").await;
        assert_eq!(error.code(), "FUNCTION_UNAVAILABLE");
        for part in expected {
            assert!(error.message().contains(part), "{source}: {}", error.message());
        }
    };
    check(
        "x = 1\ndef handler(ctx:\n    pass",
        &["SyntaxError", "index.py, line 2"],
    )
    .await;
    check(
        "import none_such\ndef handler(ctx): pass",
        &["No module named 'none_such'", "index.py, line 1"],
    )
    .await;
    check("x = 1", &["it has no handler", "def handler(ctx)"]).await;
    check(
        "SCHEMA = {'input': {'a': {'type': 'text'}}}\ndef handler(ctx): pass",
        &["SCHEMA.input.a.type is \"text\""],
    )
    .await;
    check(
        "raise ValueError('not today')\ndef handler(ctx): pass",
        &["ValueError: not today"],
    )
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_not_end_is_stopped_and_its_process_goes_on() {
    let world = World::with(|options| {
        options.grace = PLENTY;
        // While the stopped handler unwinds, the next call would be given a process of its own.
        options.python.max_instances = 1;
    });
    for (number, body) in [
        // On two lines: a loop on one line that opens its `try` jumps back, in Python 3.11, to an instruction outside
        // the `try`, and what interrupts that jump passes the `except` by.
        "while True:\n            time.time()",
        "time.sleep(600)",
        "ctx.db.gate.get('x')",
        "threading.Event().wait()",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("endless{number}");
        let source = format!(
            "import os, time, threading\nfrom alyx_functions import CancelledError\nheard = []\ndef handler(ctx):\n    \
             if ctx.get('ask'): return {{'pid': os.getpid(), 'heard': heard}}\n    try:\n        {body}\n    except \
             CancelledError:\n        heard.append(ctx.cancelled)\n        raise"
        );
        world.write_as(&name, "index.py", &source, |function| function.timeout = SHORT);
        let before = world.value(&name, json!({"ask": 1})).await;
        let error = world.refused(&name).await;
        assert_eq!(error.code(), "FUNCTION_TIMEOUT", "{body}");
        let after = world.value(&name, json!({"ask": 1})).await;
        assert_eq!(after["pid"], before["pid"], "{body}: the same process");
        assert_eq!(after["heard"], json!([true]), "{body}");
    }
    assert_eq!(world.stats_of("python").crashes, 0);
    world.data.gate.notify_waiters();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_not_hear_is_ended_with_its_process() {
    let world = World::new();
    for (number, body) in [
        // Swallows what it is told, again and again.
        "while True:\n        try: time.sleep(600)\n        except BaseException: pass",
        // Never comes back to the interpreter.
        "import collections, itertools; collections.deque(itertools.repeat(1), maxlen=0)",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("deaf{number}");
        let source = format!(
            "import os, time\ndef handler(ctx):\n    if ctx.get('ask'): return os.getpid()\n    {body}"
        );
        world.write_as(&name, "index.py", &source, |function| function.timeout = SHORT);
        let before = world.value(&name, json!({"ask": 1})).await;
        assert_eq!(world.refused(&name).await.code(), "FUNCTION_TIMEOUT", "{body}");
        let after = world.value(&name, json!({"ask": 1})).await;
        assert_ne!(after, before, "{body}: another process");
        let pid = before.as_u64().expect("a process id");
        let gone = || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(());
        eventually("the end of the process", gone).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coroutines_share_a_process_and_plain_handlers_do_not() {
    let world = World::with(|options| options.python.max_instances = 4);
    world.python(
        "many",
        "import os\nasync def handler(ctx):\n    print('line', ctx['n'])\n    await ctx.db.gate.get('x')\n    print('again', ctx['n'])\n    return os.getpid()",
    );
    let calls = futures_util::future::join_all((0..16).map(|n| world.call("many", json!({"n": n}))));
    let (calls, ()) = tokio::join!(calls, world.data.open_gate(16));
    let mut pids = Vec::new();
    for (n, completion) in calls.into_iter().enumerate() {
        let completion = completion.expect("it answers");
        pids.push(returned(&completion));
        let (first, second) = (format!("line {n}"), format!("again {n}"));
        assert_eq!(
            lines(&completion.logs),
            [("info", first.as_str()), ("info", second.as_str())]
        );
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "one process took all");

    world.python(
        "alone",
        "import os\ndef handler(ctx):\n    ctx.db.gate.get('x')\n    return os.getpid()",
    );
    let calls = futures_util::future::join_all((0..3).map(|_| world.call("alone", json!({}))));
    let (calls, ()) = tokio::join!(calls, world.data.open_gate(16 + 3));
    let mut pids: Vec<_> = calls
        .into_iter()
        .map(|one| returned(&one.expect("it answers")).to_string())
        .collect();
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 3, "each call had a process of its own");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_server_is_within_reach() {
    let world = World::new();
    world.write_as(
        "seen",
        "email.py",
        "import os, sys, email.message, subprocess
def handler(ctx):
    sys.stderr.write('to stderr\\n')
    print('half', end='')
    child = subprocess.run(['cat'], capture_output=True, timeout=10)
    return {'env': sorted(os.environ), 'own': ctx.env, 'stdin': child.stdout.decode(), 'std': email.message.__name__,
            'here': sorted(os.listdir('.')), 'auth': ctx.auth, 'id': ctx.request_id, 'name': ctx.function_name}",
        |function| function.env = std::sync::Arc::new([("KEY".to_owned(), "v".to_owned())].into()),
    );
    let completion = world
        .worker
        .invoke(world.invocation("seen", &json!({})))
        .await
        .expect("it answers");
    let seen = returned(&completion);
    assert_eq!(seen["env"], json!(["KEY", "LANG", "TZ"]));
    assert_eq!(seen["own"], json!({"KEY": "v"}));
    assert_eq!(seen["stdin"], "", "a child does not read the worker's frames");
    assert_eq!(
        seen["std"], "email.message",
        "a function's name shadows no module of Python's own"
    );
    assert_eq!(seen["here"], json!(["email.py"]));
    assert_eq!(
        (&seen["auth"], &seen["id"], &seen["name"]),
        (&Value::Null, &json!("req-\"1\""), &json!("seen"))
    );
    assert_eq!(
        lines(&completion.logs),
        [("error", "to stderr"), ("info", "half")]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_may_move_from_one_language_to_the_other() {
    let world = World::new();
    world.write("moves", "export default () => 'node'");
    assert_eq!(world.value("moves", json!({})).await, "node");
    world.python("moves", "def handler(ctx):\n    return 'python'");
    assert_eq!(world.value("moves", json!({})).await, "python");
    world.write("moves", "export default () => 'node again'");
    assert_eq!(world.value("moves", json!({})).await, "node again");
    world.stop().await;
}
