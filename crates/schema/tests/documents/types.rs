//! Values of the types that take more than a storage class.

use alyx_core::Value;
use alyx_schema::{Collection, parse, parse_key, read_create, read_update, value_from_json, value_from_text};
use proptest::prelude::*;
use serde_json::json;

use crate::{KEY, NOW, collection, refused, written};

#[test]
fn addresses_and_days_are_checked_and_stored_as_they_are() {
    let collection = collection(
        "mail: {type: email, maxLength: 20}, site: {type: url, nullable: true}, day: {type: date, default: now}",
    );
    let row = read_create(
        &collection,
        br#"{"mail":"Ada@x.io","site":"http://x.io/?q"}"#,
        NOW,
    )
    .expect("valid");
    assert_eq!(
        row[1..],
        [
            Value::from("Ada@x.io"),
            Value::from("http://x.io/?q"),
            Value::from("2026-01-31")
        ]
    );
    let row = read_create(&collection, br#"{"mail":"a@b.io","day":"now"}"#, NOW).expect("valid");
    assert_eq!(row[3], Value::from("2026-01-31"));
    refused(
        &collection,
        r#"{"mail":"ada","site":"x.io","day":"2026-02-30"}"#,
        &[
            ("mail", "invalid_email"),
            ("site", "invalid_url"),
            ("day", "invalid_date"),
        ],
    );
    refused(
        &collection,
        r#"{"mail":"a.very.long.address@x.io","day":"2026-01-31T00:00:00Z"}"#,
        &[("mail", "max_length"), ("day", "invalid_date")],
    );
    refused(
        &collection,
        r#"{"mail":1,"site":[],"day":20260131}"#,
        &[
            ("mail", "invalid_type"),
            ("site", "invalid_type"),
            ("day", "invalid_type"),
        ],
    );
}

/// D18 of the reference's checklist.
#[test]
fn selections_take_one_or_several_of_their_values() {
    let collection = collection(
        "one: {type: select, select: {values: [a, b], maxSelect: 1}, default: b}, \
         two: {type: select, select: {values: [a, b, 'true', '1'], maxSelect: 2}, nullable: true}, \
         any: {type: select, select: {values: [a, b, c]}, default: [a, c]}",
    );
    let check = |body: &str, expected: &str| {
        let row = read_create(&collection, body.as_bytes(), NOW).expect(body);
        let written = written(&collection, &row);
        assert!(written.ends_with(&format!(",{expected}}}")), "{body}: {written}");
    };
    check("{}", r#""one":"b","two":null,"any":["a","c"]"#);
    check(
        r#"{"one":"a","two":"true","any":[]}"#,
        r#""one":"a","two":"true","any":[]"#,
    );
    check(
        r#"{"two":[ "1" , "b" ],"any":["c","b","a"]}"#,
        r#""one":"b","two":["1","b"],"any":["c","b","a"]"#,
    );
    refused(
        &collection,
        r#"{"one":["a"],"two":["a","b","1"],"any":["a","d"]}"#,
        &[
            ("one", "invalid_type"),
            ("two", "max_select"),
            ("any", "invalid_select"),
        ],
    );
    refused(
        &collection,
        r#"{"one":"c","two":[true],"any":["a","a"]}"#,
        &[
            ("one", "invalid_select"),
            ("two", "invalid_type"),
            ("any", "invalid_select"),
        ],
    );
    refused(
        &collection,
        r#"{"one":true,"two":{},"any":"[\"a\"]"}"#,
        &[
            ("one", "invalid_type"),
            ("two", "invalid_type"),
            ("any", "invalid_select"),
        ],
    );
}

/// D17 of the reference's checklist.
#[test]
fn rich_text_is_cleaned_after_it_is_checked() {
    let collection = collection(
        "body: {type: richtext, maxLength: 60, richtext: {preset: basic, allow: code, deny: [link]}, \
         default: '<b>d<script>x</script>'}, \
         plain: {type: richtext, nullable: true, validate: {pattern: '^<p>', minLength: 5}, richtext: {preset: minimal}}",
    );
    let stored = |body: &str| {
        let row =
            read_create(&collection, body.as_bytes(), NOW).unwrap_or_else(|error| panic!("{body}: {error}"));
        row[1].as_text().expect("text").to_owned()
    };
    assert_eq!(stored("{}"), "<b>d</b>");
    assert_eq!(stored(r#"{"body":""}"#), "");
    assert_eq!(
        stored(r#"{"body":"<B onclick=x>a</B> & <a href=/x>b</a> <code>c"}"#),
        "<b>a</b> &amp; b <code>c</code>"
    );
    // 60 characters as sent; the cleaned form is longer.
    assert_eq!(
        stored(&format!(r#"{{"body":"{}"}}"#, "&".repeat(60))),
        "&amp;".repeat(60)
    );
    let update = read_update(&collection, br#"{"body":"<script>1</script>x"}"#, NOW).expect("valid");
    assert_eq!(update, [(1, Value::from("x"))]);
    refused(
        &collection,
        &format!(r#"{{"body":"{}","plain":"<i>x"}}"#, "<i></i>".repeat(9)),
        &[
            ("body", "max_length"),
            ("plain", "min_length"),
            ("plain", "pattern"),
        ],
    );
    refused(
        &collection,
        r#"{"body":"a\u0000b","plain":1}"#,
        &[("body", "invalid_text"), ("plain", "invalid_type")],
    );
}

#[test]
fn short_ids_are_made_and_checked() {
    let ids = collection("id: {type: id, primary: true, default: auto}, other: {type: id, nullable: true}");
    let made = |body: &str| {
        let row = read_create(&ids, body.as_bytes(), NOW).unwrap_or_else(|error| panic!("{body}: {error}"));
        row[0].as_text().expect("text").to_owned()
    };
    for body in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":"auto"}"#] {
        let id = made(body);
        assert_eq!(parse_key(&ids, &id), Some(Value::from(id.as_str())), "{id}");
        assert_ne!(id, made(body));
    }
    assert_eq!(made(r#"{"id":"aB3dE6gH9jK2mN5"}"#), "aB3dE6gH9jK2mN5");
    refused(
        &ids,
        r#"{"id":"short","other":"aB3dE6gH9jK2m-5"}"#,
        &[("id", "invalid_id"), ("other", "invalid_id")],
    );
    refused(&ids, r#"{"other":7}"#, &[("other", "invalid_type")]);
    assert_eq!(parse_key(&ids, "short"), None);
}

#[test]
fn uuids_and_ids_are_made_for_other_fields_too() {
    let made = collection(
        "token: {type: uuid, default: auto, unique: true}, code: {type: id, default: auto, nullable: true}, \
         secret: {type: id, default: auto, internal: true}",
    );
    let row = read_create(&made, b"{}", NOW).expect("valid");
    let again = read_create(&made, br#"{"token":"auto","code":"","secret":null}"#, NOW).expect("valid");
    for (first, second) in row.iter().zip(&again) {
        assert!(
            first.as_text().is_some() && second.as_text().is_some(),
            "{first:?} {second:?}"
        );
        assert_ne!(first, second);
    }
    let given = format!(r#"{{"token":"{KEY}","code":null,"secret":"aB3dE6gH9jK2mN5"}}"#);
    let row = read_create(&made, given.as_bytes(), NOW).expect("valid");
    assert_eq!(
        row[1..],
        [Value::from(KEY), Value::Null, Value::from("aB3dE6gH9jK2mN5")]
    );
    assert!(read_update(&made, b"{}", NOW).is_ok_and(|changes| changes.is_empty()));
    refused(
        &made,
        r#"{"token":"x","secret":"y"}"#,
        &[("token", "invalid_uuid"), ("secret", "invalid_id")],
    );
}

#[test]
fn files_are_kept_by_their_ids() {
    let source = "buckets: {images: {backend: local}}\ncollections: {c: {fields: {\
                  face: {type: file, nullable: true, file: {bucket: images}}}}}";
    let parsed = parse(source, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let files = &parsed.schema.collections["c"];
    let row = read_create(files, format!(r#"{{"face":"{KEY}"}}"#).as_bytes(), NOW).expect("valid");
    assert_eq!(row[1], Value::from(KEY));
    assert!(read_create(files, b"{}", NOW).is_ok_and(|row| row[1] == Value::Null));
    for wrong in ["\"\"", "\"../x\"", "\"a b\""] {
        refused(
            files,
            &format!(r#"{{"face":{wrong}}}"#),
            &[("face", "invalid_file")],
        );
    }
    refused(files, r#"{"face":{"id":1}}"#, &[("face", "invalid_type")]);
}

#[test]
fn operands_of_the_newer_types() {
    let things = collection(
        "mail: {type: email}, day: {type: date}, code: {type: id}, body: {type: richtext}, \
         one: {type: select, select: {values: [a, b], maxSelect: 1}}, any: {type: select, select: {values: [a, b]}}",
    );
    let field = |name: &str| things.field(name).expect(name).1;
    let check = |name: &str, text: &str, expected: Result<&str, &str>| {
        for read in [
            value_from_text(field(name), text),
            value_from_json(field(name), &json!(text)),
        ] {
            match (read, expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, Value::from(expected), "{name} {text}"),
                (Err(message), Err(part)) => assert!(message.contains(part), "{name} {text}: {message}"),
                (read, _) => panic!("{name} {text}: {read:?}"),
            }
        }
    };
    // A part of an address, or one that the field no longer takes, may be looked for.
    check("mail", "@x.io", Ok("@x.io"));
    check("day", "2026-01-31", Ok("2026-01-31"));
    check("day", "2026-02-30", Err("day of the calendar"));
    check("day", "now", Err("day of the calendar"));
    check("code", "aB3dE6gH9jK2mN5", Ok("aB3dE6gH9jK2mN5"));
    check("code", "aB3", Err("15 letters"));
    check("body", "<b>", Ok("<b>"));
    check("one", "c", Ok("c"));
    assert_eq!(
        value_from_json(field("any"), &json!(["a", "b"])),
        Ok(Value::from(r#"["a","b"]"#))
    );
    assert_eq!(
        value_from_text(field("any"), r#"[ "a" ]"#),
        Ok(Value::from(r#"["a"]"#))
    );
    assert!(
        value_from_json(field("one"), &json!(["a"])).is_err_and(|message| message.contains("not an array"))
    );
    assert!(
        value_from_json(field("any"), &json!([1])).is_err_and(|message| message.contains("array of strings"))
    );
    assert!(value_from_json(field("any"), &json!({"a": 1})).is_err());
}

/// What is written out reads back as the same, whatever was sent.
fn stays(collection: &Collection, name: &str, sent: &serde_json::Value) {
    let body = json!({ name: sent }).to_string();
    let Ok(row) = read_create(collection, body.as_bytes(), NOW) else {
        return;
    };
    let out = written(collection, &row);
    let again = read_create(collection, out.as_bytes(), NOW);
    assert_eq!(again.as_ref().ok(), Some(&row), "{body} became {out}: {again:?}");
    let update = read_update(collection, body.as_bytes(), NOW).expect("as good as a create");
    let (position, _) = collection.field(name).expect("declared");
    assert_eq!(update, [(position, row[position].clone())], "{body}");
}

proptest! {
    #[test]
    fn values_of_the_newer_types_read_back_as_they_were_written(
        text in ".*",
        html in "(<[bipa]( href='[a-z:/#]*')?>|</[bipa]>|[<>&;a-z\"']| ){0,20}",
        day in "[0-9]{4}-[01][0-9]-[0-3][0-9]",
        mail in "[a-z.+']{1,6}@[a-z.-]{1,8}",
        url in "(https?|HTTP)://[a-z.:@/?# ]{0,9}",
        chosen in prop::collection::vec(prop::sample::select(&["a", "1", "true", "é \"", "d"][..]), 0..4),
        id in "[A-Za-z0-9]{14,16}",
    ) {
        let collection = collection(
            "mail: {type: email, nullable: true}, site: {type: url, nullable: true}, day: {type: date, nullable: true}, \
             one: {type: select, nullable: true, select: {values: [a, '1', 'true', 'é \"'], maxSelect: 1}}, \
             any: {type: select, nullable: true, select: {values: [a, '1', 'true', 'é \"'], maxSelect: 3}}, \
             html: {type: richtext, nullable: true, richtext: {preset: full}}, code: {type: id, nullable: true}",
        );
        for (name, special) in [("mail", &mail), ("site", &url), ("day", &day), ("html", &html), ("code", &id)] {
            stays(&collection, name, &json!(special));
            stays(&collection, name, &json!(text));
        }
        for name in ["one", "any"] {
            stays(&collection, name, &json!(chosen));
            stays(&collection, name, &json!(chosen.first()));
            stays(&collection, name, &json!(text));
        }
    }
}
