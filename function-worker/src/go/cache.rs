//! Programs by the hash of all that went into them: the function's files, those that it may import, our module and the
//! compiler. A file of another function, or in another language, changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alyx_service::state::Function;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::build;
use super::source;
use crate::failure::StartError;
use crate::interpreter::Interpreter;

/// Programs kept, at some 6 MB each: those that run and those that were wanted last.
const KEPT: usize = 48;
/// Folder of the programs, inside that of the runtimes.
const PROGRAMS: &str = "go-programs";

/// Makes programs, one after the other, each once.
#[derive(Debug)]
pub(crate) struct Compiler {
    runtime_dir: PathBuf,
    turn: tokio::sync::Mutex<()>,
    /// How many times each function is waited for.
    wanted: Mutex<FxHashMap<String, usize>>,
}

/// One function's Go files.
#[derive(Debug)]
pub(super) struct Sources {
    /// Folder of the function's own module, else of all functions; all paths are relative to it.
    pub(super) module: PathBuf,
    /// That folder as it is known inside the functions folder: empty, or with a slash at its end.
    pub(super) prefix: String,
    /// Whether it has a `go.mod`.
    pub(super) has_module: bool,
    /// The function's folder, where it has one in the module; otherwise it is one file.
    pub(super) package: Option<String>,
    /// The function's own files.
    pub(super) files: Vec<String>,
    /// Name of the handler.
    pub(super) handler: &'static str,
    /// Whether there is a `Schema`.
    pub(super) schema: bool,
}

impl Compiler {
    pub(crate) fn new(runtime_dir: PathBuf) -> Self {
        Self {
            runtime_dir,
            turn: tokio::sync::Mutex::new(()),
            wanted: Mutex::default(),
        }
    }

    /// Whether that function is being compiled, or waits for it.
    pub(crate) fn is_at_work_on(&self, name: &str) -> bool {
        self.wanted.lock().contains_key(name)
    }

    /// The program of that function, compiled unless it is there.
    pub(crate) async fn program(&self, go: &Interpreter, function: &Function) -> Result<PathBuf, StartError> {
        let (root, entrypoint) = (function.root.clone(), function.entrypoint.clone());
        let compiler = format!("{}.{} {}", go.version.0, go.version.1, go.entry.display());
        let read = move || {
            let sources = read(&root, &entrypoint)?;
            let key = key(&root, &sources, &compiler).map_err(|error| error.to_string())?;
            Ok((sources, key))
        };
        let (sources, key) = tokio::task::spawn_blocking(read)
            .await
            .map_err(StartError::process)?
            .map_err(|words: String| StartError::Build(words.into()))?;
        let programs = self.runtime_dir.join(PROGRAMS);
        let program = programs.join(key);
        if is_kept(&program) {
            return Ok(program);
        }
        let _wanted = Wanted::new(self, &function.name);
        let _turn = self.turn.lock().await;
        if is_kept(&program) {
            return Ok(program);
        }
        fs::create_dir_all(&programs).map_err(StartError::process)?;
        build::build(go, &function.name, &sources, &program).await?;
        prune(&programs, &program);
        Ok(program)
    }
}

struct Wanted<'a> {
    compiler: &'a Compiler,
    name: String,
}

impl<'a> Wanted<'a> {
    fn new(compiler: &'a Compiler, name: &str) -> Self {
        *compiler.wanted.lock().entry(name.to_owned()).or_default() += 1;
        Self {
            compiler,
            name: name.to_owned(),
        }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut wanted = self.compiler.wanted.lock();
        if let Some(count) = wanted.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.name);
            }
        }
    }
}

/// Whether the program is there; it then counts as wanted just now.
fn is_kept(program: &Path) -> bool {
    let touched = fs::File::open(program).and_then(|file| file.set_modified(SystemTime::now()));
    touched.is_ok()
}

fn read(root: &Path, entrypoint: &Path) -> Result<Sources, String> {
    let folder = entrypoint
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let own_module = folder.is_some_and(|folder| root.join(folder).join("go.mod").is_file());
    let (module, within) = match folder {
        Some(folder) if own_module => (root.join(folder), None),
        _ => (root.to_owned(), folder),
    };
    let prefix = match folder {
        Some(folder) if own_module => format!("{}/", folder.display()),
        _ => String::new(),
    };
    let inside = |path: &Path| path.display().to_string();
    let files = match folder {
        None => vec![inside(entrypoint)],
        Some(folder) => {
            let names =
                go_files(&root.join(folder)).map_err(|error| format!("it cannot be read: {error}"))?;
            let at = within.unwrap_or(Path::new(""));
            names.iter().map(|name| inside(&at.join(name))).collect()
        }
    };
    let found = source::read(&module, &files).map_err(|words| format!("{prefix}{words}"))?;
    let handler = found.handler.ok_or_else(|| {
        format!(
            "{}: it has no handler: write `func Handler(ctx *runtime.Context) (any, error)` or `func Handle(w \
             http.ResponseWriter, r *http.Request)`, with `func` at the beginning of the line",
            entrypoint.display()
        )
    })?;
    Ok(Sources {
        has_module: module.join("go.mod").is_file(),
        package: match (folder, own_module) {
            (None, _) => None,
            (Some(_), true) => Some(".".to_owned()),
            (Some(folder), false) => Some(format!("./{}", folder.display())),
        },
        module,
        prefix,
        files,
        handler,
        schema: found.schema,
    })
}

/// Names of the Go files in a folder, tests aside, in order.
fn go_files(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".go") && !name.ends_with("_test.go"))
        .collect();
    names.sort();
    Ok(names)
}

/// The hash of everything that a program is made of: its files, all Go files in folders, the modules' files, the
/// compiler. Where a file embeds others, of all files.
fn key(root: &Path, sources: &Sources, compiler: &str) -> std::io::Result<String> {
    const MODULES: [&str; 3] = ["go.mod", "go.sum", "go.work"];
    let mut hasher = blake3::Hasher::new();
    let mut add = |name: &str, content: &[u8]| {
        hasher
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes());
        hasher
            .update(&(content.len() as u64).to_le_bytes())
            .update(content);
    };
    add("compiler", compiler.as_bytes());
    add(
        "entry",
        format!("{:?} {:?}", sources.prefix, sources.files).as_bytes(),
    );
    let own = |name: &str| sources.files.iter().any(|file| file == name);
    let mut all = Vec::new();
    files_below(root, Path::new(""), &mut all)?;
    let mut embeds = false;
    for path in &all {
        let name = path.display().to_string();
        let flat = path.parent().is_none_or(|parent| parent.as_os_str().is_empty());
        let counts = if name.ends_with(".go") {
            // Another function of one file: nothing can import it.
            !flat || (sources.prefix.is_empty() && own(&name))
        } else {
            path.file_name()
                .is_some_and(|file| MODULES.iter().any(|known| file == *known))
        };
        if counts {
            let content = fs::read(root.join(path))?;
            embeds |= content.windows(10).any(|part| part == b"//go:embed");
            add(&name, &content);
        }
    }
    if embeds {
        for path in &all {
            add(&path.display().to_string(), &fs::read(root.join(path))?);
        }
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

fn files_below(root: &Path, at: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(root.join(at))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = at.join(entry.file_name());
        // Links are those to Node's modules.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(root, &path, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Removes all but the programs that were wanted last, and what a build left behind that was cut off. One that runs
/// goes on without its file.
fn prune(programs: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(programs) else {
        return;
    };
    let mut old: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path() != current && entry.path().is_file())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    old.sort_by(|left, right| right.cmp(left));
    for (_, path) in old.into_iter().skip(KEPT - 1) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(program = %path.display(), %error, "an old program of a function could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = "package main\nfunc Handler() {}\n";

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("made");
            fs::write(path, text).expect("written");
        }
        dir
    }

    fn key_of(dir: &Path, entrypoint: &str) -> String {
        let sources = read(dir, Path::new(entrypoint)).expect("it can be compiled");
        key(dir, &sources, "1.26").expect("readable")
    }

    #[test]
    fn a_program_is_known_by_what_it_is_made_of() {
        let dir = project(&[
            ("hello.go", HANDLER),
            ("other.go", HANDLER),
            ("page.js", "1"),
            ("_shared/money/money.go", "package money"),
            ("thumb/main.go", HANDLER),
        ]);
        let change = |path: &str, text: &str, hello: bool, thumb: bool| {
            let before = (
                key_of(dir.path(), "hello.go"),
                key_of(dir.path(), "thumb/main.go"),
            );
            fs::write(dir.path().join(path), text).expect("written");
            let after = (
                key_of(dir.path(), "hello.go"),
                key_of(dir.path(), "thumb/main.go"),
            );
            assert_eq!(
                (before.0 != after.0, before.1 != after.1),
                (hello, thumb),
                "{path}"
            );
        };
        change("other.go", "package main // changed", false, false);
        change("page.js", "2", false, false);
        change("hello.go", &format!("{HANDLER}// changed"), true, false);
        change("_shared/money/money.go", "package money // changed", true, true);
        change("go.mod", "module shop", true, true);
        change("thumb/main.go", &format!("{HANDLER}//go:embed x"), true, true);
        change("page.js", "3", true, true);
    }

    #[test]
    fn a_folder_with_a_module_is_one_of_its_own() {
        let dir = project(&[
            ("thumb/main.go", HANDLER),
            ("thumb/size.go", "package main"),
            ("thumb/go.mod", "module thumb"),
        ]);
        let sources = read(dir.path(), Path::new("thumb/main.go")).expect("it can be compiled");
        assert_eq!(sources.module, dir.path().join("thumb"));
        assert_eq!(
            (sources.prefix.as_str(), sources.package.as_deref()),
            ("thumb/", Some("."))
        );
        assert_eq!(sources.files, ["main.go", "size.go"]);
        let dir = project(&[("thumb/index.go", "package thumb")]);
        let told = read(dir.path(), Path::new("thumb/index.go")).expect_err("refused");
        assert!(told.starts_with("thumb/index.go:1: the package"), "{told}");
    }

    #[test]
    fn programs_that_nobody_wants_are_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 0..KEPT + 3 {
            let file = fs::File::create(dir.path().join(number.to_string())).expect("made");
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            file.set_modified(at).expect("set");
        }
        assert!(is_kept(&dir.path().join("1")), "it is wanted again");
        prune(dir.path(), &dir.path().join("0"));
        let left = |number: usize| dir.path().join(number.to_string()).exists();
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), KEPT);
        assert!(left(0) && left(1) && !left(2) && left(KEPT + 2));
    }
}
