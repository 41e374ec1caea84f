//! Compiles one function, where it lies: what is added to its files (`main`, `go.mod`) is told to the compiler as an
//! overlay, so that the files keep their names in its errors and in stack traces.
//!
//! Modules that the function's `go.mod` requires are fetched here, by Go itself and as its settings say; nothing is
//! fetched when the program runs. `cgo` is off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, setpriority_process};
use serde_json::json;
use tokio::process::Command;

use super::MODULE;
use super::cache::Sources;
use crate::failure::StartError;
use crate::interpreter::Interpreter;

/// The first build of a machine compiles the standard library, and a `go.mod` may have much to fetch.
const LONGEST: Duration = Duration::from_secs(300);
/// How far the compiler stands back behind everything else on the machine.
const NICENESS: i32 = 10;
/// What is told of a failed build.
const MAX_LINES: usize = 10;
const MAX_WORDS: usize = 4 << 10;
const ADVICE: &str = "; `go get` it where the functions are, so that their go.mod requires it";
/// What Go, and what it fetches modules with, may know of the server's environment, which holds secrets too.
const INHERITED: &str = "PATH HOME USER LANG TMPDIR XDG_CACHE_HOME XDG_CONFIG_HOME SSL_CERT_FILE SSL_CERT_DIR SSH_AUTH_SOCK \
    NETRC HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy GOAUTH GOCACHE GOENV GOINSECURE \
    GOMAXPROCS GOMODCACHE GONOPROXY GONOSUMDB GOPATH GOPRIVATE GOPROXY GOSUMDB GOTMPDIR GOVCS";
/// Our file beside the function's.
const MAIN: &str = "alyx_main.go";

/// Makes `program`, or says what is wrong with the code.
pub(super) async fn build(
    go: &Interpreter,
    name: &str,
    sources: &Sources,
    program: &Path,
) -> Result<(), StartError> {
    let started = Instant::now();
    tracing::info!(function = name, "compiling a function");
    let folder = program.parent().unwrap_or(Path::new(""));
    // Dropped, it is removed, whatever becomes of the build.
    let work = Work::new(folder).map_err(StartError::process)?;
    let built = tokio::time::timeout(LONGEST, compile(go, sources, &work)).await;
    built.unwrap_or_else(|_| {
        Err(StartError::Build(
            format!("it did not end within {}", alyx_core::format_duration(LONGEST)).into(),
        ))
    })?;
    fs::rename(work.0.join("program"), program).map_err(StartError::process)?;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(function = name, duration_ms, "compiled a function");
    Ok(())
}

async fn compile(go: &Interpreter, sources: &Sources, work: &Work) -> Result<(), StartError> {
    let module = sources.module.join("go.mod");
    let own_module = work.0.join("module.mod");
    let text = if sources.has_module {
        fs::read_to_string(&module).map_err(StartError::process)?
    } else {
        "module functions\n".to_owned()
    };
    fs::write(&own_module, text).map_err(StartError::process)?;
    let Some(ours) = go.entry.parent() else {
        return Err(StartError::process("the runtime's files have no folder"));
    };
    let mut edit = go_command(go, &sources.module, work).await;
    edit.args(["mod", "edit"])
        .arg(format!("-require={MODULE}@v0.0.0"))
        .arg(format!("-replace={MODULE}={}", ours.display()));
    if !sources.has_module {
        edit.arg("-go=1.21");
    }
    run(edit.arg(&own_module), sources, &own_module).await?;

    let main = work.0.join("main.go");
    fs::write(&main, main_text(sources)).map_err(StartError::process)?;
    let package = sources.package.as_deref();
    let beside = sources.module.join(package.unwrap_or("")).join(MAIN);
    let overlay =
        json!({"Replace": {shown(&module): shown(&own_module), shown(&clean(&beside)): shown(&main)}});
    let overlay_file = work.0.join("overlay.json");
    fs::write(&overlay_file, overlay.to_string()).map_err(StartError::process)?;
    let mut build = go_command(go, &sources.module, work).await;
    build
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w",
            "-overlay",
        ])
        .arg(&overlay_file)
        .arg("-o")
        .arg(work.0.join("program"));
    match package {
        Some(package) => build.arg(package),
        None => build.args(&sources.files).arg(MAIN),
    };
    run(&mut build, sources, &own_module).await
}

/// What calls the handler. Its name is the runtime's own, so that nothing of the function's can collide with it.
fn main_text(sources: &Sources) -> String {
    let schema = if sources.schema { ", Schema: &Schema" } else { "" };
    format!(
        "package main\n\nimport alyxRuntime \"{MODULE}/pkg/runtime\"\n\nfunc main() {{\n\t\
         alyxRuntime.Serve(alyxRuntime.Declared{{Handler: {}{schema}}})\n}}\n",
        sources.handler
    )
}

/// Go with the settings of this machine's user, apart from those that would make a build another one elsewhere.
async fn go_command(go: &Interpreter, at: &Path, work: &Work) -> Command {
    let mut command = bare_go(go);
    command.current_dir(at);
    let mut asked = bare_go(go);
    let told = asked
        .args(["env", "GOCACHE"])
        .stderr(Stdio::null())
        .output()
        .await;
    let cache = told.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    // Where nobody is at home, as in a container.
    if cache.is_ok_and(|cache| cache.is_empty() || cache == "off") {
        let folder = work.0.parent().unwrap_or(&work.0);
        command.env("GOCACHE", folder.join("cache"));
        command.env("GOPATH", folder.join("modules"));
    }
    command
}

fn bare_go(go: &Interpreter) -> Command {
    let mut command = Command::new(go.binary.join("bin/go"));
    let inherited = std::env::vars_os().filter(|(name, _)| INHERITED.split(' ').any(|known| name == known));
    command
        .env_clear()
        .envs(inherited)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("GO111MODULE", "on")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(command: &mut Command, sources: &Sources, module: &Path) -> Result<(), StartError> {
    let started = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(StartError::process)?;
    // Calls under way come first. What it starts itself takes after it.
    let pid = started.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
        && let Err(error) = setpriority_process(Some(pid), NICENESS)
    {
        tracing::debug!(%error, "the compiler runs with the priority of all");
    }
    let done = started.wait_with_output().await.map_err(StartError::process)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(StartError::Build(told(&said, sources, module).into()))
}

/// What the compiler said, with places as they are in the functions folder.
fn told(said: &str, sources: &Sources, module: &Path) -> String {
    let folder = format!("{}/", sources.module.display());
    let mut lines: Vec<String> = said
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let line = line.replace(&shown(module), "go.mod").replace(&folder, "");
            let line = line.replace(": import lookup disabled by -mod=readonly", ADVICE);
            let line = line.strip_prefix("./").unwrap_or(&line);
            match line.starts_with(|first: char| first.is_whitespace()) {
                true => line.to_owned(),
                false if is_place(line) => format!("{}{line}", sources.prefix),
                false => line.to_owned(),
            }
        })
        .collect();
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("and {more} more lines"));
    }
    let mut words = lines.join("\n");
    words.truncate(words.floor_char_boundary(MAX_WORDS));
    if words.is_empty() {
        words.push_str("the compiler failed without a word");
    }
    words
}

/// Whether a line begins with a file and a line in it.
fn is_place(line: &str) -> bool {
    let mut parts = line.split(':');
    parts
        .next()
        .is_some_and(|file| file.ends_with(".go") || file.ends_with("go.mod"))
        && parts.next().is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Without `.` in its middle, which an overlay does not look through.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A folder of one build's own.
struct Work(PathBuf);

impl Work {
    fn new(beside: &Path) -> std::io::Result<Self> {
        let folder = std::path::absolute(beside)?.join(format!(".new-{}", alyx_core::new_uuid_v7()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "what a build wrote could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_places() {
        let sources = Sources {
            module: PathBuf::from("/b/functions/thumb"),
            prefix: "thumb/".to_owned(),
            has_module: true,
            package: Some(".".to_owned()),
            files: vec!["main.go".to_owned()],
            handler: "Handler",
            schema: false,
        };
        let check = |said: &str, expected: &str| {
            assert_eq!(told(said, &sources, Path::new("/w/module.mod")), expected);
        };
        check(
            "# thumb\n./main.go:3:2: undefined: x\n",
            "thumb/main.go:3:2: undefined: x",
        );
        check(
            "/b/functions/thumb/main.go:3:2: no required module provides package a.b/c; to add it:\n\tgo get a.b/c\n",
            "thumb/main.go:3:2: no required module provides package a.b/c; to add it:\n\tgo get a.b/c",
        );
        check(
            "main.go:2:8: cannot find module providing package a.b/c: import lookup disabled by -mod=readonly",
            &format!("thumb/main.go:2:8: cannot find module providing package a.b/c{ADVICE}"),
        );
        check(
            "go: /w/module.mod:3: unknown directive: x",
            "go: go.mod:3: unknown directive: x",
        );
        check("", "the compiler failed without a word");
        let many = "a.go:1:1: x\n".repeat(MAX_LINES + 4);
        assert!(told(&many, &sources, Path::new("/w")).ends_with("and 4 more lines"));
    }
}
