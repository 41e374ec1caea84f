//! `rules`: who may do what. Expressions are kept as they are written: `alyx-rules` knows what they mean.

use alyx_yaml::Node;

use super::walk::{Named, Options, Walk, join};
use crate::model::{Access, BucketRules, RuleText, RuleTexts};

/// Operations that a rule can decide.
pub(crate) const OPERATIONS: [&str; 4] = ["create", "read", "update", "delete"];
/// Operations that a rule of a bucket can decide.
pub(crate) const BUCKET_OPERATIONS: [&str; 5] = ["create", "read", "update", "delete", "download"];

/// What holds where no rule decides.
#[derive(Debug)]
pub(super) struct Fallback {
    access: Access,
    rule: Option<RuleText>,
}

impl Fallback {
    /// Expressions decide about documents only.
    pub(super) fn of_buckets(&self) -> Access {
        match self.rule {
            Some(_) => Access::CLOSED,
            None => self.access,
        }
    }
}

/// One option.
enum Decision {
    Always,
    Never,
    When(RuleText),
}

/// What holds where no rule decides.
pub(super) fn fallback(walk: &mut Walk, options: &Options<'_>) -> Fallback {
    let constant = |access| Fallback { access, rule: None };
    let Some(node) = options.get("default_access") else {
        return constant(Access::OPEN);
    };
    match node.text().map(str::trim) {
        Some("allow") => constant(Access::OPEN),
        Some("deny") => constant(Access::CLOSED),
        Some(text) if is_word(text) && !matches!(text, "true" | "false") => {
            let hint = "`allow` opens what no rule decides to the world, `deny` closes it to all but functions, \
                        `auth.id != null` opens it to whoever has signed in";
            walk.problem(
                node.place,
                "default_access",
                "must be `allow`, `deny` or a rule",
                hint,
            );
            constant(Access::CLOSED)
        }
        _ => match decision(walk, node, "default_access") {
            Some(Decision::When(rule)) => Fallback {
                access: Access::OPEN,
                rule: Some(rule),
            },
            Some(Decision::Always) => constant(Access::OPEN),
            Some(Decision::Never) | None => constant(Access::CLOSED),
        },
    }
}

/// The collection's access and rules, and `fallback` where it has none.
pub(super) fn read(
    walk: &mut Walk,
    collection: &Named<'_>,
    options: &Options<'_>,
    fallback: &Fallback,
) -> (Access, RuleTexts) {
    let mut access = fallback.access;
    let default = || fallback.rule.clone();
    let mut texts = RuleTexts {
        create: default(),
        read: default(),
        update: default(),
        delete: default(),
    };
    let Some(node) = options.get("rules") else {
        return (access, texts);
    };
    let path = join(&collection.path, "rules");
    let later = [(
        "download",
        "remove it: it is a rule of buckets, and decides about their files",
    )];
    let Some(rules) = walk.options(node, &path, "`rules`", &OPERATIONS, &later) else {
        return (Access::CLOSED, RuleTexts::default());
    };
    for (operation, open, text) in [
        ("create", &mut access.create, &mut texts.create),
        ("read", &mut access.read, &mut texts.read),
        ("update", &mut access.update, &mut texts.update),
        ("delete", &mut access.delete, &mut texts.delete),
    ] {
        let Some(node) = rules.get(operation) else {
            continue;
        };
        (*open, *text) = match decision(walk, node, &join(&path, operation)) {
            Some(Decision::Always) => (true, None),
            Some(Decision::When(rule)) => (true, Some(rule)),
            Some(Decision::Never) | None => (false, None),
        };
    }
    (access, texts)
}

/// The access of a bucket, who may download from it, and its rules.
pub(super) fn of_bucket(
    walk: &mut Walk,
    path: &str,
    options: &Options<'_>,
    fallback: Access,
) -> (Access, bool, BucketRules) {
    let (mut access, mut download, mut texts) = (fallback, fallback.read, BucketRules::default());
    let Some(node) = options.get("rules") else {
        return (access, download, texts);
    };
    let path = join(path, "rules");
    let Some(rules) = walk.options(node, &path, "`rules`", &BUCKET_OPERATIONS, &[]) else {
        return (Access::CLOSED, false, texts);
    };
    for (operation, open, text) in [
        ("create", &mut access.create, &mut texts.create),
        ("read", &mut access.read, &mut texts.read),
        ("update", &mut access.update, &mut texts.update),
        ("delete", &mut access.delete, &mut texts.delete),
        ("download", &mut download, &mut texts.download),
    ] {
        let Some(node) = rules.get(operation) else {
            continue;
        };
        (*open, *text) = match decision(walk, node, &join(&path, operation)) {
            Some(Decision::Always) => (true, None),
            Some(Decision::When(rule)) => (true, Some(rule)),
            Some(Decision::Never) | None => (false, None),
        };
    }
    (access, download, texts)
}

/// No expression is a single word.
fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn decision(walk: &mut Walk, node: &Node, path: &str) -> Option<Decision> {
    const HINT: &str = "use true, false, or an expression such as \"auth.id == doc.owner_id\"";
    match node.text().map(|text| (text, text.trim())) {
        Some((_, "true")) => Some(Decision::Always),
        Some((_, "false")) => Some(Decision::Never),
        Some((_, word)) if is_word(word) => {
            walk.problem(node.place, path, format!("`{word}` is no rule"), HINT);
            None
        }
        Some((text, _)) => Some(Decision::When(RuleText {
            text: text.into(),
            path: path.to_owned(),
            line: node.place.line,
            column: node.place.column,
        })),
        None => {
            let message = format!("a rule is a text, not {}", node.describe());
            walk.problem(node.place, path, message, HINT);
            None
        }
    }
}
