//! Rules between the keys of file storage.

use crate::model::{Config, StorageBackend, StorageKind};

/// Longest beginning of a folder's name.
const MAX_BASE: usize = 64;

pub(super) fn check(config: &Config, problem: &mut impl FnMut(&str, &str)) {
    for (name, backend) in &config.storage.backends {
        check_backend(name, backend, problem);
    }
}

fn check_backend(name: &str, backend: &StorageBackend, problem: &mut impl FnMut(&str, &str)) {
    let mut problem = |key: &str, message: &str| problem(&format!("storage.backends.{name}.{key}"), message);
    if backend.kind == StorageKind::S3 {
        problem(
            "type",
            "`s3` is not available in this version; write `type: filesystem` and a `filesystem.path`",
        );
    } else if backend.path.is_none() {
        problem(
            "filesystem.path",
            "a storage needs a folder; write one such as `filesystem: {path: ./files}`",
        );
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !backend.base_path.chars().all(plain) || backend.base_path.len() > MAX_BASE {
        problem(
            "filesystem.base_path",
            &format!(
                "write letters, digits, `-` and `_` only, at most {MAX_BASE}: it begins the names of folders"
            ),
        );
    }
}
