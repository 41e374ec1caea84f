//! Go as a runtime of functions: each version of a function is compiled into a program of its own, which brings the
//! runtime along. There is no process that could wait without a function, and none is needed: a program starts in
//! milliseconds.
//!
//! `source` reads what a function's files declare, `build` makes the program, `cache` keeps it by the hash of all that
//! went into it.

mod build;
mod cache;
mod source;

use std::path::Path;

use crate::interpreter::{Interpreter, Recipe};
use crate::sandbox::{self, Process};
use crate::stem::bare_command;
use alyx_service::state::Function;

pub(crate) use cache::Compiler;

/// Import path of our module, which functions know from the documentation.
const MODULE: &str = "github.com/watzon/alyx";

/// See [`Recipe`]. The binary that its probe tells is Go's own folder.
pub(crate) static GO: Recipe = Recipe {
    title: "Go",
    program: "go",
    probe: &["env", "GOVERSION", "GOROOT"],
    oldest: (1, 21),
    advice: "install Go 1.21 or newer (https://go.dev, or `apt install golang-go`)",
    files: &[
        ("go.mod", include_str!("../../../runtimes/go/go.mod")),
        (
            "pkg/runtime/checks.go",
            include_str!("../../../runtimes/go/pkg/runtime/checks.go"),
        ),
        (
            "pkg/runtime/context.go",
            include_str!("../../../runtimes/go/pkg/runtime/context.go"),
        ),
        (
            "pkg/runtime/database.go",
            include_str!("../../../runtimes/go/pkg/runtime/database.go"),
        ),
        (
            "pkg/runtime/doc.go",
            include_str!("../../../runtimes/go/pkg/runtime/doc.go"),
        ),
        (
            "pkg/runtime/duplicate_linux.go",
            include_str!("../../../runtimes/go/pkg/runtime/duplicate_linux.go"),
        ),
        (
            "pkg/runtime/duplicate_other.go",
            include_str!("../../../runtimes/go/pkg/runtime/duplicate_other.go"),
        ),
        (
            "pkg/runtime/errors.go",
            include_str!("../../../runtimes/go/pkg/runtime/errors.go"),
        ),
        (
            "pkg/runtime/frames.go",
            include_str!("../../../runtimes/go/pkg/runtime/frames.go"),
        ),
        (
            "pkg/runtime/handler.go",
            include_str!("../../../runtimes/go/pkg/runtime/handler.go"),
        ),
        (
            "pkg/runtime/http.go",
            include_str!("../../../runtimes/go/pkg/runtime/http.go"),
        ),
        (
            "pkg/runtime/link.go",
            include_str!("../../../runtimes/go/pkg/runtime/link.go"),
        ),
        (
            "pkg/runtime/log.go",
            include_str!("../../../runtimes/go/pkg/runtime/log.go"),
        ),
        (
            "pkg/runtime/output.go",
            include_str!("../../../runtimes/go/pkg/runtime/output.go"),
        ),
        (
            "pkg/runtime/worker.go",
            include_str!("../../../runtimes/go/pkg/runtime/worker.go"),
        ),
    ],
    prepare: None,
};

/// Runs a function's program. Its settings and its folder are there from the start, since package variables and `init`
/// run before anything could be told to it.
pub(crate) fn process(interpreter: &Interpreter, program: &Path, function: &Function) -> Process {
    let mut command = bare_command(program);
    command.envs(function.env.iter()).current_dir(&function.root);
    let mut readable = sandbox::code(function);
    readable.push(program.to_owned());
    Process {
        command,
        tie: interpreter.launcher,
        readable,
        memory_mib: function.memory_mib,
        title: "the program",
    }
}
