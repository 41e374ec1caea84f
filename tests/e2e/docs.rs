//! The README as a newcomer follows it: its schema, its function, its commands and its script.

use std::path::Path;

use alyx_tests::{Project, Server, eventually};
use tokio::process::Command;

/// The fenced blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(String, String)> {
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
    project.write("live.mjs", &script);
    let mut live = Command::new("node")
        .args(["--experimental-websocket", "live.mjs"])
        .current_dir(project.path())
        .stdout(std::fs::File::create(project.path().join("live.log")).expect("a file"))
        .kill_on_drop(true)
        .spawn()
        .expect("node runs");
    let heard = async |what: &'static str| {
        eventually(&format!("the script hears {what}"), || async {
            let log = project.read("live.log");
            if log.contains(what) { Ok(()) } else { Err(log) }
        })
        .await;
    };
    heard("snapshot").await;
    let message = serde_json::json!({"channel": "general", "author": "Eve", "content": "live"});
    assert_eq!(
        server
            .http()
            .post("/api/collections/messages", &message)
            .await
            .status,
        201
    );
    heard("delta").await;
    live.kill().await.expect("the script can be stopped");
}
