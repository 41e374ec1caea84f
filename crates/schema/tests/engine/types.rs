//! Plans that concern the types that take more than a storage class.

use alyx_core::Value;
use alyx_schema::{plan, read_create};

use crate::{Database, NOW, only, schema};

#[test]
fn options_of_the_newer_types_and_buckets_change_without_sql() {
    let with = |bucket: &str, options: &str| {
        schema(&format!(
            "buckets: {{{bucket}}}\ncollections: {{c: {{fields: {{x: {{{options}}}}}}}}}"
        ))
    };
    let bucket = "a: {backend: local}";
    let check = |from: &str, to: &str, words: &str| {
        let plan = plan(&with(bucket, from), &with(bucket, to));
        assert_eq!(
            (plan.steps.len(), plan.refused().count()),
            (1, 0),
            "{to}: {plan:?}"
        );
        assert!(
            plan.statements().is_empty() && plan.steps[0].description.contains(words),
            "{to}: {plan:?}"
        );
    };
    let select = "type: select, select: {values: [a, b]}";
    check(select, "type: select, select: {values: [a, c]}", "checks change");
    check(
        select,
        "type: select, select: {values: [a, b], maxSelect: 1}",
        "checks change",
    );
    check(
        "type: richtext",
        "type: richtext, richtext: {preset: full}",
        "checks change",
    );
    let file = "type: file, file: {bucket: a}";
    check(
        file,
        "type: file, file: {bucket: a, max_size: 1kb}",
        "files that it takes",
    );
    let same = plan(&with(bucket, select), &with(bucket, select));
    assert!(same.is_empty(), "{same:?}");
    let change = plan(
        &with(bucket, select),
        &with("a: {backend: s3}, b: {backend: local}", select),
    );
    let paths: Vec<&str> = change.steps.iter().map(|step| step.path.as_str()).collect();
    assert_eq!(paths, ["buckets.a", "buckets.b"]);
    let gone = plan(&with(bucket, select), &with("", select));
    assert!(gone.steps[0].description.contains("is gone"), "{gone:?}");
}

#[test]
fn one_spelling_of_a_reference_becomes_the_other_without_a_step() {
    let with = |owner: &str| {
        schema(&format!(
            "collections: {{users: {{fields: {{name: {{type: string}}}}}}, posts: {{fields: {{{owner}}}}}}}"
        ))
    };
    let from = with("owner: {type: uuid, nullable: true, references: users.id}");
    for to in [
        "owner: {type: relation, nullable: true, relation: {collection: users}}",
        "owner: {type: relation, nullable: true, relation: {collection: users, field: id, onDelete: restrict, displayName: name}}",
    ] {
        let plan = plan(&from, &with(to));
        assert!(plan.is_empty(), "{plan:?}");
    }
}

const ADDED: &str = "
collections:
  c:
    fields:
      id: {type: id, primary: true, default: auto}
      mail: {type: email, default: a@b.io}
      site: {type: url, nullable: true}
      day: {type: date, default: now}
      born: {type: date, nullable: true, default: 2000-02-29}
      one: {type: select, default: two words, select: {values: [two words, b], maxSelect: 1}}
      any: {type: select, default: [b], select: {values: [a, b]}}
      html: {type: richtext, default: '<b>x', index: true}
      code: {type: id, nullable: true, unique: true}
      parent: {type: relation, nullable: true, relation: {collection: c, onDelete: cascade}}
      face: {type: file, nullable: true, file: {bucket: b}}
buckets: {b: {backend: local}}
";

#[tokio::test]
async fn fields_of_the_newer_types_are_added_to_documents_that_are_there() {
    let from = schema("collections: {c: {fields: {id: {type: id, primary: true, default: auto}}}}");
    let to = schema(ADDED);
    let database = Database::with(&from).await;
    let old = read_create(&only(&from), b"{}", NOW).unwrap();
    database.insert(&only(&from), &old).await;
    let plan = plan(&from, &to);
    assert_eq!(plan.refused().count(), 0, "{plan:?}");
    for sql in plan.statements() {
        database.run(&sql).await;
    }
    let stored = database.documents(&only(&to)).await.remove(0);
    let text = |text: &str| Value::from(text);
    let day = stored[3].as_text().unwrap();
    assert!(day.len() == 10 && day > "2026", "{day}");
    assert_eq!(
        [&stored[..3], &stored[4..]].concat(),
        [
            old[0].clone(),
            text("a@b.io"),
            Value::Null,
            text("2000-02-29"),
            text("two words"),
            text(r#"["b"]"#),
            text("<b>x</b>"),
            Value::Null,
            Value::Null,
            Value::Null
        ]
    );
    let mut child = read_create(&only(&to), b"{}", NOW).unwrap();
    child[9] = old[0].clone();
    database.insert(&only(&to), &child).await;
    database.run("DELETE FROM c WHERE parent IS NULL").await;
    assert_eq!(database.documents(&only(&to)).await, Vec::<Vec<Value>>::new());
}
