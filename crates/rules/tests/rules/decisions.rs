//! What rules decide for callers.

use alyx_core::{Caller, Value};
use alyx_query::{CompareOp, Filter};
use alyx_rules::{Action, Decision, Facts, Incoming};
use serde_json::json;

use crate::support::{account, collection, compiled, now, read, schema};

fn ann() -> Caller {
    account(
        "ann",
        "user",
        json!({"team": "a", "teams": ["a", "b"], "level": 3}),
    )
}

#[test]
fn what_is_known_folds_away() {
    let check = |text: &str, anonymous: bool, signed_in: bool| {
        let decided = |allowed: bool| if allowed { Decision::Allow } else { Decision::Deny };
        assert_eq!(read(text, &Caller::Anonymous), decided(anonymous), "{text}");
        assert_eq!(read(text, &ann()), decided(signed_in), "{text}");
    };
    check("true", true, true);
    check("false", false, false);
    check("auth != null", false, true);
    check("auth == null", true, false);
    check("auth.id != null", false, true);
    check("auth.id == 'ann'", false, true);
    check("auth.role in ['user', 'admin']", false, true);
    check("has(auth.email) && auth.verified", false, true);
    check("auth.email.endsWith('@example.com')", false, true);
    check("auth.email.matches('^a..@')", false, true);
    check("auth.metadata.level >= 3", false, true);
    check("auth.metadata.nothing.at.all == null", true, true);
    check("'b' in auth.metadata.teams", false, true);
    check("auth.metadata.teams.exists(t, t == 'b')", false, true);
    check("auth.metadata.teams.all(t, size(t) == 1)", false, true);
    check("size(auth.metadata.teams.filter(t, t > 'a')) == 1", false, true);
    check("auth.metadata.teams.map(t, t + '!')[1] == 'b!'", false, true);
    check("auth.metadata['team'] == 'a'", false, true);
    check("request.method == 'GET' && request.time == now", true, true);
    check(
        "now > timestamp('2025-12-31T23:59:59Z') + duration('500ms')",
        true,
        true,
    );
    check("now < '2026-01-02'", true, true);
    check(
        "1 + 2 * 3 == 7 && 7 % 4 == 3 && -(1) == 0 - 1 && 1.5 > 1",
        true,
        true,
    );
    check("true ? auth.id == null : false", true, false);
    // An error denies, and so does its opposite; what decides without it decides.
    check("auth.id.startsWith('a')", false, true);
    check("!auth.id.startsWith('a')", false, false);
    check("auth.id.startsWith('x') || true", true, true);
    check("1 / 0 == 1 || auth.id == 'ann'", false, true);
    check("1 == 1.0 && 'a' != 1", true, true);
    // Strings and comments as in CEL.
    check(
        "'\\x61\\u0062' == \"ab\" && r'\\d' == '\\\\d' // so it is",
        true,
        true,
    );
}

#[test]
fn an_owner_rule_is_one_equality() {
    let owner = |op: CompareOp| Filter::Compare {
        field: 1,
        op,
        value: Value::text("ann"),
    };
    assert_eq!(
        read("doc.owner == auth.id", &ann()),
        Decision::Filter(owner(CompareOp::Eq))
    );
    assert_eq!(
        read("auth.id == doc.owner", &ann()),
        Decision::Filter(owner(CompareOp::Eq))
    );
    // Who has not signed in owns nothing, not even what nobody owns.
    assert_eq!(read("doc.owner == auth.id", &Caller::Anonymous), Decision::Deny);
    assert_eq!(read("doc.owner != auth.id", &Caller::Anonymous), Decision::Allow);
    assert_eq!(
        read("doc.owner in [auth.id, null]", &Caller::Anonymous).into_filter(),
        Filter::FALSE
    );
    assert_eq!(
        read("doc.owner == auth.id || auth.role == 'user'", &ann()),
        Decision::Allow
    );
}

#[test]
fn callers_with_the_same_rights_have_the_same_filter() {
    let text = "doc.done || (auth.role == 'admin' && doc.rank > 1)";
    let other = account("bob", "user", json!({}));
    assert_eq!(read(text, &ann()), read(text, &other));
    assert_ne!(
        read(text, &ann()),
        read(text, &account("eve", "admin", json!({})))
    );
}

#[test]
fn an_update_sees_what_comes_in() {
    let schema = schema();
    let items = collection(&schema, "items");
    let rule = compiled(
        &schema,
        Action::Update,
        "doc.owner == auth.id && (!has(data.owner) || data.owner == auth.id) && request.body.rank != 9",
    );
    let caller = ann();
    let decide = |changes: &[(usize, Value)], sums: &[(usize, Value)]| {
        let facts = Facts {
            incoming: Incoming::Changes { changes, sums },
            ..Facts::of(&caller, now())
        };
        rule.decide(&items, &facts)
    };
    let kept = decide(&[(2, Value::text("new"))], &[]);
    assert!(
        matches!(&kept, Decision::Filter(Filter::Compare { field: 1, .. })),
        "{kept:?}"
    );
    assert_eq!(decide(&[(1, Value::text("ann"))], &[]), kept);
    assert_eq!(decide(&[(1, Value::text("bob"))], &[]), Decision::Deny);
    assert_eq!(decide(&[(1, Value::Null)], &[]), Decision::Deny);
    assert_eq!(decide(&[(10, Value::Int(9))], &[]), Decision::Deny);
    // What a sum comes to is not known, so what asks about it denies.
    assert_eq!(decide(&[], &[(10, Value::Int(1))]), Decision::Deny);
}

#[test]
fn a_create_is_decided_by_the_new_document() {
    let schema = schema();
    let items = collection(&schema, "items");
    let caller = ann();
    let mut row = vec![Value::Null; items.fields.len()];
    row[1] = Value::text("ann");
    row[7] = Value::text(r#"{"a":{"b":[1,"x"]}}"#);
    row[9] = Value::text("a");
    let decide = |text: &str| {
        let facts = Facts {
            document: Some(&row),
            incoming: Incoming::Row(&row),
            ..Facts::of(&caller, now())
        };
        compiled(&schema, Action::Create, text).decide(&items, &facts)
    };
    let check = |text: &str, expected: Decision| assert_eq!(decide(text), expected, "{text}");
    check("doc.owner == auth.id && data.owner == doc.owner", Decision::Allow);
    check("size(doc.owner) == 3 && doc.owner.matches('^a')", Decision::Allow);
    check(
        "doc.meta.a.b[1] == 'x' && data.meta['a'].b[0] + 1 == 2",
        Decision::Allow,
    );
    check("has(data.title)", Decision::Deny);
    check("!has(doc.title) && doc.tags == null", Decision::Allow);
    let asked = decide("doc.team.open");
    assert!(
        matches!(&asked, Decision::Filter(Filter::Exists(exists)) if exists.field.is_none()),
        "{asked:?}"
    );
    let member = decide("exists('members', {'team_id': doc.team_id, 'user_id': auth.id})");
    assert!(
        matches!(&member, Decision::Filter(Filter::Exists(exists)) if exists.field.is_none()),
        "{member:?}"
    );
}

#[test]
fn work_is_bounded() {
    let numbers: Vec<i64> = (0..1000).collect();
    let caller = account("ann", "user", json!({"list": numbers}));
    let text = "auth.metadata.list.all(a, auth.metadata.list.all(b, a + b >= 0))";
    assert_eq!(read(text, &caller), Decision::Deny);
    assert_eq!(
        read("auth.metadata.list.all(a, a >= 0)", &caller),
        Decision::Allow
    );
}

#[test]
fn a_schema_without_a_rule_decides_as_it_says() {
    let source = "default_access: auth.id != null\ncollections:\n  notes:\n    fields: {owner: {type: string}}\n    rules: {read: true, delete: false, update: auth.id == doc.owner}\n";
    let (parsed, rules) =
        alyx_rules::read_schema(source, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let notes = collection(&parsed.schema, "notes");
    let caller = ann();
    let decide = |action: Action, caller: &Caller| rules.decide(&notes, action, &Facts::of(caller, now()));
    assert_eq!(decide(Action::Read, &Caller::Anonymous), Decision::Allow);
    assert_eq!(decide(Action::Create, &Caller::Anonymous), Decision::Deny);
    assert_eq!(decide(Action::Create, &caller), Decision::Allow);
    assert_eq!(decide(Action::Delete, &caller), Decision::Deny);
    assert!(matches!(decide(Action::Update, &caller), Decision::Filter(_)));
    let unknown = alyx_rules::RuleSet::default();
    assert_eq!(
        unknown.decide(&notes, Action::Read, &Facts::of(&caller, now())),
        Decision::Deny
    );
}
