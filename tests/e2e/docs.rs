//! The README and the guides as a newcomer follows them: their schemas, functions, commands and scripts.

use std::path::Path;

use alyx_tests::{Project, Server, eventually};
use serde_json::json;
use tokio::process::{Child, Command};

/// The fenced blocks of a page: language and text.
pub(crate) fn blocks(page: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository");
    let text = std::fs::read_to_string(root.join(page)).expect("the page can be read");
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((language.to_owned(), body.join("\n")));
        }
    }
    blocks
}

async fn shell(script: &str, folder: &Path) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .output()
        .await
        .expect("bash runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
    said
}

#[tokio::test]
async fn the_readmes_project_and_commands_work_as_they_stand() {
    let blocks = blocks("README.md");
    let find = |language: &str, first: &str| {
        let found = blocks
            .iter()
            .find(|(l, text)| l == language && text.starts_with(first));
        &found
            .unwrap_or_else(|| panic!("README.md has a {language} block that starts with {first}"))
            .1
    };
    let project = Project::with_schema(find("yaml", "# schema.yaml"));
    project.write(
        "functions/sendMessage.js",
        find("js", "// functions/sendMessage.js"),
    );
    let server = Server::start(&project).await;

    let commands =
        find("bash", "curl").replace("localhost:8090", server.base().trim_start_matches("http://"));
    for command in commands.lines() {
        let said = shell(
            &command.replacen("curl", "curl -sS --fail-with-body", 1),
            project.path(),
        )
        .await;
        assert!(
            said.contains("Hello!") || said.contains("\"success\":true"),
            "{command}\n{said}"
        );
    }

    let script =
        find("js", "const socket").replace("localhost:8090", server.base().trim_start_matches("http://"));
    let live = Live::start(&project, &script);
    live.heard("snapshot").await;
    let message = json!({"channel": "general", "author": "Eve", "content": "live"});
    assert_eq!(
        server
            .http()
            .post("/api/collections/messages", &message)
            .await
            .status,
        201
    );
    live.heard("delta").await;
}

/// A script of a guide that runs in Node until it is dropped.
struct Live<'a> {
    project: &'a Project,
    _node: Child,
}

impl<'a> Live<'a> {
    fn start(project: &'a Project, script: &str) -> Self {
        project.write("live.mjs", script);
        let log = std::fs::File::create(project.path().join("live.log")).expect("a file");
        let node = Command::new("node")
            .args(["--experimental-websocket", "live.mjs"])
            .current_dir(project.path())
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .expect("node runs");
        Self { project, _node: node }
    }

    async fn heard(&self, what: &str) {
        eventually(&format!("the script hears {what}"), || async {
            let log = self.project.read("live.log");
            if log.contains(what) { Ok(()) } else { Err(log) }
        })
        .await;
    }
}

#[tokio::test]
async fn the_realtime_guides_script_follows_the_chat() {
    let project = Project::chat();
    let server = Server::start(&project).await;
    let here = |text: &str| text.replace("localhost:8090", server.base().trim_start_matches("http://"));
    let blocks = blocks("docs/realtime.md");
    let first = |language: &str| {
        &blocks
            .iter()
            .find(|(l, _)| l == language)
            .expect("the page has one")
            .1
    };
    let live = Live::start(&project, &here(first("js")));
    live.heard("0 messages").await;
    let send = here(first("bash")).replacen("curl", "curl -sS --fail-with-body", 1);
    shell(&send, project.path()).await;
    live.heard("1 messages, the newest: Hello").await;
}

#[tokio::test]
async fn the_functions_guides_code_runs() {
    let project = Project::chat();
    let blocks = blocks("docs/functions.md");
    let code = |first: &str| {
        let found = blocks
            .iter()
            .find(|(language, text)| language == "js" && text.starts_with(first));
        &found
            .unwrap_or_else(|| panic!("docs/functions.md has a js block that starts with {first}"))
            .1
    };
    project.write("functions/hello.js", code("// functions/hello.js"));
    let calls = code("const { docs, total }");
    let calls =
        format!("export default async (ctx) => {{ const id = ctx.input.id;\n{calls}\nreturn changed; }};");
    project.write("functions/calls.js", &calls);
    let python = blocks.iter().find(|(language, _)| language == "python");
    project.write(
        "functions/greet.py",
        &python.expect("docs/functions.md has Python").1,
    );
    let go = blocks.iter().find(|(language, _)| language == "go");
    project.write("functions/welcome.go", &go.expect("docs/functions.md has Go").1);
    let checks = code("input: {");
    project.write(
        "functions/checked.js",
        &format!("export default {{\n{checks},\nhandler: () => 1 }};"),
    );
    let server = Server::start(&project).await;
    let http = server.http();
    let hello = http.post("/api/functions/hello", &json!({"name": "Ann"})).await;
    assert_eq!(hello.text, r#"{"message":"Hello, Ann!"}"#);
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let changed = http.post("/api/functions/calls", &json!({"id": id})).await;
    assert_eq!(changed.json()["content"], "Hello", "{changed:?}");
    let greeted = http.post("/api/functions/greet", &json!({"name": "Ann"})).await;
    assert_eq!(greeted.json()["message"], "Hello, Ann!", "{greeted:?}");
    let welcomed = alyx_tests::eventually("the compiled function answers", async || {
        let reply = http.post("/api/functions/welcome", &json!({"name": "Ann"})).await;
        if reply.text.contains("still being compiled") {
            Err(reply)
        } else {
            Ok(reply)
        }
    })
    .await;
    assert_eq!(welcomed.json()["message"], "Hello, Ann!", "{welcomed:?}");
    let passed = http
        .post("/api/functions/checked", &json!({"title": "t", "tags": ["a"]}))
        .await;
    assert_eq!(passed.text, "1");
    let refused = http
        .post("/api/functions/checked", &json!({"title": "", "kind": "song"}))
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "VALIDATION_ERROR")
    );
}

#[tokio::test]
async fn the_transactions_guides_code_runs() {
    let blocks = blocks("docs/transactions.md");
    let of = |language: &str| {
        let of = blocks.iter().filter(|(found, _)| found == language);
        of.map(|(_, text)| text.clone()).collect::<Vec<_>>()
    };
    let project = Project::with_schema(&of("yaml")[0]);
    let function = format!(
        "export default async (ctx) => {{\n{}\nreturn left; }};",
        &of("js")[1]
    );
    project.write("functions/transfer.js", &function);
    let server = Server::start(&project).await;
    let http = server.http();
    let here = |text: &str| text.replace("localhost:8090", server.base().trim_start_matches("http://"));
    let curl = |text: &str| here(text).replacen("curl", "curl -sS --fail-with-body", 1);

    let first = shell(&curl(&of("bash")[0]), project.path()).await;
    assert!(first.contains("\"status\":201"), "{first}");
    let again = shell(&curl(&of("bash")[0]), project.path()).await;
    assert_eq!(again, first, "the same request has the same reply");
    let made: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    let ann = made["results"][0]["doc"]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let bob = http
        .post("/api/collections/accounts", &json!({"owner": "bob"}))
        .await
        .json();
    let bob = bob["id"].as_str().expect("an id").to_owned();
    let transfer = curl(&of("bash")[1]).replace("FROM", &ann).replace("TO", &bob);
    let moved = shell(&transfer, project.path()).await;
    assert!(
        moved.contains("\"balance\":70") && moved.contains("\"balance\":30"),
        "{moved}"
    );

    let live = Live::start(&project, &here(&of("js")[0]));
    live.heard("inside: 1").await;
    live.heard("outside: 0").await;
    live.heard("committed").await;

    let call = json!({"from": ann, "to": bob, "amount": 20});
    let left = http.post("/api/functions/transfer", &call).await;
    assert_eq!((left.status, left.text.as_str()), (200, "50"), "{left:?}");
}

#[tokio::test]
async fn the_guide_to_files_uploads_and_reads_as_it_says() {
    let blocks = blocks("docs/files.md");
    let first = |language: &str| {
        let found = blocks.iter().find(|(known, _)| known == language);
        &found.expect("the page has one").1
    };
    let project = Project::with_schema(first("yaml"));
    let server = Server::start(&project).await;
    let script = first("bash").replace("http://localhost:8090", &server.base());
    let said = shell(&script, project.path()).await;
    assert!(said.contains(r#""metadata":{"album":"summer"}"#), "{said}");
    assert!(said.contains("}Hello{"), "the range between two replies: {said}");
    assert!(said.contains(r#""total":1"#), "{said}");
    let list = server.http().get("/api/files/images").await.json();
    assert_eq!(list["total"], 0);
}

#[tokio::test]
async fn the_guide_to_accounts_signs_in_as_it_says() {
    let project = Project::with_schema("collections:\n  notes:\n    fields:\n      text: {type: string}\n");
    let server = Server::start(&project).await;
    let blocks = blocks("docs/auth.md");
    let script = &blocks
        .iter()
        .find(|(language, _)| language == "bash")
        .expect("a script")
        .1;
    let script = script.replace("http://localhost:8090", &server.base());
    let said = shell(&script, project.path()).await;
    let me: serde_json::Value = serde_json::from_str(&said).expect("the account");
    assert_eq!(
        (&me["email"], &me["role"]),
        (&json!("ada@example.com"), &json!("user"))
    );
}
