//! Changes that are refused, and the migrations that are proposed instead.

use alyx_schema::{Verdict, plan, plan_numbered};

use crate::plans::{BASE, variant};
use crate::schema;

/// The change is refused: one step, on that path, with these words in what it loses and in the remedy.
fn check_refused(from: &str, to: &str, path: &str, loses: &str, remedy: &str) {
    let plan = plan(&schema(BASE), &variant(from, to));
    let refused: Vec<_> = plan.refused().collect();
    let [step] = refused.as_slice() else {
        panic!("{from} → {to}: {plan:?}");
    };
    assert_eq!(step.path, format!("collections.posts.{path}"));
    let Verdict::Refused {
        loses: lost,
        remedy: advice,
        ..
    } = &step.verdict
    else {
        panic!("{step:?}");
    };
    assert!(lost.contains(loses), "{lost}");
    assert!(advice.contains(remedy), "{advice}");
    assert!(
        advice.contains("write the migration `migrations/001_"),
        "{advice}"
    );
    assert!(plan.statements().is_empty());
}

#[test]
fn changes_of_fields_that_would_lose_data_are_refused_with_a_remedy() {
    let body = "body: {type: text, nullable: true}";
    let check =
        |to: &str, path: &str, loses: &str, remedy: &str| check_refused(body, to, path, loses, remedy);
    check(
        "more: {type: int, nullable: true}",
        "fields.body",
        "every document of `posts`",
        "migrations/001_drop_posts_body.yaml",
    );
    check(
        "content: {type: text, nullable: true}",
        "fields.body",
        "`body`",
        "{type: rename_field, collection: posts, from: body, to: content}",
    );
    check(
        "body: {type: json, nullable: true}",
        "fields.body",
        "more than one way to convert",
        "json_quote(\"body\")",
    );
    check(
        "body: {type: text}",
        "fields.body",
        "no value",
        "leave `body` nullable",
    );
    let unique = "body: {type: text, nullable: true, unique: true}";
    check(unique, "fields.body", "share a value", "take `unique` off");
    let add = |field: &str| format!("{body}\n      n: {{{field}}}");
    check(&add("type: int"), "fields.n", "no value", "`default`");
    check(
        &add("type: int, default: 1, unique: true"),
        "fields.n",
        "the same value",
        "take `unique` off",
    );
    let reference = add("type: string, default: a, references: users.name");
    check(&reference, "fields.n", "need not exist", "nullable: true");
}

#[test]
fn new_references_and_unique_indexes_are_refused_with_a_remedy() {
    check_refused(
        "body: {type: text, nullable: true}",
        "body: {type: text, nullable: true, references: users.name}",
        "fields.body",
        "does not exist",
        "SET \"body\" = NULL",
    );
    let unique = "fields: [title, stars], unique: true}";
    check_refused(
        "fields: [title, stars]}",
        unique,
        "indexes",
        "share the values",
        "take `unique` off",
    );
}

#[test]
fn dropping_a_collection_is_refused() {
    let without = schema("collections: {users: {fields: {name: {type: string, unique: true}}}}");
    let plan = plan(&schema(BASE), &without);
    let step = plan.refused().next().expect("refused");
    assert_eq!((step.path.as_str(), plan.steps.len()), ("collections.posts", 1));
    assert!(matches!(&step.verdict, Verdict::Refused { loses, .. } if loses == "every document of `posts`"));
}

#[test]
fn the_identity_of_documents_does_not_change() {
    let check = |before: &str, after: &str| {
        let wrap = |fields: &str| schema(&format!("collections: {{c: {{fields: {{{fields}}}}}}}"));
        let plan = plan(&wrap(before), &wrap(after));
        assert!(plan.refused().next().is_some(), "{before} → {after}: {plan:?}");
    };
    check(
        "a: {type: string, primary: true}, b: {type: string}",
        "a: {type: string}, b: {type: string, primary: true}",
    );
    check("a: {type: string, primary: true}", "a: {type: string}");
    check(
        "id: {type: uuid, primary: true}",
        "id: {type: int, primary: true}",
    );
    check("a: {type: string}", "a: {type: string, primary: true}");
}

#[test]
fn proposed_migrations_have_numbers_of_their_own() {
    let to = schema(
        "collections: {users: {fields: {name: {type: string, unique: true}}}, posts: {fields: {heading: {type: string}, \
         stars: {type: string}}}}",
    );
    let plan = plan_numbered(&schema(BASE), &to, 41);
    let remedies: Vec<&str> = plan
        .refused()
        .filter_map(|step| match &step.verdict {
            Verdict::Refused { remedy, .. } => remedy.split('`').find(|word| word.starts_with("migrations/")),
            Verdict::Safe => None,
        })
        .collect();
    assert_eq!(
        remedies,
        [
            "migrations/041_rename_posts_title.yaml",
            "migrations/042_drop_posts_owner.yaml",
            "migrations/043_drop_posts_body.yaml",
            "migrations/041_rename_posts_title.yaml",
            "migrations/044_convert_posts_stars.yaml",
        ]
    );
}

#[test]
fn what_is_proposed_fits_the_table_as_it_is() {
    let check = |from: &str, to: &str, sql: &str| {
        let wrap = |fields: &str| schema(&format!("collections: {{c: {fields}}}"));
        let plan = plan(&wrap(from), &wrap(to));
        let step = plan.refused().next().expect("refused");
        let Verdict::Refused { remedy, .. } = &step.verdict else {
            panic!("{step:?}");
        };
        assert!(remedy.contains(sql), "{remedy}");
    };
    // A fraction does not fit into a column of whole numbers, which it still is then.
    check(
        "{fields: {n: {type: int, nullable: true}}}",
        "{fields: {n: {type: float, default: 0.5}}}",
        "SET \"n_new\" = coalesce(\"n\", 0.5)",
    );
    // A field that is added later is no column yet, and SQLite has a `rowid` of its own.
    check(
        "{fields: {a: {type: string}}}",
        "{fields: {a: {type: string}, rowid: {type: int, default: 0}}, indexes: [{name: both, fields: [a, rowid], unique: true}]}",
        "GROUP BY \"a\")",
    );
}

/// A migration does it without a word, so its file says it.
#[test]
fn migrations_that_make_floats_of_whole_numbers_say_that_large_ones_are_rounded() {
    let notes = |to: &str| {
        let from = "collections: {notes: {fields: {n: {type: int, nullable: true}}}}";
        let to = format!("collections: {{notes: {{fields: {{n: {{type: {to}}}}}}}}}");
        let plan = plan(&schema(from), &schema(&to));
        let refused = plan.refused().map(|step| format!("{:?}", step.verdict));
        refused.collect::<String>()
    };
    assert!(
        notes("float").contains("beyond 2^53 are rounded"),
        "{}",
        notes("float")
    );
    assert!(!notes("int").contains("rounded"), "{}", notes("int"));
    let key = plan(
        &schema("collections: {notes: {fields: {id: {type: int, primary: true}, n: {type: int}}}}"),
        &schema("collections: {notes: {fields: {n: {type: float}, key: {type: string, primary: true}}}}"),
    );
    let key = format!("{:?}", key.refused().collect::<Vec<_>>());
    assert!(key.contains("beyond 2^53 are rounded"), "{key}");
}

#[test]
fn a_new_required_reference_refers_to_a_value_and_never_to_null() {
    let from = "collections: {notes: {fields: {tag: {type: string, nullable: true, unique: true}}}}";
    let to = "collections: {notes: {fields: {tag: {type: string, nullable: true, unique: true}, of: {type: string, \
              references: notes.tag}}}}";
    let steps = format!("{:?}", plan(&schema(from), &schema(to)).proposal());
    assert!(steps.contains("WHERE \\\"tag\\\" IS NOT NULL LIMIT 1"), "{steps}");
    assert!(steps.contains("\\\"of\\\" IS NULL OR"), "{steps}");
}
