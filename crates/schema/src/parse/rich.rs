//! `richtext`: the formats that a field of type richtext lets through.

use super::walk::{Options, Walk, join};
use crate::model::{FieldType, Validation};
use crate::richtext::{BASIC, PRESETS, RichFormat, RichFormats};
use alyx_core::nearest;

/// Options under `richtext`.
pub(crate) const RICHTEXT_OPTIONS: [&str; 3] = ["preset", "allow", "deny"];

/// Reads the block into the field's checks: the preset, with what is allowed besides and without what is denied.
pub(super) fn read(
    walk: &mut Walk,
    options: &Options<'_>,
    kind: FieldType,
    path: &str,
    checks: &mut Validation,
) {
    let at = join(path, "richtext");
    let is_rich = kind == FieldType::RichText;
    if is_rich {
        checks.formats = BASIC;
    }
    let Some((key, node)) = options.entry("richtext") else {
        return;
    };
    if !is_rich {
        let message = format!("`richtext` does not fit a field of type {}", kind.name());
        walk.problem(key.place, at, message, "take it off, or use `type: richtext`");
        return;
    }
    let Some(inner) = walk.options(node, &at, "`richtext`", &RICHTEXT_OPTIONS, &[]) else {
        return;
    };
    let preset = preset(walk, &inner, &at);
    let allowed = formats(walk, &inner, "allow", &at);
    let denied = formats(walk, &inner, "deny", &at);
    let set = allowed.into_iter().fold(preset, RichFormats::with);
    checks.formats = denied.into_iter().fold(set, RichFormats::without);
}

fn preset(walk: &mut Walk, options: &Options<'_>, path: &str) -> RichFormats {
    let Some(text) = walk.text(options, "preset", path) else {
        return BASIC;
    };
    if let Some((_, set)) = PRESETS.iter().find(|(name, _)| *name == text) {
        return *set;
    }
    if let Some(node) = options.get("preset") {
        let names = PRESETS.map(|(name, _)| name);
        let hint = match nearest(text, names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the presets are {}", names.join(", ")),
        };
        walk.problem(
            node.place,
            join(path, "preset"),
            format!("there is no preset `{text}`"),
            hint,
        );
    }
    BASIC
}

fn formats(walk: &mut Walk, options: &Options<'_>, option: &str, path: &str) -> Vec<RichFormat> {
    let Some(node) = options.get(option) else {
        return Vec::new();
    };
    let at = join(path, option);
    let mut formats = Vec::new();
    for (text, place) in walk.texts(node, &at) {
        if let Some(format) = RichFormat::ALL.into_iter().find(|format| format.name() == text) {
            formats.push(format);
            continue;
        }
        let names = RichFormat::ALL.map(RichFormat::name);
        let hint = match nearest(text, names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the formats are {}", names.join(", ")),
        };
        walk.problem(place, &at, format!("there is no format `{text}`"), hint);
    }
    formats
}
