//! `name.yaml` beside `name.js`, `name.ts`, `name.py` or `name.go`: how one function is to be run.

use std::collections::BTreeMap;
use std::time::Duration;

use alyx_core::parse_duration;
use alyx_service::state::Runtime;
use alyx_yaml::{Kind, Node, Place};

use super::Notice;
use super::rule::Written;

/// Longest timeout that a manifest may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Least memory limit in MiB: less does not start a runtime.
const MIN_MEMORY: u64 = 16;

const KEYS: &str = "name, runtime, timeout, memory, env, rules, description, sample_input";

/// What a manifest says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Manifest {
    /// Place and text of its `name`, which decides nothing.
    pub(super) name: Option<(String, String)>,
    /// Place and meaning of its `runtime`, which the file's own ending must bear out.
    pub(super) runtime: Option<(String, Runtime)>,
    pub(super) timeout: Option<Duration>,
    pub(super) memory_mib: Option<u64>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) description: String,
    pub(super) sample_input: Option<serde_json::Value>,
    /// Who may call the function.
    pub(super) invoke: Option<Written>,
}

/// Reads a manifest; `None` where it has an error, which is then among the notices with all the others.
pub(super) fn read(
    text: &str,
    file: &str,
    environment: &BTreeMap<String, String>,
    notices: &mut Vec<Notice>,
) -> Option<Manifest> {
    let mut reader = Reader {
        file,
        source: text,
        environment,
        notices,
        broken: false,
        manifest: Manifest::default(),
    };
    match alyx_yaml::parse_unique(text) {
        Ok(root) => reader.root(&root),
        Err(faults) => {
            for fault in faults {
                reader.error(fault.place, fault.message);
            }
        }
    }
    (!reader.broken).then_some(reader.manifest)
}

struct Reader<'a> {
    file: &'a str,
    source: &'a str,
    environment: &'a BTreeMap<String, String>,
    notices: &'a mut Vec<Notice>,
    broken: bool,
    manifest: Manifest,
}

impl Reader<'_> {
    fn root(&mut self, root: &Node) {
        match root.kind.as_ref() {
            _ if root.is_null() => {}
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.key(&key.text, key.place, value);
                }
            }
            _ => self.error(
                root.place,
                format!("a manifest holds keys ({KEYS}), not {}", root.describe()),
            ),
        }
    }

    fn key(&mut self, key: &str, at: Place, value: &Node) {
        if value.is_null() && key != "sample_input" {
            return;
        }
        match key {
            "name" => self.manifest.name = self.text(key, value).map(|text| (self.place(value.place), text)),
            "description" => self.manifest.description = self.text(key, value).unwrap_or_default(),
            "runtime" => self.runtime(value),
            "timeout" => self.timeout(value),
            "memory" | "memory_limit" => self.memory(value),
            "env" => self.env(value),
            "rules" => self.rules(value),
            "sample_input" => match value.to_json() {
                Ok(input) => self.manifest.sample_input = Some(input),
                Err(fault) => self.error(fault.place, format!("sample_input: {}", fault.message)),
            },
            "routes" | "hooks" | "schedules" | "webhooks" | "dependencies" | "build" => {
                let message = format!("this version does not read `{key}`; it has no effect");
                self.warning(at, message);
            }
            _ => self.warning(
                at,
                format!("there is no key `{key}`, it has no effect; known: {KEYS}"),
            ),
        }
    }

    fn runtime(&mut self, value: &Node) {
        let Some(text) = self.text("runtime", value) else {
            return;
        };
        let runtime = match text.as_str() {
            "node" | "nodejs" | "javascript" | "typescript" => Runtime::Node,
            "python" | "python3" => Runtime::Python,
            "go" | "golang" => Runtime::Go,
            "deno" | "bun" => {
                return self.error(
                    value.place,
                    format!("runtime: `{text}` is not in this version, which runs `node`, `python` and `go`"),
                );
            }
            _ => {
                return self.error(
                    value.place,
                    format!("runtime: `{text}` is no runtime; write `node`, `python` or `go`"),
                );
            }
        };
        self.manifest.runtime = Some((self.place(value.place), runtime));
    }

    fn timeout(&mut self, value: &Node) {
        let Some(text) = self.text("timeout", value) else {
            return;
        };
        let seconds = text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = parse_duration(&if seconds { format!("{text}s") } else { text.clone() });
        match parsed {
            Ok(timeout) if !timeout.is_zero() && timeout <= MAX_TIMEOUT => {
                self.manifest.timeout = Some(timeout);
            }
            _ => self.error(
                value.place,
                format!(
                    "timeout: `{text}` is no timeout; write a duration such as 500ms, 30s or 5m, at most 24h"
                ),
            ),
        }
    }

    fn memory(&mut self, value: &Node) {
        let Some(text) = self.text("memory", value) else {
            return;
        };
        match alyx_config::read_memory(&text) {
            Some(mib) if mib >= MIN_MEMORY => self.manifest.memory_mib = Some(mib),
            _ => self.error(
                value.place,
                format!("memory: `{text}` is no memory limit; write a size such as 128mb or 1gb, at least {MIN_MEMORY}mb"),
            ),
        }
    }

    fn env(&mut self, value: &Node) {
        let Kind::Map(entries) = value.kind.as_ref() else {
            let message = format!("env: this is {}; write `NAME: value` pairs", value.describe());
            return self.error(value.place, message);
        };
        for (name, value) in entries {
            if let Some(text) = self.env_value(&name.text, value) {
                self.manifest.env.insert(name.text.clone(), text);
            }
        }
    }

    /// A name that is none is an error: who meant to close a function must not have left it open.
    fn rules(&mut self, value: &Node) {
        let Kind::Map(entries) = value.kind.as_ref() else {
            let message = format!("rules: this is {}; write `invoke: <rule>`", value.describe());
            return self.error(value.place, message);
        };
        for (key, value) in entries {
            if key.text != "invoke" {
                let message = format!("rules: there is no rule `{}`; a function has `invoke`", key.text);
                self.error(key.place, message);
                continue;
            }
            // Its `$` are the expression's own.
            match value.text() {
                Some(text) => {
                    self.manifest.invoke = Some(Written::at(text, self.file, value.place, self.source));
                }
                None => {
                    let found = value.describe();
                    let message = format!(
                        "rules.invoke: this is {found}; write a rule, such as `auth != null`, or leave `rules` out to \
                         let everybody call the function"
                    );
                    self.error(value.place, message);
                }
            }
        }
    }

    fn env_value(&mut self, name: &str, value: &Node) -> Option<String> {
        if value.is_null() {
            return Some(String::new());
        }
        self.text(&format!("env.{name}"), value)
    }

    /// A single value with its variables replaced.
    fn text(&mut self, key: &str, value: &Node) -> Option<String> {
        let Some(text) = value.text() else {
            self.error(
                value.place,
                format!("{key}: this is {}; write a single value", value.describe()),
            );
            return None;
        };
        match alyx_config::expand(text, self.environment) {
            Ok(text) => Some(text),
            Err(message) => {
                self.error(value.place, format!("{key}: {message}"));
                None
            }
        }
    }

    fn place(&self, at: Place) -> String {
        format!("{}:{}:{}", self.file, at.line, at.column)
    }

    fn error(&mut self, at: Place, message: impl Into<String>) {
        self.broken = true;
        self.notices.push(Notice::error(self.place(at), message));
    }

    fn warning(&mut self, at: Place, message: impl Into<String>) {
        self.notices.push(Notice::warning(self.place(at), message));
    }
}
