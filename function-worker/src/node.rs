//! Node.js as a runtime of functions.

use tokio::process::Command;

use crate::interpreter::{Interpreter, Recipe};

/// See [`Recipe`].
pub(crate) static NODE: Recipe = Recipe {
    title: "Node.js",
    program: "node",
    probe: &["-p", "process.version + '\\n' + process.execPath"],
    oldest: (20, 10),
    advice: "install Node.js 20.10 or newer (https://nodejs.org, or `apt install nodejs`)",
    files: &[
        ("worker.mjs", include_str!("../../runtimes/node/worker.mjs")),
        ("frames.mjs", include_str!("../../runtimes/node/frames.mjs")),
        ("logs.mjs", include_str!("../../runtimes/node/logs.mjs")),
        ("context.mjs", include_str!("../../runtimes/node/context.mjs")),
        (
            "transaction.mjs",
            include_str!("../../runtimes/node/transaction.mjs"),
        ),
        ("checks.mjs", include_str!("../../runtimes/node/checks.mjs")),
        ("handler.mjs", include_str!("../../runtimes/node/handler.mjs")),
        ("loading.mjs", include_str!("../../runtimes/node/loading.mjs")),
        ("functions.mjs", include_str!("../../runtimes/node/functions.mjs")),
    ],
    prepare: Some(prepare),
};

fn prepare(command: &mut Command, node: &Interpreter, memory_mib: u64) {
    command.arg(format!("--max-old-space-size={memory_mib}"));
    if node.version < (20, 19) || (22, 0) <= node.version && node.version < (22, 7) {
        command.arg("--experimental-detect-module");
    }
    if node.version >= (20, 11) {
        command.arg("--disable-warning=MODULE_TYPELESS_PACKAGE_JSON");
        command.arg("--disable-warning=ExperimentalWarning");
    }
    command.env("NODE_ENV", "production");
}
