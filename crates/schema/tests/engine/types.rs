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

#[test]
fn what_the_server_makes_for_new_documents_is_asked_for_where_there_are_old_ones() {
    let with = |more: &str| {
        schema(&format!(
            "collections: {{c: {{fields: {{x: {{type: string}}{more}}}}}}}"
        ))
    };
    let from = with("");
    let nullable = plan(
        &from,
        &with(", t: {type: uuid, default: auto, nullable: true, unique: true}"),
    );
    assert_eq!(nullable.refused().count(), 0, "{nullable:?}");
    let required = with(", t: {type: id, default: auto, unique: true}");
    let refused = plan(&from, &required);
    assert_eq!(refused.refused().count(), 1, "{refused:?}");
    assert!(proposed(&refused)[1].contains("randomblob"), "{refused:?}");
    assert_eq!(
        plan(&with(", t: {type: id}"), &with(", t: {type: id, default: auto}"))
            .refused()
            .count(),
        0
    );
}

/// Every type: its options, and a value as a document has it.
const EVERY_TYPE: [(&str, &str); 17] = [
    ("type: uuid", r#""0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d""#),
    ("type: string", r#""it's""#),
    ("type: text", r#""<b>&""#),
    ("type: int", "-7"),
    ("type: float", "1.5"),
    ("type: bool", "true"),
    ("type: timestamp", r#""2026-01-31T12:00:00Z""#),
    ("type: json", r#"{"a":[1,"it's"]}"#),
    ("type: blob", r#""AP8=""#),
    ("type: email", r#""a@b.io""#),
    ("type: url", r#""http://x.io/?a=1""#),
    ("type: date", r#""2026-01-31""#),
    ("type: select, select: {values: [\"it's\", b]}", r#""it's""#),
    (
        "type: select, select: {values: [a, b], maxSelect: 2}",
        r#"["a","b"]"#,
    ),
    ("type: richtext", r#""<b>x</b> &amp; y""#),
    ("type: file, file: {bucket: b}", r#""f-1""#),
    ("type: id", r#""aB3dE6gH9jK2mN5""#),
];

/// The statements that a refusal proposes.
fn proposed(plan: &alyx_schema::Plan) -> Vec<String> {
    let remedies = plan.refused().filter_map(|step| match &step.verdict {
        alyx_schema::Verdict::Refused { remedy, .. } => Some(remedy.as_str()),
        alyx_schema::Verdict::Safe => None,
    });
    let lines = remedies.flat_map(str::lines);
    let quoted = lines.filter_map(|line| {
        line.trim()
            .strip_prefix("- {type: sql, up: '")?
            .strip_suffix("'}")
    });
    quoted.map(|sql| sql.replace("''", "'")).collect()
}

#[tokio::test]
async fn values_of_every_type_are_converted_to_every_other() {
    let of = |options: &str| {
        schema(&format!(
            "buckets: {{b: {{backend: local}}}}\ncollections: {{c: {{fields: {{n: {{type: int, primary: true}}, x: {{{options}, \
             nullable: true}}}}}}}}"
        ))
    };
    let mut texts = Vec::new();
    for (from, value) in EVERY_TYPE {
        for (to, _) in EVERY_TYPE {
            let (before, after) = (of(from), of(to));
            let database = Database::with(&before).await;
            for body in [format!(r#"{{"n":1,"x":{value}}}"#), r#"{"n":2}"#.to_owned()] {
                let row = read_create(&only(&before), body.as_bytes(), NOW).unwrap();
                database.insert(&only(&before), &row).await;
            }
            let plan = plan(&before, &after);
            let text = only(&after).fields[1].kind.storage() == alyx_schema::Storage::Text;
            let kept = plan.refused().count() == 0 && text;
            for sql in alyx_schema::drop_triggers(&only(&before))
                .iter()
                .chain(&proposed(&plan))
            {
                database.run(sql).await;
            }
            let found = database.documents(&only(&after)).await;
            assert_eq!(found[1][1], Value::Null, "{from} to {to}");
            let mut json = Vec::new();
            alyx_schema::write_json(&only(&after), &found[0], None, &mut json);
            let json = String::from_utf8(json).unwrap();
            assert!(
                serde_json::from_str::<serde_json::Value>(&json).is_ok(),
                "{from} to {to}: {json}"
            );
            if kept {
                assert_eq!(
                    json,
                    format!(r#"{{"n":1,"x":{}}}"#, as_returned(value)),
                    "{from} to {to}"
                );
            } else {
                texts.push(format!("{from} → {to}: {json}"));
            }
        }
    }
    // Some of them, as people would expect them.
    for expected in [
        r#"type: text → type: richtext: {"n":1,"x":"&lt;b&gt;&amp;"}"#,
        r#"type: richtext → type: text: {"n":1,"x":"<b>x</b> &amp; y"}"#,
        r#"type: timestamp → type: date: {"n":1,"x":"2026-01-31"}"#,
        r#"type: date → type: timestamp: {"n":1,"x":"2026-01-31T00:00:00.000Z"}"#,
        r#"type: bool → type: email: {"n":1,"x":"true"}"#,
        r#"type: string → type: date: {"n":1,"x":null}"#,
        r#"type: select, select: {values: [a, b], maxSelect: 2} → type: json: {"n":1,"x":["a","b"]}"#,
        r#"type: select, select: {values: ["it's", b]} → type: json: {"n":1,"x":"it's"}"#,
        r#"type: id → type: json: {"n":1,"x":"aB3dE6gH9jK2mN5"}"#,
        r#"type: int → type: file, file: {bucket: b}: {"n":1,"x":"-7"}"#,
    ] {
        assert!(
            texts.iter().any(|text| text == expected),
            "{expected}\n{}",
            texts.join("\n")
        );
    }
}

fn as_returned(value: &str) -> String {
    value.replace("12:00:00Z", "12:00:00.000Z")
}
