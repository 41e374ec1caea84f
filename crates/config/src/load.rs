//! Reading the layers and putting them together: defaults < file < environment < flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alyx_yaml::{Kind, Node};

use crate::expand::expand;
use crate::keys::Key;
use crate::lookup::{self, Found};
use crate::model::Config;
use crate::problem::{ConfigErrors, Origin, Problem};
use crate::rules;
use crate::value::Input;

/// Largest configuration file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where the configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The file; `None` looks for `alyx.yaml` or `alyx.yml` in `dir`, then in `$HOME/.config/alyx` and `/etc/alyx`.
    pub path: Option<PathBuf>,
    /// The project's folder; empty means the current one.
    pub dir: PathBuf,
    /// The environment, for overrides and `${VAR}`; [`crate::process_env`] reads the real one.
    pub env: BTreeMap<String, String>,
    /// Flags of the command line; relative paths in them are relative to the current folder.
    pub overrides: Vec<Override>,
}

/// One flag.
#[derive(Debug, Clone)]
pub struct Override {
    /// Dotted path of the key that it sets.
    pub key: String,
    /// Its text.
    pub value: String,
    /// The flag as the user wrote it, for messages.
    pub flag: String,
}

/// A configuration without problems.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What was accepted without effect, one line each.
    pub warnings: Vec<String>,
    /// The file that was read, where there was one.
    pub path: Option<PathBuf>,
}

impl Config {
    /// Loads all layers. Without a file the defaults hold. Relative paths of the file and the environment are
    /// joined to the folder of the file, or to `options.dir` where there is none in a project folder.
    ///
    /// # Errors
    /// Every problem of every layer, together.
    pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigErrors> {
        let mut loader = Loader::new(options);
        let file = loader.find_file();
        let base = loader.base(file.as_deref());
        let mut config = Config::defaults_in(&base);
        if let Some(file) = &file {
            loader.read_file(file);
        }
        loader.apply_layer(&base, &mut config);
        loader.read_environment();
        loader.apply_layer(&base, &mut config);
        loader.read_flags();
        loader.apply_layer(Path::new("."), &mut config);
        rules::settle(&mut config, &loader.applied);
        rules::check(&config, &loader.applied, &mut loader.problems);
        if !loader.problems.is_empty() {
            return Err(ConfigErrors::new(loader.problems));
        }
        rules::warn(&config, &loader.applied, &mut loader.warnings);
        Ok(Loaded {
            config,
            warnings: loader.warnings,
            path: file,
        })
    }
}

/// One key that a layer sets.
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    /// What the key's wildcard stood for.
    pub(crate) word: String,
    /// Its text after `${VAR}` was replaced; lists joined by commas.
    pub(crate) text: String,
    pub(crate) origin: Origin,
    input: Input,
    /// Its text as it was written, for messages.
    written: String,
}

impl Setting {
    /// The key's path with its wildcard filled in.
    pub(crate) fn path(&self) -> String {
        self.key
            .path
            .replace("{runtime}", &self.word)
            .replace("{name}", &self.word)
    }
}

struct Loader<'a> {
    options: &'a LoadOptions,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    layer: Vec<Setting>,
    applied: Vec<Setting>,
}

impl<'a> Loader<'a> {
    fn new(options: &'a LoadOptions) -> Self {
        Self {
            options,
            problems: Vec::new(),
            warnings: Vec::new(),
            layer: Vec::new(),
            applied: Vec::new(),
        }
    }

    fn find_file(&mut self) -> Option<PathBuf> {
        if let Some(path) = &self.options.path {
            return Some(path.clone());
        }
        let home = self.options.env.get("HOME").filter(|home| !home.is_empty());
        let mut folders = vec![self.options.dir.clone()];
        folders.extend(home.map(|home| Path::new(home).join(".config/alyx")));
        folders.push(PathBuf::from("/etc/alyx"));
        for folder in folders {
            let mut found = ["alyx.yaml", "alyx.yml"]
                .map(|name| crate::value::resolve(&folder, name))
                .into_iter()
                .filter(|path| path.is_file());
            if let Some(path) = found.next() {
                if let Some(second) = found.next() {
                    let (path, second) = (path.display(), second.display());
                    self.warnings.push(format!(
                        "{second} is not read, because {path} is; remove one of them"
                    ));
                }
                return Some(path);
            }
        }
        None
    }

    /// The folder that relative paths start from: that of a project's file, never that of a user-wide one.
    fn base(&self, file: Option<&Path>) -> PathBuf {
        match (&self.options.path, file.and_then(Path::parent)) {
            (Some(_), Some(parent)) => parent.to_owned(),
            _ => self.options.dir.clone(),
        }
    }

    fn read_file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let source = match read_bounded(path) {
            Ok(source) => source,
            Err(message) => return self.problem(origin, "", message),
        };
        match alyx_yaml::parse_unique(&source) {
            Ok(root) if root.is_null() => {}
            Ok(root) if matches!(root.kind.as_ref(), Kind::Map(_)) => self.walk(path, &root, &mut Vec::new()),
            Ok(root) => {
                let message = format!("the file holds {}, not keys such as `server:`", root.describe());
                self.problem(Origin::Line(path.to_owned(), root.place), "", message);
            }
            Err(faults) => {
                for fault in faults {
                    self.problem(Origin::Line(path.to_owned(), fault.place), "", fault.message);
                }
            }
        }
    }

    fn walk<'n>(&mut self, file: &Path, node: &'n Node, path: &mut Vec<&'n str>) {
        let Kind::Map(entries) = node.kind.as_ref() else {
            if !node.is_null() {
                let message = format!(
                    "this is {}, but it holds further keys: {}",
                    node.describe(),
                    lookup::children(path).join(", ")
                );
                self.problem(Origin::Line(file.to_owned(), node.place), path.join("."), message);
            }
            return;
        };
        for (key, value) in entries {
            path.push(&key.text);
            match lookup::path(path) {
                Found::Section => self.walk(file, value, path),
                Found::Key(found, word) => self.take(file, found, word, value),
                Found::Nothing => {
                    let message = format!("there is no such key; {}", lookup::hint(path));
                    self.problem(Origin::Line(file.to_owned(), key.place), path.join("."), message);
                }
            }
            path.pop();
        }
    }

    /// Takes the value of a key of the file, with its variables replaced.
    fn take(&mut self, file: &Path, key: &'static Key, word: String, node: &Node) {
        let origin = Origin::Line(file.to_owned(), node.place);
        let path = key.path.replace("{runtime}", &word).replace("{name}", &word);
        let twice = |setting: &&Setting| std::ptr::eq(setting.key, key) && setting.word == word;
        if let Some(first) = self.layer.iter().find(twice) {
            let message = format!("the same key is also set at {}; keep one of them", first.origin);
            return self.problem(origin, path, message);
        }
        if node.is_null() {
            return;
        }
        let (written, expanded) = match node.kind.as_ref() {
            Kind::Scalar { text, .. } => (
                text.clone(),
                expand(text, &self.options.env).map(|text| (text.clone(), Input::One(text))),
            ),
            Kind::List(items) => match self.list(file, &path, items) {
                Some(items) => ("the list".to_owned(), Ok((items.join(","), Input::Many(items)))),
                None => return,
            },
            Kind::Map(_) => {
                let message = format!("this is a mapping; write {}", key.kind.takes());
                return self.problem(origin, path, message);
            }
        };
        match expanded {
            Ok((text, input)) => self.layer.push(Setting {
                key,
                word,
                text,
                origin,
                input,
                written,
            }),
            Err(message) => self.problem(origin, path, message),
        }
    }

    fn list(&mut self, file: &Path, path: &str, items: &[Node]) -> Option<Vec<String>> {
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let read = match item.text() {
                Some(text) => expand(text, &self.options.env),
                None => Err(format!("an entry is {}; write a single word", item.describe())),
            };
            match read {
                Ok(text) => texts.push(text),
                Err(message) => self.problem(Origin::Line(file.to_owned(), item.place), path, message),
            }
        }
        (texts.len() == items.len()).then_some(texts)
    }

    fn read_environment(&mut self) {
        for (name, value) in &self.options.env {
            if !name.starts_with("ALYX_") || lookup::is_other_variable(name) {
                continue;
            }
            let Some((key, word)) = lookup::variable(name) else {
                let hint = lookup::variable_hint(name);
                self.warnings.push(format!(
                    "environment variable {name} sets no key and is not read{hint}"
                ));
                continue;
            };
            // Compose files and CI systems pass variables that are empty for "not set".
            if !value.is_empty() {
                self.push_text(key, word, value, Origin::Variable(name.clone()));
            }
        }
    }

    fn read_flags(&mut self) {
        for flag in &self.options.overrides {
            let origin = Origin::Flag(flag.flag.clone());
            let segments: Vec<&str> = flag.key.split('.').collect();
            match lookup::path(&segments) {
                Found::Key(key, word) => self.push_text(key, word, &flag.value, origin),
                Found::Section | Found::Nothing => {
                    let message = format!("there is no such key; {}", lookup::hint(&segments));
                    self.problem(origin, flag.key.clone(), message);
                }
            }
        }
    }

    fn push_text(&mut self, key: &'static Key, word: String, text: &str, origin: Origin) {
        self.layer.push(Setting {
            key,
            word,
            text: text.to_owned(),
            origin,
            input: Input::One(text.to_owned()),
            written: text.to_owned(),
        });
    }

    /// Puts the layer's settings into the configuration, general ones before special ones.
    fn apply_layer(&mut self, base: &Path, config: &mut Config) {
        let mut layer = std::mem::take(&mut self.layer);
        layer.sort_by_key(|setting| crate::keys::all().position(|key| std::ptr::eq(key, setting.key)));
        for mut setting in layer {
            let input = std::mem::replace(&mut setting.input, Input::Many(Vec::new()));
            if let Err(takes) = setting.key.kind.apply(input, base, &setting.word, config) {
                let message = if setting.key.kind.is_secret() {
                    format!("this is not {takes}")
                } else if setting.written.contains("${") {
                    format!("`{}`, with its variables put in, is not {takes}", setting.written)
                } else {
                    format!("`{}` is not {takes}", setting.written)
                };
                self.problem(setting.origin.clone(), setting.path(), message);
            }
            self.applied.push(setting);
        }
    }

    fn problem(&mut self, origin: Origin, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            origin,
            key: key.into(),
            message: message.into(),
        });
    }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        std::io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE {
        return Err(format!(
            "the file has {length} bytes; at most {MAX_FILE} are read"
        ));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}
