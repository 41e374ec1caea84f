//! Python as a runtime of functions.

use tokio::process::Command;

use crate::interpreter::{Interpreter, Recipe};

/// See [`Recipe`].
pub(crate) static PYTHON: Recipe = Recipe {
    title: "Python",
    program: "python3",
    probe: &[
        "-c",
        "import platform, sys; print(platform.python_version()); print(sys.executable); \
         print(sys.prefix); print(sys.base_prefix)",
    ],
    oldest: (3, 9),
    advice: "install Python 3.9 or newer (https://www.python.org, or `apt install python3`)",
    files: &[
        ("start.py", include_str!("../../runtimes/python/start.py")),
        (
            "alyx_functions.py",
            include_str!("../../runtimes/python/alyx_functions.py"),
        ),
        (
            "alyx_runtime/__init__.py",
            include_str!("../../runtimes/python/alyx_runtime/__init__.py"),
        ),
        (
            "alyx_runtime/checks.py",
            include_str!("../../runtimes/python/alyx_runtime/checks.py"),
        ),
        (
            "alyx_runtime/context.py",
            include_str!("../../runtimes/python/alyx_runtime/context.py"),
        ),
        (
            "alyx_runtime/coroutines.py",
            include_str!("../../runtimes/python/alyx_runtime/coroutines.py"),
        ),
        (
            "alyx_runtime/current.py",
            include_str!("../../runtimes/python/alyx_runtime/current.py"),
        ),
        (
            "alyx_runtime/database.py",
            include_str!("../../runtimes/python/alyx_runtime/database.py"),
        ),
        (
            "alyx_runtime/errors.py",
            include_str!("../../runtimes/python/alyx_runtime/errors.py"),
        ),
        (
            "alyx_runtime/frames.py",
            include_str!("../../runtimes/python/alyx_runtime/frames.py"),
        ),
        (
            "alyx_runtime/handlers.py",
            include_str!("../../runtimes/python/alyx_runtime/handlers.py"),
        ),
        (
            "alyx_runtime/logs.py",
            include_str!("../../runtimes/python/alyx_runtime/logs.py"),
        ),
        (
            "alyx_runtime/outcome.py",
            include_str!("../../runtimes/python/alyx_runtime/outcome.py"),
        ),
        (
            "alyx_runtime/plain.py",
            include_str!("../../runtimes/python/alyx_runtime/plain.py"),
        ),
        (
            "alyx_runtime/values.py",
            include_str!("../../runtimes/python/alyx_runtime/values.py"),
        ),
        (
            "alyx_runtime/worker.py",
            include_str!("../../runtimes/python/alyx_runtime/worker.py"),
        ),
    ],
    prepare: Some(prepare),
};

/// Isolated: neither the environment nor the user's own packages change what a function imports. Nothing is written
/// beside its code.
fn prepare(command: &mut Command, _python: &Interpreter, _memory_mib: u64) {
    command.args(["-I", "-B"]);
}
