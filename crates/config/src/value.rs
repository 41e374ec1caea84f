//! What a key may hold: reading its text, and putting it into the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alyx_core::{format_duration, parse_duration, parse_size};

use crate::model::Config;

/// What the server serves, or may come to serve, at places of its own.
const TAKEN_MOUNTS: [&str; 6] = ["/api", "/auth", "/functions", "/docs", "/health", "/metrics"];

/// Puts a checked value into the configuration; the word is what the key's wildcard stood for.
pub(crate) type Set<T> = fn(&mut Config, &str, T);

/// Type, rules and place of a key.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool(Set<bool>),
    /// A whole number within bounds.
    Int { min: u64, max: u64, set: Set<u64> },
    /// A number that is not negative.
    Number(Set<f64>),
    /// A duration of at least `min`; `or_zero` also takes `0`.
    Duration {
        min: Duration,
        or_zero: bool,
        set: Set<Duration>,
    },
    /// A size in bytes.
    Size { min: u64, set: Set<u64> },
    /// A size in MiB where no unit is given.
    Memory { min_mib: u64, set: Set<u64> },
    /// Text that is not empty.
    Text(Set<String>),
    /// Text, empty too.
    AnyText(Set<String>),
    /// Text that is never printed.
    Secret(Set<String>),
    /// A file or folder.
    Path(Set<PathBuf>),
    /// `http://` or `https://`.
    Url(Set<String>),
    /// Where on the site something is served, apart from what the server itself serves.
    Mount(Set<String>),
    /// One of some words.
    Choice {
        words: &'static [&'static str],
        set: Set<&'static str>,
    },
    /// Several words.
    List(Set<Vec<String>>),
}

/// Text on its way into a key.
pub(crate) enum Input {
    /// A scalar, or a variable or flag.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Kind {
    /// Reads `input` and puts it into `config`. Relative paths are joined to `base`.
    ///
    /// # Errors
    /// What the key takes, to be put behind "is not" with the text as it was written.
    pub(crate) fn apply(
        &self,
        input: Input,
        base: &Path,
        word: &str,
        config: &mut Config,
    ) -> Result<(), String> {
        let text = match (input, self) {
            (Input::Many(items), Self::List(set)) => {
                set(config, word, items);
                return Ok(());
            }
            (Input::Many(_), _) => return Err(self.takes()),
            (Input::One(text), _) => text,
        };
        let fail = || self.takes();
        match self {
            Self::Bool(set) => set(config, word, read_bool(&text).ok_or_else(fail)?),
            Self::Int { min, max, set } => {
                let number = text.replace('_', "").parse::<u64>().map_err(|_| fail())?;
                check((*min..=*max).contains(&number), fail)?;
                set(config, word, number);
            }
            Self::Number(set) => {
                let number = text.parse::<f64>().map_err(|_| fail())?;
                check(number.is_finite() && number >= 0.0, fail)?;
                set(config, word, number);
            }
            Self::Duration { min, or_zero, set } => {
                let duration = parse_duration(&text).map_err(|_| fail())?;
                check(duration >= *min || (*or_zero && duration.is_zero()), fail)?;
                set(config, word, duration);
            }
            Self::Size { min, set } => {
                let size = parse_size(&text.replace('_', "")).map_err(|_| fail())?;
                check(size >= *min, fail)?;
                set(config, word, size);
            }
            Self::Memory { min_mib, set } => {
                let mib = read_memory(&text).ok_or_else(fail)?;
                check(mib >= *min_mib, fail)?;
                set(config, word, mib);
            }
            Self::Text(set) => {
                check(!text.trim().is_empty(), fail)?;
                set(config, word, text);
            }
            Self::AnyText(set) | Self::Secret(set) => set(config, word, text),
            Self::Path(set) => {
                check(!text.trim().is_empty(), fail)?;
                set(config, word, resolve(base, &text));
            }
            Self::Url(set) => {
                check(is_url(&text), fail)?;
                set(config, word, text.trim_end_matches('/').to_owned());
            }
            Self::Mount(set) => {
                check(is_free_mount(&text), fail)?;
                set(config, word, text);
            }
            Self::Choice { words, set } => {
                let lower = text.to_ascii_lowercase();
                let choice = words.iter().find(|choice| **choice == lower).ok_or_else(fail)?;
                set(config, word, choice);
            }
            Self::List(set) => set(config, word, split_list(&text)),
        }
        Ok(())
    }

    /// Whether its text must not be printed.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }

    /// What it takes, for messages: "write …".
    pub(crate) fn takes(&self) -> String {
        match self {
            Self::Bool(_) => "true or false".to_owned(),
            Self::Int { min, max, .. } if *max >= u64::from(u32::MAX) => {
                format!("a whole number, at least {min}")
            }
            Self::Int { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Number(_) => "a number such as 1.5".to_owned(),
            Self::Duration { min, or_zero, .. } => {
                let mut text = "a duration such as 500ms, 30s, 5m or 1h30m".to_owned();
                if !min.is_zero() {
                    text.push_str(&format!(", at least {}", format_duration(*min)));
                }
                if *or_zero {
                    text.push_str(", or 0 for no limit");
                }
                text
            }
            Self::Size { min, .. } => {
                format!("a size in bytes or with a unit such as 512kb, 10mb or 1gb, at least {min}")
            }
            Self::Memory { min_mib, .. } => {
                format!("a size in MiB or with a unit such as 256mb or 1gb, at least {min_mib}mb")
            }
            Self::Text(_) => "text that is not empty".to_owned(),
            Self::AnyText(_) | Self::Secret(_) => "text".to_owned(),
            Self::Path(_) => "a path".to_owned(),
            Self::Url(_) => "a URL such as http://localhost:5173".to_owned(),
            Self::Mount(_) => format!(
                "a path such as /_admin that begins with `/` and is neither one of {} nor under one of them",
                TAKEN_MOUNTS.join(", ")
            ),
            Self::Choice { words, .. } => format!("one of: {}", words.join(", ")),
            Self::List(_) => "a list of words".to_owned(),
        }
    }

    /// Its type in the reference.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Bool(_) => "boolean".to_owned(),
            Self::Int { .. } => "integer".to_owned(),
            Self::Number(_) => "number".to_owned(),
            Self::Duration { .. } => "duration".to_owned(),
            Self::Size { .. } => "size in bytes".to_owned(),
            Self::Memory { .. } => "size in MiB".to_owned(),
            Self::Text(_) | Self::AnyText(_) => "text".to_owned(),
            Self::Secret(_) => "secret text".to_owned(),
            Self::Path(_) => "path".to_owned(),
            Self::Url(_) => "URL".to_owned(),
            Self::Mount(_) => "path of the site".to_owned(),
            Self::Choice { words, .. } => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::List(_) => "list".to_owned(),
        }
    }
}

fn check(holds: bool, fail: impl Fn() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fail()) }
}

fn read_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "1" => Some(true),
        "false" | "False" | "FALSE" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a memory limit in MiB: a bare number is MiB, one with a unit is rounded up to whole MiB.
pub fn read_memory(text: &str) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|mib| *mib <= u64::MAX >> 20);
    }
    parse_size(text).ok().map(|bytes| bytes.div_ceil(1 << 20))
}

fn is_url(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        && !text.contains(char::is_whitespace)
}

/// Whether nothing of the server's own is served there.
fn is_free_mount(text: &str) -> bool {
    let path = text.trim_end_matches('/');
    let is_taken = |taken: &&str| {
        let rest = path.strip_prefix(*taken);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let has_odd =
        path.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\'));
    path.starts_with('/') && !path.contains("//") && !has_odd && !TAKEN_MOUNTS.iter().any(is_taken)
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Joins a relative path to the base; a base of `.` adds nothing.
pub(crate) fn resolve(base: &Path, text: &str) -> PathBuf {
    let path = Path::new(text);
    let path = path.strip_prefix("./").unwrap_or(path);
    if base == Path::new(".") || base == Path::new("") {
        path.to_owned()
    } else {
        base.join(path)
    }
}
