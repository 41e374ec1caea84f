//! The code of functions on its way from the control plane to workers.
//!
//! A bundle is a folder named by the hash of its content. Modules that its code loads (`node_modules`) travel with it;
//! they count in the hash by the record that the package manager keeps of them, not file by file.

mod cache;
mod digest;
mod pack;
mod unpack;

use std::path::{Component, Path};

use alyx_core::{Error, ErrorKind};

pub(crate) use cache::BundleCache;
pub use digest::digest;
pub use pack::pack;

/// Folder of the modules inside a bundle.
pub(crate) const MODULES: &str = "node_modules";
/// Most files of a bundle, modules included.
pub(crate) const MAX_FILES: usize = 60_000;
/// Most bytes of a bundle, modules included.
pub(crate) const MAX_BYTES: u64 = 768 << 20;
/// Deepest file of a bundle.
pub(crate) const MAX_DEPTH: usize = 64;
/// Content of one message in bytes.
pub(crate) const CHUNK: usize = 256 << 10;

/// Whether `name` has the form of a bundle's hash, and so is a safe folder name.
pub fn is_hash(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a relative path goes nowhere but down.
pub(crate) fn is_inside(path: &Path) -> bool {
    let mut parts = 0;
    for part in path.components() {
        match part {
            Component::Normal(_) => parts += 1,
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
                return false;
            }
        }
    }
    parts > 0 && parts <= MAX_DEPTH
}

/// Whether a link at `at` to `target` (both relative, the latter to the link's folder) leads to a place below `top`.
pub(crate) fn leads_below(top: &Path, at: &Path, target: &Path) -> bool {
    let mut place: Vec<&std::ffi::OsStr> = Vec::new();
    let from = at.parent().unwrap_or(Path::new(""));
    for part in from.components().chain(target.components()) {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => {
                if place.pop().is_none() {
                    return false;
                }
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir => return false,
        }
    }
    let top: Vec<_> = top.iter().collect();
    place.len() > top.len() && place.starts_with(&top)
}

pub(crate) fn too_large() -> Error {
    Error::new(
        ErrorKind::PayloadTooLarge,
        "BUNDLE_TOO_LARGE",
        format!(
            "the functions and their modules are more than {MAX_FILES} files or {} MiB; remove modules that are not \
             needed at run time (`npm prune --omit=dev`)",
            MAX_BYTES >> 20
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashes_are_hashes() {
        let check = |name: &str, expected: bool| assert_eq!(is_hash(name), expected, "{name}");
        check("0123456789abcdef0123456789abcdef", true);
        check("0123456789ABCDEF0123456789ABCDEF", false);
        check("0123456789abcdef0123456789abcde", false);
        check("../../../../../../../../etc/pass", false);
        check("", false);
    }

    #[test]
    fn paths_that_leave_the_bundle_are_told_apart() {
        let check = |path: &str, expected: bool| assert_eq!(is_inside(Path::new(path)), expected, "{path}");
        check("a.js", true);
        check("_lib/a.js", true);
        check("a..b/c", true);
        check("", false);
        check("/a", false);
        check("..", false);
        check("a/../../b", false);
        check("./a", false);
    }

    #[test]
    fn links_that_leave_the_modules_are_told_apart() {
        let check = |at: &str, target: &str, expected: bool| {
            let (at, target) = (Path::new(at), Path::new(target));
            assert_eq!(
                leads_below(Path::new("node_modules"), at, target),
                expected,
                "{at:?} → {target:?}"
            );
        };
        check("node_modules/.bin/x", "../x/cli.js", true);
        check("node_modules/a", ".store/a", true);
        check("node_modules/a", "./.store/a", true);
        check("node_modules/a", "..", false);
        check("node_modules/a", "../b.js", false);
        check("node_modules/a", "../../etc", false);
        check("node_modules/a", "/etc", false);
        check("node_modules/a", "../../../node_modules/a", false);
    }
}
