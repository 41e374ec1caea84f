//! The documents about codes and metrics, compared with the code that they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::site::Site;

/// Folders with product code, relative to the workspace.
const SOURCES: [&str; 7] = [
    "crates",
    "gateway/src",
    "realtime-node/src",
    "function-worker/src",
    "control-plane/src",
    "cli/src",
    "runtimes",
];
/// Starts of texts that look like codes and are names of environment variables, or codes of the database server.
const OTHERS: [&str; 13] = [
    "OUT_DIR",
    "ALYX_",
    "CARGO_",
    "CGO_",
    "NODE_ENV",
    "NODE_OPTIONS",
    "SQLITE_",
    "SQL_",
    "TRANSACTION_TIMEOUT",
    "TRANSACTION_BUSY",
    "RESPONSE_TOO_LARGE",
    "STREAM_EXPIRED",
    "ARGS_INVALID",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Product code by file, without its tests.
fn sources() -> BTreeMap<PathBuf, String> {
    let is_source = |path: &Path| path.extension().is_some_and(|end| end == "rs" || end == "mjs");
    let is_test = |path: &Path| {
        path.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            name == "tests" || name == "tests.rs" || name == "simulation.rs" || name.contains("test.mjs")
        })
    };
    let folders = SOURCES.iter().map(|folder| workspace().join(folder));
    folders
        .flat_map(|folder| walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok))
        .map(|entry| entry.into_path())
        .filter(|path| is_source(path) && !is_test(path.strip_prefix(workspace()).expect("inside")))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let product = text
                .split("#[cfg(test)]\nmod ")
                .next()
                .unwrap_or_default()
                .to_owned();
            (path, product)
        })
        .collect()
}

/// Whether a string literal is a code: capitals in several words. `FORBIDDEN` and `UNAUTHORIZED` are those with a single word.
fn is_code(text: &str) -> bool {
    let in_words = text.contains('_') && text.split('_').all(|word| !word.is_empty());
    (in_words || text == "FORBIDDEN" || text == "UNAUTHORIZED")
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        && !OTHERS.iter().any(|other| text.starts_with(other))
}

fn codes_in_sources() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for text in sources().values() {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let literals = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
        codes.extend(
            literals
                .map(|literal| literal.trim_end_matches('\\').to_owned())
                .filter(|l| is_code(l)),
        );
    }
    codes
}

/// The codes in the first column of the tables.
fn codes_in_docs() -> BTreeSet<String> {
    let docs = std::fs::read_to_string(workspace().join("docs/errors.md")).expect("docs/errors.md");
    let cells = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(code, _)| code.to_owned()).collect()
}

#[test]
fn every_error_code_is_documented_and_every_documented_one_exists() {
    let (sources, docs) = (codes_in_sources(), codes_in_docs());
    assert!(sources.len() > 50, "the search found only {}", sources.len());
    let missing: Vec<_> = sources.difference(&docs).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
    let gone: Vec<_> = docs.difference(&sources).collect();
    assert!(gone.is_empty(), "in docs/errors.md but not in the code: {gone:?}");
}

/// `docs/metrics.md` lists the families that `/metrics` has, by name and kind.
#[tokio::test]
async fn every_metric_is_documented() {
    let site = Site::start().await;
    let text = site.get("/metrics").await.text;
    let served = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let docs = std::fs::read_to_string(workspace().join("docs/metrics.md")).expect("docs/metrics.md");
    for (name, kind) in served {
        let row = format!("| `{name}` | {kind} |");
        assert!(docs.contains(&row), "docs/metrics.md has no row {row}");
    }
}
