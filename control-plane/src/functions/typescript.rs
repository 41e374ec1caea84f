//! The TypeScript of a bundle: written as JavaScript under the name that Node loads it by, `x.ts` as `x.js`.
//!
//! What cannot be written so stops nothing else: a file with a fault becomes one that says so when it is loaded, and so
//! does each file that would load it, since a module that lacks what others import fails with words that name neither
//! the place nor the cause.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread;

use alyx_typescript::{Fault, Language, compile};

use super::bundle::{BundleError, write_file};
use super::{Notice, shown};

/// Largest file that is compiled, in bytes.
const MAX_SOURCE: u64 = 4 << 20;
/// Nested expressions of machine-written files are deep, and the reader goes down into each.
const STACK: usize = 64 << 20;
/// Endings without a file's own language, in the order in which Node prefers them.
const ENDINGS: [&str; 4] = ["js", "mjs", "cjs", "json"];

/// What became of a bundle's TypeScript.
#[derive(Debug, Default)]
pub(super) struct Translation {
    /// The author's file by that of the bundle, relative to the folder.
    origins: BTreeMap<String, String>,
    /// What is wrong.
    pub(super) notices: Vec<Notice>,
}

impl Translation {
    /// The name by which the author knows a file of the bundle.
    pub(super) fn origin<'n>(&'n self, file: &'n str) -> &'n str {
        self.origins.get(file).map_or(file, String::as_str)
    }
}

/// The ending of a TypeScript file and that of its JavaScript.
pub(super) fn endings(file: &Path) -> Option<(&'static str, &'static str)> {
    let name = file.file_name()?.to_str()?;
    let (stem, ending) = name.rsplit_once('.')?;
    // Declarations hold nothing to run.
    if stem.ends_with(".d") {
        return None;
    }
    [("ts", "js"), ("mts", "mjs"), ("cts", "cjs")]
        .into_iter()
        .find(|(typed, _)| *typed == ending)
}

/// Writes the TypeScript among `files` of `folder` into `target`, where all other files are already. Paths are relative.
pub(super) fn translate(
    folder: &Path,
    target: &Path,
    files: &BTreeSet<PathBuf>,
) -> Result<Translation, BundleError> {
    if !files.iter().any(|file| endings(file).is_some()) {
        return Ok(Translation::default());
    }
    let mut project = Project::new(folder, target, files);
    let translated = thread::scope(|scope| {
        let work = || project.run();
        let worker = thread::Builder::new()
            .name("typescript".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)?;
        worker
            .join()
            .map_err(|_| io::Error::other("the compiler of TypeScript broke down"))
    });
    translated.map_err(|source| BundleError::Io {
        path: folder.to_owned(),
        verb: "compiled",
        source,
    })??;
    Ok(project.translation)
}

/// A module as far as others are concerned.
#[derive(Debug)]
enum Module {
    /// The files that it loads, as they are called in the bundle.
    Whole(Vec<String>),
    /// Why it cannot be run.
    Broken(String),
}

struct Project<'a> {
    folder: &'a Path,
    target: &'a Path,
    files: &'a BTreeSet<PathBuf>,
    /// The files of the bundle.
    present: BTreeSet<String>,
    modules: BTreeMap<String, Module>,
    translation: Translation,
}

impl<'a> Project<'a> {
    fn new(folder: &'a Path, target: &'a Path, files: &'a BTreeSet<PathBuf>) -> Self {
        Self {
            folder,
            target,
            files,
            present: BTreeSet::new(),
            modules: BTreeMap::new(),
            translation: Translation::default(),
        }
    }

    fn run(&mut self) -> Result<(), BundleError> {
        let mut typed = Vec::new();
        for file in self.files {
            let name = file.to_string_lossy().into_owned();
            match endings(file) {
                None => {
                    self.present.insert(name);
                }
                Some((_, ending)) => {
                    let written = file.with_extension(ending).to_string_lossy().into_owned();
                    typed.push((name, written));
                }
            }
        }
        typed.retain(|(name, written)| {
            let taken = self.files.contains(Path::new(written));
            if taken {
                self.translation.notices.push(Notice::warning(
                    shown(self.folder, name),
                    format!("`{written}` beside it is what runs; remove one of them"),
                ));
            }
            !taken
        });
        for (name, written) in &typed {
            self.present.insert(written.clone());
            self.translation.origins.insert(written.clone(), name.clone());
        }
        for (name, written) in &typed {
            self.typescript(name, written)?;
        }
        self.javascript()?;
        self.replace_broken()
    }

    fn typescript(&mut self, name: &str, written: &str) -> Result<(), BundleError> {
        let language = if name.ends_with(".cts") {
            Language::CommonTypeScript
        } else {
            Language::TypeScript
        };
        let compiled = match self.source(name) {
            Ok(source) => compile(&source, language, &|module| self.renamed(name, module, true)),
            Err(fault) => Err(vec![fault]),
        };
        let module = match compiled {
            Ok(compiled) => {
                let text = format!("{}\n//# sourceURL={}\n", compiled.text, self.known_as(name));
                write_file(&self.target.join(written), text.as_bytes())?;
                Module::Whole(self.loaded(name, &compiled.modules))
            }
            Err(faults) => {
                let mut words = Vec::new();
                for fault in &faults {
                    self.translation.notices.push(Notice::broken(
                        format!("{}:{}:{}", shown(self.folder, name), fault.line, fault.column),
                        fault.message.clone(),
                    ));
                    words.push(format!("{}:{fault}", self.known_as(name)));
                }
                Module::Broken(words.join("\n"))
            }
        };
        self.modules.insert(written.to_owned(), module);
        Ok(())
    }

    /// JavaScript may load TypeScript too, by its name. A file that cannot be read here is Node's to judge.
    fn javascript(&mut self) -> Result<(), BundleError> {
        let broken = self
            .modules
            .values()
            .any(|module| matches!(module, Module::Broken(_)));
        for file in self.files {
            let name = file.to_string_lossy();
            let is_script = ["js", "mjs", "cjs"]
                .iter()
                .any(|ending| file.extension().is_some_and(|own| own == *ending));
            if !is_script {
                continue;
            }
            let Ok(source) = self.source(&name) else { continue };
            let names_typescript = ["ts\"", "ts'", "ts`"].iter().any(|end| source.contains(end));
            if !broken && !names_typescript {
                continue;
            }
            let renamed = |module: &str| self.renamed(&name, module, false);
            let Ok(compiled) = compile(&source, Language::JavaScript, &renamed) else {
                continue;
            };
            if compiled.text != source {
                write_file(&self.target.join(file), compiled.text.as_bytes())?;
            }
            let loaded = self.loaded(&name, &compiled.modules);
            self.modules.insert(name.into_owned(), Module::Whole(loaded));
        }
        Ok(())
    }

    /// Puts the words of the fault in place of each file that could not be loaded because of it.
    fn replace_broken(&mut self) -> Result<(), BundleError> {
        loop {
            let spread = self.modules.iter().find_map(|(file, module)| match module {
                Module::Whole(loaded) => loaded.iter().find_map(|other| match self.modules.get(other) {
                    Some(Module::Broken(words)) => Some((file.clone(), words.clone())),
                    Some(Module::Whole(_)) | None => None,
                }),
                Module::Broken(_) => None,
            });
            let Some((file, words)) = spread else { break };
            self.modules.insert(file, Module::Broken(words));
        }
        for (file, module) in &self.modules {
            if let Module::Broken(words) = module {
                let words = serde_json::Value::from(words.as_str());
                let text = format!(
                    "const error = new Error({words});\nerror.stack = error.message;\nthrow error;\n"
                );
                write_file(&self.target.join(file), text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn source(&self, name: &str) -> Result<String, Fault> {
        let path = self.folder.join(name);
        let fault = |message: String| Fault {
            line: 1,
            column: 1,
            message,
        };
        if fs::metadata(&path).is_ok_and(|about| about.len() > MAX_SOURCE) {
            return Err(fault(format!("it is larger than {} MiB", MAX_SOURCE >> 20)));
        }
        fs::read_to_string(&path).map_err(|error| fault(format!("it cannot be read: {error}")))
    }

    /// The name of an author's file in messages and stack traces: with the folder's own name, as in an editor.
    fn known_as(&self, name: &str) -> String {
        let folder = self.folder.file_name().unwrap_or_default();
        Path::new(folder).join(name).display().to_string()
    }

    /// What a file must call a module that it calls `module`, where that is something else.
    fn renamed(&self, from: &str, module: &str, complete: bool) -> Option<String> {
        let target = within(from, module)?;
        if self.present.contains(&target) {
            return None;
        }
        let path = Path::new(&target);
        if let Some((typed, ending)) = endings(path) {
            let written = path.with_extension(ending);
            let there = self.present.contains(&*written.to_string_lossy());
            return there.then(|| format!("{}{ending}", &module[..module.len() - typed.len()]));
        }
        if !complete {
            return None;
        }
        let folder = module.trim_end_matches('/');
        let file = ENDINGS
            .iter()
            .map(|ending| (format!("{target}.{ending}"), format!("{folder}.{ending}")));
        let index = ENDINGS.iter().map(|ending| {
            (
                format!("{target}/index.{ending}"),
                format!("{folder}/index.{ending}"),
            )
        });
        file.chain(index)
            .find(|(file, _)| self.present.contains(file))
            .map(|(_, name)| name)
    }

    fn loaded(&self, from: &str, modules: &[String]) -> Vec<String> {
        let names = modules.iter().filter_map(|module| {
            let called = self.renamed(from, module, true);
            within(from, called.as_deref().unwrap_or(module))
        });
        names.collect()
    }
}

/// The file that `from` means by a relative name, where that is inside the folder.
fn within(from: &str, module: &str) -> Option<String> {
    if !(module.starts_with("./") || module.starts_with("../") || matches!(module, "." | "..")) {
        return None;
    }
    let mut path = Path::new(from).parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(module).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_from_where_they_are_named() {
        let check = |from: &str, module: &str, expected: Option<&str>| {
            assert_eq!(within(from, module).as_deref(), expected, "{from} → {module}");
        };
        check("a.ts", "./b.ts", Some("b.ts"));
        check("a/b.ts", "../_shared/c", Some("_shared/c"));
        check("a/b.ts", "./x/../c.js", Some("a/c.js"));
        check("a.ts", "../b", None);
        check("a.ts", "zod", None);
        check("a.ts", "node:fs", None);
        check("a.ts", "/etc/passwd", None);
    }

    #[test]
    fn declarations_are_not_compiled() {
        let check = |file: &str, expected: Option<(&str, &str)>| {
            assert_eq!(endings(Path::new(file)), expected, "{file}");
        };
        check("a.ts", Some(("ts", "js")));
        check("x/a.test.mts", Some(("mts", "mjs")));
        check("a.cts", Some(("cts", "cjs")));
        check("d.ts", Some(("ts", "js")));
        check("a.d.ts", None);
        check("a.d.mts", None);
        check("ts", None);
        check("a.tsx", None);
    }
}
