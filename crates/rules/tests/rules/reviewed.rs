//! What `review` finds.

use alyx_rules::{Review, Verdict, read_schema, review};

fn reviewed(rules: &str) -> Review {
    let source = format!(
        "collections:\n  notes:\n    rules: {rules}\n    fields:\n      owner: {{type: string}}\n      \
         indexed: {{type: string, index: true}}\n      title: {{type: string}}\n"
    );
    let (parsed, rules) = read_schema(&source, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    review(&parsed.schema, &rules).remove(0)
}

#[test]
fn tells_who_may_do_what() {
    let found = reviewed(
        "{create: \"auth.id != null && data.owner == auth.id && size(doc.title) > 2\", read: true, \
         update: doc.owner == auth.id, delete: false}",
    );
    let verdicts = found.lines.map(|line| (line.anonymous, line.user));
    assert_eq!(
        verdicts,
        [
            (Verdict::None, Verdict::Some),
            (Verdict::All, Verdict::All),
            (Verdict::None, Verdict::Some),
            (Verdict::None, Verdict::None),
        ]
    );
}

#[test]
fn warns_of_what_is_probably_not_meant() {
    let check = |rules: &str, expected: &[&str]| {
        let found = reviewed(rules).warnings;
        assert_eq!(found.len(), expected.len(), "{rules}: {found:?}");
        for (warning, word) in found.iter().zip(expected) {
            assert!(warning.contains(word), "{rules}: {warning}");
        }
    };
    let rest = "create: false, delete: false";
    check(&format!("{{read: true, update: false, {rest}}}"), &[]);
    check(
        "{read: true, create: true, update: true, delete: true}",
        &["create", "update", "delete"],
    );
    check(
        &format!("{{read: true, update: doc.owner == auth.id, {rest}}}"),
        &["given away"],
    );
    let kept = "doc.owner == auth.id && (!has(data.owner) || data.owner == auth.id)";
    check(&format!("{{read: true, update: \"{kept}\", {rest}}}"), &[]);
    check(
        &format!("{{read: doc.owner == auth.id, update: false, {rest}}}"),
        &["index"],
    );
    check(
        &format!("{{read: doc.indexed == auth.id, update: false, {rest}}}"),
        &[],
    );
    check(
        &format!("{{read: \"doc.indexed == auth.id || doc.title == 'x'\", update: false, {rest}}}"),
        &["index"],
    );
}
