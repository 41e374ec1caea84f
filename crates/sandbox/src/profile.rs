//! What a program is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::grants::Grants;

/// One program and the walls around it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// Absolute path, the same inside.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// All of its environment, at most 100 KiB.
    pub env: BTreeMap<String, String>,
    /// Folder that it starts in, one of those that it sees.
    pub cwd: PathBuf,
    /// What is asked of the kernel; all of it, or the program is not started.
    pub grants: Grants,
    /// Whether it keeps the machine's network. Without, it has an interface that leads nowhere.
    pub network: bool,
    /// An empty folder that its root is laid out over, in the monitor's own view of the files.
    pub stage: PathBuf,
    /// Files and folders that it may read, at the same paths inside; those that are not there are left out.
    pub readable: Vec<PathBuf>,
    /// A folder of its own that it may write to. Only where it has no namespaces, and so no `/tmp` of its own.
    pub scratch: Option<PathBuf>,
    /// Its limits.
    pub limits: Limits,
}

/// What one sandbox may use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limits {
    /// Most processes and threads. Counted by sandbox where it has a user namespace.
    pub processes: u64,
    /// Most open descriptors of a process.
    pub files: u64,
    /// Size of `/tmp` in bytes, and of the largest file.
    pub tmp: u64,
}

impl Default for Limits {
    /// 128 processes and threads, 1,024 descriptors, 64 MiB.
    fn default() -> Self {
        Self {
            processes: 128,
            files: 1024,
            tmp: 64 << 20,
        }
    }
}
