//! What hostile rules, values and documents run into: each of these tests fails where its guard is taken away.

use std::sync::Arc;

use alyx_core::{Caller, Value};
use alyx_rules::{Action, Decision, Facts, Incoming, Rule, read_schema, review};
use alyx_schema::{Collection, Schema};
use serde_json::{Value as Json, json};

use crate::support::{account, collection, now, read, schema};

const TREE: &str = "
collections:
  folders:
    fields:
      id: {type: string, primary: true}
      name: {type: string}
      changed_at: {type: timestamp, default: now, onUpdate: now}
      parent_id: {type: string, nullable: true, references: folders.id}
";

fn tree() -> (Schema, Arc<Collection>) {
    let parsed = alyx_schema::parse(TREE, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let folders = collection(&parsed.schema, "folders");
    (parsed.schema, folders)
}

/// Whether a read rule of `items` is taken; else what is said of it.
fn compiles(text: &str) -> Result<(), String> {
    let schema = schema();
    let compiled = Rule::compile(&schema, &collection(&schema, "items"), Action::Read, text);
    compiled.map(|_| ()).map_err(|problem| problem.message)
}

fn holding(name: &str, value: Json) -> Caller {
    account("ann", "user", json!({name: value}))
}

#[test]
fn the_names_of_rules_mean_one_thing() {
    for name in ["auth", "doc", "data", "request", "now"] {
        let text = format!("auth.metadata.list.exists({name}, true)");
        let refused = compiles(&text).expect_err("shadowed");
        assert!(refused.contains("meaning of its own"), "{refused}");
    }
    assert_eq!(
        compiles("auth.metadata.list.exists(document, document == 1)"),
        Ok(())
    );
}

#[test]
fn a_rule_is_bounded_to_the_part() {
    let check = |kept: String, refused: String, word: &str| {
        assert_eq!(compiles(&kept), Ok(()), "{word}");
        let told = compiles(&refused).expect_err(word);
        assert!(told.contains(word), "{told}");
    };
    let padded = |length: usize| format!("{:length$}", "true");
    check(padded(2048), padded(2049), "longer than 2048 bytes");
    let list = |count: usize| format!("[{}] == []", ["1"].repeat(count).join(","));
    check(list(397), list(398), "more than 400 parts");
    let nested = |count: usize| format!("{}true", "!".repeat(count));
    check(nested(31), nested(32), "deeper than 32 levels");
    let macros = |inner: &str| format!("[1].all(a, [1].all(b, {inner}))");
    check(macros("true"), macros("[1].all(c, true)"), "more than 2 macros");
    let pattern = |count: usize| format!("auth.id.matches(r'\\w{{{count}}}')");
    check(pattern(1), pattern(1000), "the pattern cannot be used");
}

#[test]
fn a_path_follows_four_references_and_no_fifth() {
    let (schema, folders) = tree();
    let compile = |text: &str| Rule::compile(&schema, &folders, Action::Read, text).map(|_| ());
    compile("doc.parent.parent.parent.parent.name == 'x'").expect("four");
    let fifth = compile("doc.parent.parent.parent.parent.parent.name == 'x'").expect_err("five");
    assert!(fifth.message.contains("more than 4 references"), "{fifth}");
}

#[test]
fn what_is_known_of_a_caller_is_bounded_where_it_becomes_a_filter() {
    let check = |text: &str, value: Json, allowed: bool| {
        let decided = read(text, &holding("x", value));
        assert_eq!(decided != Decision::Deny, allowed, "{text}");
    };
    let texts = |count: usize| json!((0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    check("doc.owner in auth.metadata.x", texts(500), true);
    check("doc.owner in auth.metadata.x", texts(501), false);
    for function in ["startsWith", "endsWith", "contains"] {
        let text = format!("doc.title.{function}(auth.metadata.x)");
        check(&text, json!("a".repeat(4096)), true);
        check(&text, json!("a".repeat(4097)), false);
        check(&text, json!("a\0"), false);
    }
    let doubled = "size(auth.metadata.x + auth.metadata.x) > 0";
    check(doubled, json!("a".repeat(32 * 1024)), true);
    check(doubled, json!("a".repeat(32 * 1024 + 1)), false);
    check(doubled, json!(vec![1; 5_000]), true);
    check(doubled, json!(vec![1; 5_001]), false);
}

/// What the server sets by itself comes in from nobody.
#[test]
fn what_the_server_sets_is_not_what_comes_in() {
    let (schema, folders) = tree();
    let decide = |text: &str| {
        let rule = Rule::compile(&schema, &folders, Action::Update, text).expect("a rule");
        let changes = [(2, Value::from("2026-01-01T00:00:00.000Z"))];
        let incoming = Incoming::Changes {
            changes: &changes,
            sums: &[],
        };
        rule.decide(
            &folders,
            &Facts {
                incoming,
                ..Facts::of(&Caller::Anonymous, now())
            },
        )
    };
    assert_eq!(decide("has(data.changed_at)"), Decision::Deny);
    assert_eq!(decide("data.changed_at == null"), Decision::Allow);
}

/// Who has not signed in makes nothing that is nobody's: both sides are known, and both are null.
#[test]
fn nobody_owns_what_comes_in_without_an_owner() {
    let schema = schema();
    let items = collection(&schema, "items");
    let row = vec![Value::Null; items.fields.len()];
    let decide = |text: &str| {
        let rule = Rule::compile(&schema, &items, Action::Create, text).expect("a rule");
        let facts = Facts {
            document: Some(&row),
            incoming: Incoming::Row(&row),
            ..Facts::of(&Caller::Anonymous, now())
        };
        rule.decide(&items, &facts)
    };
    assert_eq!(decide("data.owner == auth.id"), Decision::Deny);
    assert_eq!(decide("doc.owner == auth.id"), Decision::Deny);
    assert_eq!(decide("auth.id == null"), Decision::Allow);
}

#[test]
fn what_is_open_by_default_is_warned_of() {
    let source = "collections:\n  notes:\n    fields: {text: {type: string}}\n";
    let (parsed, rules) = read_schema(source, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = review(&parsed.schema, &rules).remove(0).warnings;
    for action in ["create", "update", "delete"] {
        let expected = format!("anybody may {action} any document without signing in");
        assert!(warnings.contains(&expected), "{warnings:?}");
    }
}
