//! Rules of buckets: about files, before and after they are there.

use std::time::SystemTime;

use alyx_core::{Caller, Value};
use alyx_rules::{Decision, Facts, FileAction, Rule, RuleSet, Verdict, read_schema, review_buckets};
use alyx_schema::{Bucket, file_field, files};
use serde_json::json;

use crate::support::account;

const SCHEMA: &str = "
collections:
  members:
    fields:
      user_id: {type: string}
buckets:
  open: {backend: local}
  private:
    backend: local
    rules:
      create: auth.id != null && file.mime_type.startsWith('image/')
      read: file.uploader_id == auth.id || file.metadata.public == 'yes'
      download: >-
        exists('members', {'user_id': auth.id}) && file.size <= 10
      delete: request.method == 'DELETE' && auth.role == 'admin'
      update: false
";

fn row(uploader: Option<&str>, mime_type: &str, size: i64, metadata: &str) -> Vec<Value> {
    let mut row = vec![Value::Null; files().fields.len()];
    row[file_field::UPLOADER_ID] = uploader.map_or(Value::Null, Value::text);
    row[file_field::MIME_TYPE] = Value::text(mime_type);
    row[file_field::SIZE] = Value::Int(size);
    row[file_field::METADATA] = Value::text(metadata);
    row
}

fn decide(rules: &RuleSet, bucket: &Bucket, action: FileAction, caller: &Caller) -> Decision {
    rules.decide_of_files(bucket, action, &Facts::of(caller, SystemTime::now()))
}

#[test]
fn a_rule_is_a_filter_over_files_even_for_one_that_is_to_come() {
    let (parsed, rules) = read_schema(SCHEMA, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let bucket = &parsed.schema.buckets["private"];
    let user = account("u1", "user", json!({}));
    let admin = account("u2", "admin", json!({}));
    let decide = |action, caller: &Caller| decide(&rules, bucket, action, caller);

    // Who may upload nothing is refused before there is anything.
    assert_eq!(decide(FileAction::Create, &Caller::Anonymous), Decision::Deny);
    let create = decide(FileAction::Create, &user).into_filter();
    assert!(create.is_local());
    assert!(create.matches(&row(None, "image/png", 1, "{}")));
    assert!(!create.matches(&row(None, "text/html", 1, "{}")));

    let read = decide(FileAction::Read, &user).into_filter();
    for (uploader, metadata, expected) in [
        (Some("u1"), "{}", true),
        (Some("u2"), "{}", false),
        (None, "{}", false),
        (Some("u2"), r#"{"public":"yes"}"#, true),
    ] {
        let file = row(uploader, "image/png", 1, metadata);
        assert_eq!(read.matches(&file), expected, "{uploader:?} {metadata}");
    }
    let anonymous = decide(FileAction::Read, &Caller::Anonymous).into_filter();
    assert!(
        !anonymous.matches(&row(None, "image/png", 1, "{}")),
        "nobody owns nothing"
    );

    assert!(!decide(FileAction::Download, &user).into_filter().is_local());
    assert_eq!(decide(FileAction::Delete, &user), Decision::Deny);
    assert_eq!(decide(FileAction::Delete, &admin), Decision::Allow);
    assert_eq!(decide(FileAction::Update, &admin), Decision::Deny);

    let open = &parsed.schema.buckets["open"];
    for action in FileAction::ALL {
        let anybody = Facts::of(&Caller::Anonymous, SystemTime::now());
        assert_eq!(rules.decide_of_files(open, action, &anybody), Decision::Allow);
        assert_eq!(
            RuleSet::default().decide_of_files(open, action, &anybody),
            Decision::Deny
        );
    }
}

#[test]
fn a_rule_of_a_bucket_that_does_not_fit_refuses_the_schema_with_its_place() {
    let check = |rule: &str, expected: &[&str]| {
        let schema = format!(
            "collections: {{c: {{fields: {{x: {{type: string}}}}}}}}\nbuckets:\n  b:\n    backend: local\n    rules:\n      \
             read: {rule}\n"
        );
        let refused = read_schema(&schema, "schema.yaml").expect_err(rule).to_string();
        for part in expected.iter().chain(&["schema.yaml:6:", "buckets.b.rules.read"]) {
            assert!(refused.contains(part), "{rule}: {refused}");
        }
    };
    check("file.owner == auth.id", &["a file has no `owner`", "uploader_id"]);
    check("file.backend == 'local'", &["a file has no `backend`"]);
    check("doc.size > 1", &["there is no `doc`"]);
    check("data.size > 1", &["files bring no `data`"]);
    check("file.size + 1 > 3", &["cannot become a filter"]);
    check("file.size", &["neither true nor false"]);
    check("file.size >", &[]);
}

#[test]
fn rules_about_documents_know_no_files() {
    let schema = crate::support::schema();
    let items = crate::support::collection(&schema, "items");
    let problem = Rule::compile(&schema, &items, alyx_rules::Action::Read, "file.size > 1");
    assert!(
        problem
            .expect_err("refused")
            .message
            .contains("there is no `file`")
    );
}

#[test]
fn buckets_are_reviewed() {
    let (parsed, rules) = read_schema(SCHEMA, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let found = review_buckets(&parsed.schema, &rules);
    let words = |index: usize| {
        let lines = found[index].lines.iter();
        let words = lines.map(|line| {
            format!(
                "{} {} {}",
                line.action.word(),
                line.anonymous.word(),
                line.user.word()
            )
        });
        words.collect::<Vec<_>>()
    };
    assert_eq!(found[0].bucket, "open");
    assert_eq!(found[0].warnings.len(), 2, "{:?}", found[0].warnings);
    assert!(found[0].lines.iter().all(|line| line.anonymous == Verdict::All));
    assert_eq!(
        words(1),
        [
            "create none some",
            "read some some",
            "update none none",
            "delete none none",
            "download none some"
        ]
    );
    assert!(found[1].warnings.is_empty());
}
