//! `rules`: who may do what. This version knows open and closed.

use super::walk::{Named, Options, Walk, join};
use crate::model::Access;

/// Operations that a rule can decide.
pub(crate) const OPERATIONS: [&str; 4] = ["create", "read", "update", "delete"];

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
        "remove it: it decides about files, which this version does not have",
    )];
    let Some(rules) = walk.options(node, &path, "`rules`", &OPERATIONS, &later) else {
        return Access::CLOSED;
    };
    for (operation, decision) in [
        ("create", &mut access.create),
        ("read", &mut access.read),
        ("update", &mut access.update),
        ("delete", &mut access.delete),
    ] {
        let Some(node) = rules.get(operation) else {
            continue;
        };
        match node.text().map(str::trim) {
            Some("true") => *decision = true,
            Some("false") => *decision = false,
            _ => walk.problem(
                node.place,
                join(&path, operation),
                "access rules with expressions are not available in this version",
                "use true (open to the world) or false (closed to all but functions)",
            ),
        }
    }
    access
}
