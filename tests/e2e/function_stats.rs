//! Figures of functions: what became of their calls, wherever they ran.

use alyx_tests::{Form, Project, Server, eventually};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    each_function_and_each_pool_has_its_figures,
}

async fn each_function_and_each_pool_has_its_figures(form: Form) {
    let project = Project::with_schema("collections: {notes: {fields: {text: {type: text}}}}\n");
    project.write("functions/fine.js", "export default () => 'fine';");
    project.write("functions/slow.js", "export default () => new Promise(() => {});");
    project.write("functions/slow.yaml", "timeout: 200ms\n");
    project.write("functions/die.js", "export default () => process.exit(3);");
    project.write("functions/snake.py", "def handler(ctx):\n    return 1\n");
    project.write("functions/never.js", "export default () => 1;");
    let server = form.start(&project).await;
    let token = observer(&server, &project).await;
    let http = server.http();
    for (name, status, times) in [
        ("fine", 200, 5),
        ("slow", 504, 1),
        ("die", 502, 1),
        ("snake", 200, 1),
    ] {
        for _ in 0..times {
            let reply = http.post(&format!("/api/functions/{name}"), &json!({})).await;
            assert_eq!(reply.status, status, "{name}: {reply:?}");
        }
    }
    let stats = eventually("all calls are in the figures", async || {
        let headers = [("authorization", token.as_str())];
        let reply = http.send(Method::GET, "/api/functions/stats", &headers, "").await;
        let stats = reply.json();
        let of = |name: &str, figure: &str| stats["functions"][name][figure].as_u64().unwrap_or_default();
        let all = of("fine", "invocations") == 5
            && of("slow", "timeouts") == 1
            && of("die", "crashes") == 1
            && of("snake", "invocations") == 1
            && stats["pools"]["node"]["cold_starts"].as_u64() >= Some(3);
        if reply.status == 200 && all {
            Ok(stats)
        } else {
            Err(reply)
        }
    })
    .await;
    let fine = &stats["functions"]["fine"];
    assert_eq!(
        (&fine["runtime"], &fine["busy"], &fine["queued"]),
        (&json!("node"), &json!(0), &json!(0))
    );
    assert!(
        fine["warm"].as_u64() >= Some(1) && fine["cold_starts"].as_u64() >= Some(1),
        "{fine}"
    );
    let (middle, most) = (fine["p50_ms"].as_f64(), fine["p99_ms"].as_f64());
    assert!(middle > Some(0.0) && middle <= most, "{fine}");
    let slow = stats["functions"]["slow"]["p50_ms"].as_f64();
    assert!(slow > Some(180.0), "{stats}");
    let never = &stats["functions"]["never"];
    assert_eq!(
        (&never["invocations"], &never["p50_ms"]),
        (&json!(0), &Value::Null)
    );
    let python = &stats["pools"]["python"];
    assert!(
        python["p99_ms"].as_f64() > Some(0.0) && python["cold_starts"] == 1,
        "{python}"
    );
    let metrics = http.get("/metrics").await.text;
    if form == Form::Embedded {
        assert!(
            metrics.contains("alyx_functions_cold_starts_total{runtime=\"python\"} 1"),
            "{metrics}"
        );
    }
}

/// An API token that may see figures, as a header.
async fn observer(server: &Server, project: &Project) -> String {
    let made = [
        "admin",
        "create-token",
        "observer",
        "--scopes",
        "admin:read",
        "--json",
    ];
    let (code, printed) = server.operate(project, &made).await;
    assert_eq!(code, Some(0), "{printed}");
    let from = printed.find('{').expect("JSON");
    let made: Value = serde_json::from_str(&printed[from..]).expect("JSON");
    format!("Bearer {}", made["token"].as_str().expect("a token"))
}
