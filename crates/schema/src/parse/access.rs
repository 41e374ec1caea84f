//! `rules`: who may do what. This version knows open and closed.

use super::walk::{Named, Options, Walk, join};
use crate::model::Access;

/// Operations that a rule can decide.
pub(crate) const OPERATIONS: [&str; 4] = ["create", "read", "update", "delete"];
/// Operations that a rule of a bucket can decide.
pub(crate) const BUCKET_OPERATIONS: [&str; 5] = ["create", "read", "update", "delete", "download"];

/// What holds where no rule decides.
pub(super) fn fallback(walk: &mut Walk, options: &Options<'_>) -> Access {
    let Some(node) = options.get("default_access") else {
        return Access::OPEN;
    };
    match node.text() {
        Some("allow") => Access::OPEN,
        Some("deny") => Access::CLOSED,
        _ => {
            let hint =
                "`allow` opens what no rule decides to the world, `deny` closes it to all but functions";
            walk.problem(node.place, "default_access", "must be `allow` or `deny`", hint);
            Access::CLOSED
        }
    }
}

/// The collection's access: its rules, and `fallback` where it has none.
pub(super) fn read(
    walk: &mut Walk,
    collection: &Named<'_>,
    options: &Options<'_>,
    fallback: Access,
) -> Access {
    let mut access = fallback;
    let Some(node) = options.get("rules") else {
        return access;
    };
    let path = join(&collection.path, "rules");
    let later = [(
        "download",
        "remove it: it is a rule of buckets, and decides about their files",
    )];
    let Some(rules) = walk.options(node, &path, "`rules`", &OPERATIONS, &later) else {
        return Access::CLOSED;
    };
    decide(walk, &rules, &path, &mut access);
    access
}

/// The access of a bucket, and who may download from it.
pub(super) fn of_bucket(
    walk: &mut Walk,
    path: &str,
    options: &Options<'_>,
    fallback: Access,
) -> (Access, bool) {
    let (mut access, mut download) = (fallback, fallback.read);
    let Some(node) = options.get("rules") else {
        return (access, download);
    };
    let path = join(path, "rules");
    let Some(rules) = walk.options(node, &path, "`rules`", &BUCKET_OPERATIONS, &[]) else {
        return (Access::CLOSED, false);
    };
    decide(walk, &rules, &path, &mut access);
    if let Some(decision) = decision(walk, &rules, &path, "download") {
        download = decision;
    }
    (access, download)
}

fn decide(walk: &mut Walk, rules: &Options<'_>, path: &str, access: &mut Access) {
    for (operation, decided) in [
        ("create", &mut access.create),
        ("read", &mut access.read),
        ("update", &mut access.update),
        ("delete", &mut access.delete),
    ] {
        if let Some(decision) = decision(walk, rules, path, operation) {
            *decided = decision;
        }
    }
}

fn decision(walk: &mut Walk, rules: &Options<'_>, path: &str, operation: &str) -> Option<bool> {
    let node = rules.get(operation)?;
    match node.text().map(str::trim) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => {
            walk.problem(
                node.place,
                join(path, operation),
                "access rules with expressions are not available in this version",
                "use true (open to the world) or false (closed to all but functions)",
            );
            None
        }
    }
}
