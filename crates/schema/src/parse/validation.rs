//! `validate` and the lengths beside it: checks on top of the type.

use regex::Regex;

use super::walk::{Options, Walk, join};
use crate::model::{FieldType, Format, Validation};
use alyx_core::nearest;
use alyx_yaml::Node;

/// Options under `validate`.
pub(crate) const VALIDATE_OPTIONS: [&str; 7] = [
    "minLength",
    "maxLength",
    "min",
    "max",
    "format",
    "pattern",
    "enum",
];
/// Names of the formats.
pub(crate) const FORMATS: [(&str, Format); 3] = [
    ("email", Format::Email),
    ("url", Format::Url),
    ("uuid", Format::Uuid),
];

/// Reads the checks of a field of that type. A length beside `validate` wins over the same one inside.
pub(super) fn read(walk: &mut Walk, options: &Options<'_>, kind: FieldType, path: &str) -> Validation {
    let mut checks = Validation::default();
    if let Some(node) = options.get("validate") {
        let at = join(path, "validate");
        if let Some(inner) = walk.options(node, &at, "`validate`", &VALIDATE_OPTIONS, &[]) {
            read_lengths(walk, &inner, kind, &at, &mut checks);
            read_bounds(walk, &inner, kind, &at, &mut checks);
            read_text_checks(walk, &inner, kind, &at, &mut checks);
        }
    }
    read_lengths(walk, options, kind, path, &mut checks);
    checks
}

/// Whether the option fits the type; that it does not is noted.
fn fits(walk: &mut Walk, node: &Node, name: &str, path: &str, kind: FieldType, wanted: &[FieldType]) -> bool {
    let fits = wanted.contains(&kind);
    if !fits {
        let types: Vec<_> = wanted.iter().map(|kind| kind.name()).collect();
        let types = match types.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => String::new(),
        };
        let message = format!("`{name}` does not fit a field of type {}", kind.name());
        let hint = format!("it is for {types}: take it off, or change the type");
        walk.problem(node.place, join(path, name), message, hint);
    }
    fits
}

const TEXTS: [FieldType; 2] = [FieldType::String, FieldType::Text];
const WRITTEN: [FieldType; 5] = [
    FieldType::String,
    FieldType::Text,
    FieldType::RichText,
    FieldType::Email,
    FieldType::Url,
];
const FREE_TEXTS: [FieldType; 4] = [
    FieldType::String,
    FieldType::Text,
    FieldType::Email,
    FieldType::Url,
];
const NUMBERS: [FieldType; 2] = [FieldType::Int, FieldType::Float];

fn read_lengths(
    walk: &mut Walk,
    options: &Options<'_>,
    kind: FieldType,
    path: &str,
    checks: &mut Validation,
) {
    for (name, least) in [("minLength", 0), ("maxLength", 1)] {
        let Some(node) = options.get(name) else {
            continue;
        };
        if !fits(walk, node, name, path, kind, &WRITTEN) {
            continue;
        }
        match node.text().and_then(|text| text.parse::<u64>().ok()) {
            Some(length) if length >= least => match name {
                "minLength" => checks.min_length = Some(length),
                _ => checks.max_length = Some(length),
            },
            _ => walk.problem(
                node.place,
                join(path, name),
                format!("must be a number of characters from {least}"),
                format!("write `{name}: {}`", least.max(1) * 100),
            ),
        }
    }
    if let (Some(min), Some(max)) = (checks.min_length, checks.max_length)
        && min > max
        && let Some(node) = options.get("minLength").or_else(|| options.get("maxLength"))
    {
        let message = format!("minLength {min} is above maxLength {max}: no text would pass");
        walk.problem(node.place, join(path, "minLength"), message, "exchange the two");
    }
}

fn read_bounds(walk: &mut Walk, options: &Options<'_>, kind: FieldType, path: &str, checks: &mut Validation) {
    for name in ["min", "max"] {
        let Some(node) = options.get(name) else {
            continue;
        };
        if !fits(walk, node, name, path, kind, &NUMBERS) {
            continue;
        }
        let number = node
            .text()
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|number| number.is_finite());
        if number.is_none() {
            let hint = format!("write `{name}: 10`");
            walk.problem(node.place, join(path, name), "must be a number", hint);
        }
        match name {
            "min" => checks.min = number,
            _ => checks.max = number,
        }
    }
    if let (Some(min), Some(max), Some(node)) = (checks.min, checks.max, options.get("min"))
        && min > max
    {
        let message = format!("min {min} is above max {max}: no number would pass");
        walk.problem(node.place, join(path, "min"), message, "exchange the two");
    }
}

fn read_text_checks(
    walk: &mut Walk,
    options: &Options<'_>,
    kind: FieldType,
    path: &str,
    checks: &mut Validation,
) {
    if let Some(node) = options.get("format")
        && fits(walk, node, "format", path, kind, &TEXTS)
    {
        let text = node.text().unwrap_or_default();
        checks.format = FORMATS
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, format)| *format);
        if checks.format.is_none() {
            let names = FORMATS.map(|(name, _)| name);
            let hint = match nearest(text, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!(
                    "the formats are {}; `pattern` takes a regular expression",
                    names.join(", ")
                ),
            };
            walk.problem(
                node.place,
                join(path, "format"),
                format!("there is no format `{text}`"),
                hint,
            );
        }
    }
    if let Some(node) = options.get("pattern")
        && fits(walk, node, "pattern", path, kind, &WRITTEN)
    {
        match node.text().map(Regex::new) {
            Some(Ok(pattern)) => checks.pattern = Some(pattern),
            Some(Err(error)) => {
                let reason = error.to_string();
                let reason = reason
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                walk.problem(
                    node.place,
                    join(path, "pattern"),
                    format!("is not a regular expression: {reason}"),
                    "put it in single quotes and escape special characters; look-around and back-references do not exist",
                );
            }
            None => walk.problem(
                node.place,
                join(path, "pattern"),
                "must be a regular expression",
                "",
            ),
        }
    }
    if let Some(node) = options.get("enum")
        && fits(walk, node, "enum", path, kind, &FREE_TEXTS)
    {
        read_enum(walk, node, &join(path, "enum"), checks);
    }
}

fn read_enum(walk: &mut Walk, node: &Node, path: &str, checks: &mut Validation) {
    let before = walk.problems.len();
    for (text, place) in walk.texts(node, path) {
        if checks.one_of.iter().any(|known| known == text) {
            walk.problem(place, path, format!("`{text}` is listed twice"), "keep it once");
        } else {
            checks.one_of.push(text.to_owned());
        }
    }
    if checks.one_of.is_empty() && walk.problems.len() == before {
        walk.problem(
            node.place,
            path,
            "is empty: no text would pass",
            "write `enum: [draft, published]`",
        );
    }
}
