//! The reference of all keys as Markdown, made from the registry.

use std::fmt::Write as _;

use crate::keys::{self, Key, Status};
use crate::lookup::environment_name;

const INTRODUCTION: &str = "\
# Configuration

Alyx reads `alyx.yaml` (or `alyx.yml`) from the project's folder, else from `~/.config/alyx` or `/etc/alyx`; \
`--config FILE` names another. Without a file the defaults hold.

Later layers win: defaults, then the file, then the environment, then flags.

- **Environment.** Every key has a variable, named below. Lists are split at commas. An empty variable counts as \
not set.
- **Variables in the file.** `${NAME}` in any value is replaced, also inside longer text and in lists. A variable \
that is not set is an error; `${NAME:-fallback}` falls back. `$${` is a literal `${`.
- **Durations** are written `500ms`, `30s`, `5m`, `1h`, `7d` or `1h30m`; **sizes** `512kb`, `10mb`, `1gb` (powers \
of 1024) or a number of bytes.
- **Paths** in the file and in variables are relative to the file's folder (to the project's folder where the file \
is not in it), paths in flags to the current one.
- **Problems.** All of them are printed together, each with its line and key, and the process ends with status 64 \
before it listens on any port. Unknown keys are problems, unknown `ALYX_` variables are warnings.
";

/// The text of `docs/configuration.md`.
pub fn reference_markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    let mut section = "";
    for key in keys::all().filter(|key| key.status == Status::Live) {
        let of = key.path.split('.').next().unwrap_or_default();
        if of != section {
            section = of;
            let _ = writeln!(out, "\n## `{section}`\n");
            out.push_str("| Key | Type | Default | Variable | What it does |\n|---|---|---|---|---|\n");
        }
        row(&mut out, key);
    }
    out.push_str(
        "\n## Without effect\n\nThese keys are read and checked, so that a file written for another version loads, \
         and start-up says that they do nothing. `server.tls.enabled: true` is an error: going on without it \
         would be unsafe.\n\n\
         | Key | Type | Why |\n|---|---|---|\n",
    );
    for key in keys::all() {
        if let Status::NoEffect(why) = key.status {
            let _ = writeln!(out, "| `{}` | {} | {why} |", key.path, key.kind.name());
        }
    }
    out
}

fn row(out: &mut String, key: &Key) {
    let default = match key.default {
        Some(default) => format!("`{default}`"),
        None => "none".to_owned(),
    };
    let mut doc = key.doc.to_owned();
    if !key.aliases.is_empty() {
        let aliases: Vec<String> = key.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let _ = write!(doc, " Also written {}.", aliases.join(", "));
    }
    let _ = writeln!(
        out,
        "| `{}` | {} | {default} | `{}` | {doc} |",
        key.path,
        key.kind.name(),
        environment_name(key.path)
    );
}
