//! What `review` finds.

use alyx_query::{CompareOp, Filter, Query, SortKey};
use alyx_rules::{Review, Verdict, read_schema, review};

use crate::support::{Database, collection};

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

#[test]
fn names_the_index_that_a_list_with_the_newest_first_needs() {
    let warnings = |rule: &str, owner: &str, rest: &str| {
        let source = format!(
            "collections:\n  notes:\n    rules: {{create: false, update: false, delete: false, read: \"{rule}\"}}\n    \
             fields:\n      owner: {{type: string{owner}}}\n      title: {{type: string}}\n      \
             changed_at: {{type: timestamp, default: now, onUpdate: now}}\n      at: {{type: timestamp, default: now}}\n      \
             created_at: {{type: timestamp, default: now}}\n{rest}"
        );
        let (parsed, rules) = read_schema(&source, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
        review(&parsed.schema, &rules).remove(0).warnings
    };
    let declared = "    indexes:\n      - {name: x, fields: [owner, created_at, title]}\n";
    let other = "    indexes:\n      - {name: x, fields: [owner, title, created_at]}\n";
    let check = |rule: &str, owner: &str, rest: &str, expected: Option<&str>| {
        let found = warnings(rule, owner, rest);
        let fits = match expected {
            None => found.is_empty(),
            Some(text) => found.len() == 1 && found[0].contains(text),
        };
        assert!(fits, "{rule} {owner} {rest}: {found:?}");
    };
    let declare = "declare an index on (owner, created_at), as in `indexes: [{name: notes-by-owner, fields: [owner, \
                   created_at], order: desc}]`";
    let owned = "doc.owner == auth.id";
    check(owned, ", index: true", "", Some(declare));
    check(owned, ", index: true", "", Some("sorts all of them"));
    check(owned, "", "", Some(declare));
    check(owned, "", "", Some("looks at every document"));
    check(owned, "", other, Some(declare));
    check(
        "doc.owner == auth.id && doc.title != 'x'",
        ", index: true",
        "",
        Some(declare),
    );
    check(owned, "", declared, None);
    check(owned, ", unique: true", "", None);
    check(
        "doc.owner != auth.id",
        ", index: true",
        "",
        Some("by `==` or `in`"),
    );
    check(
        "doc.title == 'a' || doc.owner == auth.id",
        "",
        "",
        Some("`owner` and `title`"),
    );
    // Two indexes find these, and no third one sorts what they find.
    check(
        "doc.owner == 'a' || doc.owner == auth.id",
        ", index: true",
        "",
        None,
    );
}

/// The index that is named does what is promised: SQLite sorts nothing.
#[test]
fn the_index_that_is_named_serves_the_list() {
    let schema = |indexes: &str| {
        let source = format!(
            "collections:\n  notes:\n    fields:\n      owner: {{type: string, index: true}}\n      created_at: {{type: \
             timestamp, default: now}}\n{indexes}"
        );
        alyx_schema::parse(&source, "schema.yaml")
            .unwrap_or_else(|errors| panic!("{errors}"))
            .schema
    };
    let plan = |indexes: &str| {
        let schema = schema(indexes);
        let notes = collection(&schema, "notes");
        let place = |name: &str| notes.field(name).expect("declared").0;
        let key = |name: &str| SortKey {
            field: place(name),
            descending: true,
        };
        let query = Query {
            filter: Filter::Compare {
                field: place("owner"),
                op: CompareOp::Eq,
                value: "a".into(),
            },
            sort: vec![key("created_at"), key("id")],
            limit: 20,
            offset: 0,
            fields: None,
            collection: notes,
        };
        let mut statement = query.select();
        statement.sql = format!("EXPLAIN QUERY PLAN {}", statement.sql).into();
        format!("{:?}", Database::new(&schema).run(&statement))
    };
    let without = plan("");
    assert!(without.contains("USE TEMP B-TREE FOR ORDER BY"), "{without}");
    let with = plan("    indexes: [{name: notes-by-owner, fields: [owner, created_at], order: desc}]\n");
    assert!(
        with.contains("notes-by-owner") && !with.contains("TEMP B-TREE FOR ORDER BY"),
        "{with}"
    );
}
