//! `select`: the values of a field of type select, and how many can be chosen at once.

use super::walk::{Options, Walk, join};
use crate::model::{FieldType, Validation};
use alyx_yaml::Node;

/// Options under `select`.
pub(crate) const SELECT_OPTIONS: [&str; 2] = ["values", "maxSelect"];
/// Most values to choose from.
const MOST_VALUES: usize = 500;
/// Longest value, in characters.
const LONGEST_VALUE: usize = 100;
const EXAMPLE: &str = "write `select: {values: [draft, published], maxSelect: 1}`";

/// Reads the block into the field's checks. Which fields must have one and which cannot is noted.
pub(super) fn read(
    walk: &mut Walk,
    options: &Options<'_>,
    kind: FieldType,
    path: &str,
    checks: &mut Validation,
) {
    let at = join(path, "select");
    match (options.entry("select"), kind == FieldType::Select) {
        (None, false) => {}
        (None, true) => {
            if let Some(node) = options.get("type") {
                walk.problem(node.place, at, "is missing: a select has values", EXAMPLE);
            }
        }
        (Some((key, _)), false) => {
            let message = format!("`select` does not fit a field of type {}", kind.name());
            walk.problem(key.place, at, message, "take it off, or use `type: select`");
        }
        (Some((_, node)), true) => {
            if let Some(inner) = walk.options(node, &at, "`select`", &SELECT_OPTIONS, &[]) {
                read_block(walk, node, &inner, &at, checks);
            }
        }
    }
}

fn read_block(walk: &mut Walk, block: &Node, inner: &Options<'_>, path: &str, checks: &mut Validation) {
    match inner.get("values") {
        Some(node) => read_values(walk, node, &join(path, "values"), checks),
        None => walk.problem(
            block.place,
            join(path, "values"),
            "is missing: a select has values",
            EXAMPLE,
        ),
    }
    let Some(node) = inner.get("maxSelect") else {
        return;
    };
    match node.text().and_then(|text| text.parse::<usize>().ok()) {
        Some(0) => {}
        Some(most) => checks.max_select = Some(most),
        None => walk.problem(
            node.place,
            join(path, "maxSelect"),
            "must be how many values can be chosen at once, 0 for any number",
            "write `maxSelect: 1`",
        ),
    }
}

fn read_values(walk: &mut Walk, node: &Node, path: &str, checks: &mut Validation) {
    let before = walk.problems.len();
    for (text, place) in walk.texts(node, path) {
        if checks.one_of.iter().any(|known| known == text) {
            walk.problem(place, path, format!("`{text}` is listed twice"), "keep it once");
        } else if let Some((message, hint)) = fault(text) {
            walk.problem(place, path, message, hint);
        } else {
            checks.one_of.push(text.to_owned());
        }
    }
    if walk.problems.len() > before {
        return;
    }
    if checks.one_of.is_empty() {
        walk.problem(node.place, path, "is empty: nothing could be chosen", EXAMPLE);
    } else if checks.one_of.len() > MOST_VALUES {
        let message = format!(
            "a select can have {MOST_VALUES} values, not {}",
            checks.one_of.len()
        );
        let hint = "keep the values in a collection of their own, and use `type: relation`";
        walk.problem(node.place, path, message, hint);
    }
}

/// Several values are stored as a JSON array of strings, and one value alone must not look like JSON.
fn fault(text: &str) -> Option<(String, &'static str)> {
    if text.is_empty() {
        Some((
            "an empty text cannot be a value".to_owned(),
            "make the field `nullable: true` for no value",
        ))
    } else if text.chars().count() > LONGEST_VALUE {
        Some((
            format!("has a value of more than {LONGEST_VALUE} characters"),
            "choose a shorter one",
        ))
    } else if text.starts_with(['[', '{', '"']) || text.trim() != text {
        Some((
            format!("`{text}` cannot be a value: it begins with `[`, `{{` or `\"`, or has space around it"),
            "choose another text",
        ))
    } else if text.chars().any(char::is_control) {
        Some((
            format!("`{}` cannot be a value", text.escape_debug()),
            "leave out control characters",
        ))
    } else {
        None
    }
}
