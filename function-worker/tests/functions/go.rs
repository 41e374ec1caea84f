//! Functions in Go.

use std::time::Duration;

use alyx_service::function::FunctionService;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::support::{World, eventually, lines, returned};

const SHORT: Duration = Duration::from_millis(400);

/// Held by each test: compilers side by side would starve the tests that watch the clock.
static TURN: Mutex<()> = Mutex::const_new(());

/// A file with these imports beside the runtime's package and that code; its first line of code is the sixth.
fn file(imports: &str, code: &str) -> String {
    format!("package main\n\nimport {imports}\nimport \"github.com/watzon/alyx/pkg/runtime\"\n\n{code}\n")
}

/// Each greets `name`.
const STYLES: [&str; 6] = [
    "func Handler(ctx *runtime.Context) (any, error) { return map[string]any{`hello`: ctx.Input[`name`]}, nil }",
    "type In struct { Name string `json:\"name\"` }
type Out struct { Hello string `json:\"hello\"` }
func Handler(ctx *runtime.Context, in In) (Out, error) { return Out{in.Name}, nil }",
    "func Handler(ctx context.Context, in struct{ Name string }) any {
\treturn map[string]string{`hello`: runtime.From(ctx).Text(`name`)}\n}",
    "func Handle(w http.ResponseWriter, r *http.Request) {
\tvar in struct{ Name string }
\tif err := json.NewDecoder(r.Body).Decode(&in); err != nil { http.Error(w, err.Error(), 400) }
\truntime.JSON(w, http.StatusOK, map[string]string{`hello`: in.Name})\n}",
    "var Schema = runtime.Schema{Input: runtime.Fields{`name`: {Type: `string`, Required: true}}}
func Handler(ctx *runtime.Context) any { return json.RawMessage(`{\"hello\":\"` + ctx.Text(`name`) + `\"}`) }",
    "func Handler(ctx *runtime.Context) (any, error) {
\tvar in struct{ Name string }
\terr := ctx.Bind(&in)
\treturn map[string]string{`hello`: in.Name}, err\n}",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_style_of_handler_works() {
    let _turn = TURN.lock().await;
    let world = World::new();
    for (number, code) in STYLES.into_iter().enumerate() {
        let name = format!("style{number}");
        // Imports that a style does not need are used all the same.
        let source = file("(\n\t\"context\"\n\t\"encoding/json\"\n\t\"net/http\"\n)", code);
        world.go(
            &name,
            &format!("{source}\nvar _ context.Context\nvar _ json.RawMessage\nvar _ http.Handler\n"),
        );
        assert_eq!(
            world.value(&name, json!({"name": "Ann"})).await,
            json!({"hello": "Ann"}),
            "{code}"
        );
    }
    let thrown = world.thrown("style1", json!({"name": 7})).await;
    assert_eq!(
        (thrown.code.as_deref(), thrown.status, thrown.message.as_str()),
        (
            Some("VALIDATION_ERROR"),
            Some(400),
            "Field 'name' must be of type string"
        )
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_input_is_refused_with_the_same_words_as_in_node() {
    let _turn = TURN.lock().await;
    let world = World::new();
    world.go(
        "go",
        &file(
            "_ \"os\"",
            "var Schema = runtime.Schema{Input: runtime.Fields{
\t`a`: {Type: `string`, Required: true, MinLength: 2, MaxLength: 4, Pattern: `^[a-z]+$`},
\t`b`: {Type: `integer`, Min: runtime.Bound(1), Max: runtime.Bound(3)},
\t`c`: {Type: `array`, Items: &runtime.Field{Type: `string`}},
\t`d`: {Enum: []any{`a`, 2}},
\t`e`: {Type: `object`, Properties: runtime.Fields{`x`: {Type: `boolean`, Required: true}}},
}}
func Handler(ctx *runtime.Context) any { return 1 }",
        ),
    );
    world.write(
        "js",
        "export const config = { input: {
            a: { type: 'string', required: true, minLength: 2, maxLength: 4, pattern: '^[a-z]+$' },
            b: { type: 'integer', min: 1, max: 3 }, c: { type: 'array', items: 'string' }, d: { enum: ['a', 2] },
            e: { type: 'object', properties: { x: { type: 'boolean', required: true } } } } };
        export default () => 1",
    );
    for input in [
        json!({}),
        json!({"a": "A"}),
        json!({"a": "abcde", "b": 0}),
        json!({"a": "ab", "b": 4.5, "c": ["x", 1]}),
        json!({"a": 7, "b": true, "c": "x", "d": "c", "e": {}}),
        json!({"a": null, "e": {"x": 1}}),
        json!([1]),
    ] {
        let (go, node) = (
            world.thrown("go", input.clone()).await,
            world.thrown("js", input.clone()).await,
        );
        assert_eq!(
            (&go.code, go.status, &go.message, &go.extra),
            (&node.code, node.status, &node.message, &node.extra),
            "{input}"
        );
    }
    assert_eq!(world.value("go", json!({"a": "ab", "d": 2})).await, 1);
    world.stop().await;
}

/// A handler's body, and the code, status and words of what it gives.
const FAILS: [(&str, Option<&str>, Option<u16>, &str); 7] = [
    (
        "return nil, errors.New(`Authentication required`)",
        None,
        None,
        "Authentication required",
    ),
    (
        "return nil, runtime.NewError(`GONE`, `it is gone`).WithStatus(410)",
        Some("GONE"),
        Some(410),
        "it is gone",
    ),
    (
        "return nil, fmt.Errorf(`while reading: %w`, runtime.NewError(`X`, `no`))",
        Some("X"),
        None,
        "while reading: no",
    ),
    (
        "var none map[string]int; none[`a`] = 1; return nil, nil",
        None,
        None,
        "assignment to entry in nil map",
    ),
    (
        "return make(chan int), nil",
        None,
        None,
        "cannot be written as JSON",
    ),
    (
        "return strings.Repeat(`x`, 11<<20), nil",
        None,
        None,
        "larger than",
    ),
    (
        "_, err := ctx.DB.Collection(`away`).Get(1); return nil, err",
        Some("DATABASE_UNAVAILABLE"),
        Some(503),
        "it is away",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_is_told() {
    let _turn = TURN.lock().await;
    let world = World::new();
    let cases: String = (0..)
        .zip(FAILS)
        .map(|(number, (body, ..))| format!("\tcase {number}:\n\t\t{body}\n"))
        .collect();
    world.go(
        "fails",
        &file(
            "(\n\t\"errors\"\n\t\"fmt\"\n\t\"strings\"\n)",
            &format!(
                "func Handler(ctx *runtime.Context) (any, error) {{\n\tswitch ctx.Number(`n`) {{\n{cases}\t}}\n\t\
                 return nil, nil\n}}"
            ),
        ),
    );
    for (number, (body, code, status, message)) in (0..).zip(FAILS) {
        let thrown = world.thrown("fails", json!({"n": number})).await;
        assert_eq!((thrown.code.as_deref(), thrown.status), (code, status), "{body}");
        assert!(thrown.message.contains(message), "{body}: {}", thrown.message);
    }
    let panicked = world.call("fails", json!({"n": 3})).await.expect("it answers");
    let stack = panicked.logs[0].data.as_ref().expect("a stack")["stack"].to_string();
    assert!(stack.contains("main.go:"), "{stack}");
    assert!(world.stats_of("go").crashes == 0, "a panic ends its call alone");

    world.go(
        "refuses",
        &file(
            "\"net/http\"",
            "func Handle(w http.ResponseWriter, r *http.Request) {
\truntime.JSON(w, 401, map[string]any{`error`: `bad signature`, `hint`: 1})\n}",
        ),
    );
    let thrown = world.thrown("refuses", json!({})).await;
    assert_eq!(
        (thrown.status, thrown.message.as_str(), &thrown.extra["hint"]),
        (Some(401), "bad signature", &json!(1))
    );
    world.go(
        "bursts",
        &file(
            "\"time\"",
            "func Handler(ctx *runtime.Context) any {\n\tgo func() { panic(`boom`) }()\n\ttime.Sleep(time.Minute)\n\treturn 1\n}",
        ),
    );
    let error = world.refused("bursts").await;
    assert_eq!(error.code(), "FUNCTION_CRASHED");
    assert!(error.message().contains("panic: boom"), "{error}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_compile_says_where() {
    let _turn = TURN.lock().await;
    let world = World::new();
    let check = async |source: &str, expected: &str| {
        world.go("broken", source);
        let error = world.refused("broken").await;
        assert_eq!(error.code(), "FUNCTION_UNAVAILABLE");
        assert!(
            error.message().contains(expected),
            "{source}: {}",
            error.message()
        );
    };
    let handler = "func Handler(ctx *runtime.Context) (any, error) { return x, nil }";
    check(&file("_ \"os\"", handler), "main.go:6:58: undefined: x").await;
    check("package main\n\nfunc Handler( {\n", "main.go:3:15: syntax error").await;
    check(
        "package main\n",
        "main.go: it has no handler: write `func Handler",
    )
    .await;
    check(
        "package main\nfunc main() {}\n",
        "main.go:2: leave `func main` out",
    )
    .await;
    check(
        "package main\nimport _ \"example.org/none\"\nfunc Handler() {}\n",
        "main.go:2:8: cannot find module providing package example.org/none; `go get` it",
    )
    .await;
    check(
        &file(
            "_ \"os\"",
            "func Handler(n int) int { return runtime.Doc{`a`: n}[`a`].(int) }",
        ),
        "the handler is a func(int) int",
    )
    .await;
    check(
        &file(
            "_ \"os\"",
            "func init() { panic(`not today`) }\nfunc Handler(ctx *runtime.Context) {}",
        ),
        "panic: not today",
    )
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_compiled_once() {
    let _turn = TURN.lock().await;
    let world = World::new();
    let source = file(
        "\"os\"",
        "func Handler(ctx *runtime.Context) (any, error) { return os.Executable() }",
    );
    world.go("first", &source);
    let program = world.value("first", json!({})).await;
    world.go("first", &source);
    assert_eq!(
        world.value("first", json!({})).await,
        program,
        "the same code under another version"
    );
    world.go("first", &format!("{source}\n// Changed.\n"));
    assert_ne!(world.value("first", json!({})).await, program);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_of_ones_own_is_used_as_it_is() {
    let _turn = TURN.lock().await;
    let world = World::new();
    let shared = "package tax\n\nimport _ \"embed\"\n\n//go:embed rate.txt\nvar Rate string\n";
    let files = [
        (
            "price/go.mod",
            "module example.org/price\n\ngo 1.21\n\nrequire example.org/tax v1.2.3\n\nreplace example.org/tax => ./_tax\n",
        ),
        ("price/_tax/go.mod", "module example.org/tax\n"),
        ("price/_tax/tax.go", shared),
        ("price/_tax/rate.txt", "19"),
        (
            "price/round/round.go",
            "package round\n\nfunc Up(n float64) float64 { return n + 1 }\n",
        ),
        ("price/main.go", ""),
    ];
    let source = file(
        "(\n\t\"example.org/price/round\"\n\t\"example.org/tax\"\n)",
        "func Handler(ctx *runtime.Context) any { return []any{tax.Rate, round.Up(ctx.Number(`n`))} }",
    );
    world.write_as("price", "unused.go", "", |function| {
        for (path, text) in files {
            let path = function.root.join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            std::fs::write(path, text).expect("writes");
        }
        std::fs::write(function.root.join("price/main.go"), &source).expect("writes");
        function.entrypoint = "price/main.go".into();
    });
    assert_eq!(world.value("price", json!({"n": 2})).await, json!(["19", 3]));
    world.write_as("price", "unused.go", "", |function| {
        std::fs::create_dir_all(function.root.join("price")).expect("a folder");
        std::fs::write(function.root.join("price/go.mod"), "module price\n\nrequired x\n").expect("writes");
        std::fs::write(function.root.join("price/main.go"), &source).expect("writes");
        function.entrypoint = "price/main.go".into();
    });
    let error = world.refused("price").await;
    assert!(
        error.message().contains("go.mod:3: unknown directive: required"),
        "{error}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_is_heard_and_who_does_not_hear_is_ended() {
    let _turn = TURN.lock().await;
    let world = World::with(|options| options.grace = Duration::from_secs(3));
    let source = |body: &str| {
        file(
            "(\n\t\"os\"\n\t\"time\"\n)",
            &format!(
                "var heard []string\nvar _ time.Time\nfunc Handler(ctx *runtime.Context) (any, error) {{\n\tif ctx.Input[`ask`] != nil \
                 {{\n\t\treturn map[string]any{{`pid`: os.Getpid(), `heard`: heard}}, nil\n\t}}\n\t{body}\n\treturn nil, nil\n}}"
            ),
        )
    };
    for (name, body) in [
        ("done", "<-ctx.Done(); heard = append(heard, ctx.Err().Error())"),
        (
            "data",
            "_, err := ctx.DB.Collection(`gate`).Get(`x`); heard = append(heard, ctx.Err().Error()); if err == nil { panic(1) }",
        ),
    ] {
        world.write_as(name, "main.go", &source(body), |function| {
            function.timeout = SHORT
        });
        let before = world.value(name, json!({"ask": 1})).await;
        assert_eq!(world.refused(name).await.code(), "FUNCTION_TIMEOUT", "{body}");
        let after = world.value(name, json!({"ask": 1})).await;
        assert_eq!(after["pid"], before["pid"], "{body}: the same process");
        assert_eq!(after["heard"], json!(["context canceled"]), "{body}");
    }
    for (name, body) in [
        ("sleeps", "time.Sleep(time.Hour)"),
        ("spins", "for { _ = heard }"),
    ] {
        world.write_as(name, "main.go", &source(body), |function| {
            function.timeout = SHORT
        });
        let before = world.value(name, json!({"ask": 1})).await;
        assert_eq!(world.refused(name).await.code(), "FUNCTION_TIMEOUT", "{body}");
        let pid = before["pid"].as_u64().expect("a process id");
        let gone = || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(());
        eventually("the end of the process", gone).await;
        let after = world.value(name, json!({"ask": 1})).await;
        assert_ne!(after["pid"], before["pid"], "{body}: another process");
    }
    world.data.gate.notify_waiters();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_share_a_process_and_keep_their_own_logs() {
    let _turn = TURN.lock().await;
    let world = World::new();
    world.go(
        "many",
        &file(
            "(\n\t\"fmt\"\n\t\"os\"\n)",
            "func Handler(ctx *runtime.Context) (any, error) {
\tctx.Log.Info(fmt.Sprint(`line `, ctx.Input[`n`]), `n`, ctx.Input[`n`])
\t_, err := ctx.DB.Collection(`gate`).Get(`x`)
\tctx.Log.Warn(fmt.Sprint(`again `, ctx.Input[`n`]))
\treturn os.Getpid(), err
}",
        ),
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
            [("info", first.as_str()), ("warn", second.as_str())]
        );
        assert_eq!(completion.logs[0].data, Some(json!({"n": n})));
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "one process took all");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_server_is_within_reach_and_what_is_printed_is_logged() {
    let _turn = TURN.lock().await;
    let world = World::new();
    world.write_as(
        "seen",
        "main.go",
        &file(
            "(\n\t\"fmt\"\n\t\"log\"\n\t\"os\"\n\t\"os/exec\"\n\t\"sort\"\n)",
            "var early = os.Getenv(`KEY`)
func Handler(ctx *runtime.Context) (any, error) {
\tfmt.Fprintln(os.Stderr, `to stderr`)
\tctx.Log.Debug(`between`)
\tfmt.Println(`to stdout`)
\tctx.Log.Debug(`between`)
\tlog.Print(`to log`)
\tfmt.Print(`half`)
\tchild := exec.Command(`/bin/cat`)
\tchild.Stdin = os.Stdin
\tread, err := child.Output()
\tenv := os.Environ()
\tsort.Strings(env)
\treturn map[string]any{`env`: env, `own`: ctx.Env, `early`: early, `stdin`: string(read), `auth`: ctx.Auth,
\t\t`id`: ctx.RequestID, `name`: ctx.FunctionName}, err
}",
        ),
        |function| function.env = std::sync::Arc::new([("KEY".to_owned(), "v".to_owned())].into()),
    );
    let completion = world
        .worker
        .invoke(world.invocation("seen", &json!({})))
        .await
        .expect("it answers");
    assert_eq!(
        returned(&completion),
        json!({"env": ["KEY=v", "LANG=C.UTF-8", "TZ=UTC"], "own": {"KEY": "v"}, "early": "v", "stdin": "",
            "auth": Value::Null, "id": "req-\"1\"", "name": "seen"})
    );
    assert_eq!(
        lines(&completion.logs),
        [
            ("error", "to stderr"),
            ("debug", "between"),
            ("info", "to stdout"),
            ("debug", "between"),
            ("info", "to log"),
            ("info", "half")
        ]
    );
    world.stop().await;
}

/// A compiler of that version which answers questions, and builds by that command of a shell.
fn compiler(folder: &std::path::Path, version: &str, build: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let program = folder.join("bin/go");
    std::fs::create_dir_all(folder.join("bin")).expect("a folder");
    let script = format!(
        "#!/bin/sh\ncase \"$1 $2\" in\n'env GOVERSION') echo {version}; echo {};;\n'env GOCACHE') echo /tmp;;\n*) {build};;\nesac\n",
        folder.display()
    );
    std::fs::write(&program, script).expect("writes");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("sets");
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_comes_before_the_program_hears_of_the_compiler() {
    let check = async |version: &str, expected: &[&str]| {
        let folder = tempfile::tempdir().expect("a folder");
        let program = compiler(folder.path(), version, "exec sleep 600");
        let world = World::with(|options| {
            options.go.binary = Some(program);
            options.load_timeout = SHORT;
        });
        let source = file("_ \"os\"", "func Handler(ctx *runtime.Context) {}");
        world.write_as("early", "main.go", &source, |function| function.timeout = SHORT);
        let error = world.refused("early").await;
        assert_eq!(error.code(), "FUNCTION_UNAVAILABLE", "{error}");
        for words in expected {
            assert!(error.message().contains(words), "{error}");
        }
        world.stop().await;
    };
    check("go1.26.0", &["cannot run yet: it is still being compiled"]).await;
    check(
        "go1.18.1",
        &["Go go1.18.1 is too old", "install Go 1.21 or newer"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compiler_is_told_nothing_of_the_servers_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = folder.path().join("environment");
    let build = format!("env > {}; echo no >&2; exit 1", environment.display());
    let program = compiler(folder.path(), "go1.26.0", &build);
    let world = World::with(|options| options.go.binary = Some(program));
    let source = file("_ \"os\"", "func Handler(ctx *runtime.Context) {}");
    world.write_as("curious", "main.go", &source, |_| {});
    let error = world.refused("curious").await;
    assert_eq!(error.code(), "FUNCTION_UNAVAILABLE", "{error}");
    let told = std::fs::read_to_string(&environment).expect("the compiler ran");
    let has = |name: &str| told.lines().any(|line| line.split('=').next() == Some(name));
    assert!(has("PATH") && has("CGO_ENABLED"), "{told}");
    // Of this test's own environment, which cargo made.
    assert!(std::env::vars().any(|(name, _)| name == "CARGO_MANIFEST_DIR"));
    assert!(!told.contains("CARGO_MANIFEST_DIR"), "{told}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_uses_one_processor_unless_it_is_told_otherwise() {
    let _turn = TURN.lock().await;
    let world = World::new();
    let source = file(
        "standard \"runtime\"",
        "func Handler(ctx *runtime.Context) any { return standard.GOMAXPROCS(0) }",
    );
    world.go("one", &source);
    assert_eq!(world.value("one", json!({})).await, 1);
    world.write_as("more", "main.go", &source, |function| {
        function.env = std::sync::Arc::new([("GOMAXPROCS".to_owned(), "7".to_owned())].into());
    });
    assert_eq!(world.value("more", json!({})).await, 7);
    world.stop().await;
}
