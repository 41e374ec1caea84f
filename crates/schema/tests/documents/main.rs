//! Documents in and out.

mod types;

use std::sync::Arc;

use alyx_core::{ErrorKind, Value};
use alyx_schema::{
    Collection, key_to_json, parse, parse_key, read_create, read_update, row_from_image, value_from_json,
    value_from_text, write_json,
};
use proptest::prelude::*;
use serde_json::json;

const NOW: &str = "2026-01-31T12:00:00.000Z";
const KEY: &str = "0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d";

fn collection(fields: &str) -> Arc<Collection> {
    let source = format!("collections: {{c: {{fields: {{{fields}}}}}}}");
    let parsed = parse(&source, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    Arc::clone(&parsed.schema.collections["c"])
}

fn all_types() -> Arc<Collection> {
    collection(
        "id: {type: uuid, primary: true, default: auto}, u: {type: uuid, nullable: true}, \
         s: {type: string, nullable: true}, t: {type: text, nullable: true}, i: {type: int, nullable: true}, \
         f: {type: float, nullable: true}, b: {type: bool, nullable: true}, at: {type: timestamp, nullable: true}, \
         j: {type: json, nullable: true}, d: {type: blob, nullable: true}",
    )
}

fn written(collection: &Collection, row: &[Value]) -> String {
    let mut out = Vec::new();
    write_json(collection, row, None, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Creating with `body` fails with these (field, code) pairs in `details`.
fn refused(collection: &Collection, body: &str, expected: &[(&str, &str)]) {
    let error = read_create(collection, body.as_bytes(), NOW).expect_err(body);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{body}");
    assert_eq!(error.code(), "VALIDATION_ERROR", "{body}: {error}");
    let details: Vec<(&str, &str)> = error
        .details()
        .iter()
        .map(|detail| (detail.field.as_str(), detail.code.as_str()))
        .collect();
    assert_eq!(details, expected, "{body}");
    assert_eq!(error.message(), error.details()[0].message);
    assert_eq!(error.field(), Some(expected[0].0));
}

#[test]
fn a_document_comes_back_as_it_was_sent() {
    let collection = all_types();
    let body = format!(
        r#" {{"id":"{KEY}","u":"{KEY}","s":"é\n\"\u0001","t":"","i":-9223372036854775808,"f":0.1,"b":true,
        "at":"2026-01-31T14:00:00.5+02:00","j":{{ "big": 123456789012345678901234567890.10, "a": [ 1 , "x y" ] }},
        "d":"AP8="}} "#
    );
    let row = read_create(&collection, body.as_bytes(), NOW).expect("valid");
    assert_eq!(
        written(&collection, &row),
        format!(
            r#"{{"id":"{KEY}","u":"{KEY}","s":"é\n\"\u0001","t":"","i":-9223372036854775808,"f":0.1,"b":true,"#
        ) + r#""at":"2026-01-31T12:00:00.500Z","j":{"big":123456789012345678901234567890.10,"a":[1,"x y"]},"d":"AP8="}"#
    );
}

#[test]
fn what_the_body_leaves_out_is_filled_in() {
    let collection = collection(
        "id: {type: uuid, primary: true, default: auto}, made: {type: timestamp, default: now}, \
         seen: {type: timestamp, default: now, nullable: true}, changed: {type: timestamp, onUpdate: now}, \
         n: {type: int, default: 7}, note: {type: text, nullable: true}, s: {type: string, default: x}",
    );
    for body in [
        "{}",
        r#"{"id":null}"#,
        r#"{"id":"","made":""}"#,
        r#"{"id":"auto","made":"now","seen":"now"}"#,
        r#"{"made":null}"#,
    ] {
        let row = read_create(&collection, body.as_bytes(), NOW).expect(body);
        assert_eq!(row[0].as_text().map(str::len), Some(36), "{body}");
        assert_eq!(row[1], Value::from(NOW), "{body}");
        assert_eq!(row[2], Value::from(NOW), "{body}");
        assert_eq!(row[3], Value::from(NOW), "{body}");
        assert_eq!(row[4..], [Value::Int(7), Value::Null, Value::from("x")], "{body}");
    }
    let kept = r#"{"made":"2000-01-01","seen":null,"n":0,"s":""}"#;
    let row = read_create(&collection, kept.as_bytes(), NOW).expect(kept);
    assert_eq!(row[1..3], [Value::from("2000-01-01T00:00:00.000Z"), Value::Null]);
    assert_eq!((&row[4], &row[6]), (&Value::Int(0), &Value::from("")));
    refused(&collection, r#"{"n":null}"#, &[("n", "required")]);
}

#[test]
fn keys_are_made_given_or_left_to_the_database() {
    let numbered = collection("key: {type: int, primary: true, default: auto}");
    for body in ["{}", r#"{"key":null}"#, r#"{"key":"auto"}"#] {
        assert_eq!(
            read_create(&numbered, body.as_bytes(), NOW).expect(body),
            [Value::Null]
        );
    }
    assert_eq!(
        read_create(&numbered, br#"{"key":5}"#, NOW).expect("given"),
        [Value::Int(5)]
    );
    let named = collection("key: {type: string, primary: true}");
    refused(&named, "{}", &[("key", "required")]);
    refused(&named, r#"{"key":""}"#, &[("key", "required")]);
    let upper = format!(r#"{{"id":"{}"}}"#, KEY.to_uppercase());
    let row = read_create(&all_types(), upper.as_bytes(), NOW).expect("given");
    assert_eq!(row[0], Value::from(KEY));
    refused(&all_types(), r#"{"id":"mine"}"#, &[("id", "invalid_uuid")]);
}

#[test]
fn wrong_values_are_refused_by_name() {
    let collection = all_types();
    let check = |body: &str, field: &str, code: &str| refused(&collection, body, &[(field, code)]);
    check(r#"{"nope":1}"#, "nope", "unknown_field");
    check(r#"{"s":1}"#, "s", "invalid_type");
    check(r#"{"s":["a"]}"#, "s", "invalid_type");
    check(r#"{"s":"a\u0000b"}"#, "s", "invalid_text");
    check(r#"{"s":"\ud800"}"#, "s", "invalid_text");
    check(r#"{"i":"1"}"#, "i", "invalid_type");
    check(r#"{"i":1.5}"#, "i", "invalid_type");
    check(r#"{"i":9223372036854775808}"#, "i", "out_of_range");
    check(r#"{"i":-9223372036854775809}"#, "i", "out_of_range");
    check(r#"{"i":1e999}"#, "i", "out_of_range");
    check(r#"{"i":1e17}"#, "i", "out_of_range");
    check(r#"{"f":1e999}"#, "f", "out_of_range");
    check(r#"{"f":"1"}"#, "f", "invalid_type");
    check(r#"{"b":1}"#, "b", "invalid_type");
    check(r#"{"b":"true"}"#, "b", "invalid_type");
    check(r#"{"u":"abc"}"#, "u", "invalid_uuid");
    check(r#"{"at":"soon"}"#, "at", "invalid_timestamp");
    check(r#"{"at":5}"#, "at", "invalid_type");
    check(r#"{"d":"AP8"}"#, "d", "invalid_base64");
    check(r#"{"d":[1]}"#, "d", "invalid_type");
    check(r#"{"j":[1e999]}"#, "j", "out_of_range");
    check(r#"{"j":["\udc00"]}"#, "j", "invalid_text");
    check(r#"{"s":"a","s":"b"}"#, "s", "duplicate_field");
    let nested = |depth: usize| format!(r#"{{"j":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read_create(&collection, nested(64).as_bytes(), NOW).is_ok());
    check(&nested(65), "j", "too_deep");
    check(&nested(100_000), "j", "too_deep");
}

#[test]
fn whole_numbers_may_be_spelt_as_floats() {
    let collection = all_types();
    for (spelling, value) in [
        ("1.0", 1),
        ("-2e3", -2000),
        ("9007199254740992.0", 1 << 53),
        ("-0", 0),
    ] {
        let body = format!(r#"{{"i":{spelling}}}"#);
        let row = read_create(&collection, body.as_bytes(), NOW).expect(spelling);
        assert_eq!(row[4], Value::Int(value), "{spelling}");
    }
}

#[test]
fn checks_of_the_field_are_run_and_all_problems_reported() {
    let collection = collection(
        "name: {type: string, validate: {minLength: 2, maxLength: 3, pattern: '^[a-zé]+$'}}, \
         age: {type: int, validate: {min: 18, max: 99}}, ratio: {type: float, nullable: true, validate: {max: 1}}, \
         mail: {type: string, nullable: true, validate: {format: email}}, \
         site: {type: string, nullable: true, validate: {format: url}}, \
         ref: {type: string, nullable: true, validate: {format: uuid}}, \
         state: {type: string, nullable: true, validate: {enum: [a, b]}}",
    );
    let ok = r#"{"name":"éé","age":18,"ratio":1,"mail":"a@b.io","site":"https://a","state":"b"}"#;
    assert!(read_create(&collection, ok.as_bytes(), NOW).is_ok());
    refused(
        &collection,
        r#"{"name":"é","age":17}"#,
        &[("name", "min_length"), ("age", "min_value")],
    );
    refused(
        &collection,
        r#"{"name":"ABCD","age":100}"#,
        &[("name", "max_length"), ("name", "pattern"), ("age", "max_value")],
    );
    refused(
        &collection,
        r#"{"ratio":1.01,"mail":"x","site":"x","ref":"x","state":"c","extra":1}"#,
        &[
            ("ratio", "max_value"),
            ("mail", "format_email"),
            ("site", "format_url"),
            ("ref", "format_uuid"),
            ("state", "enum"),
            ("extra", "unknown_field"),
            ("name", "required"),
            ("age", "required"),
        ],
    );
}

#[test]
fn messages_say_what_would_be_right() {
    let collection = all_types();
    let check = |body: &str, expected: &str| {
        let error = read_create(&collection, body.as_bytes(), NOW).expect_err(body);
        assert!(error.message().contains(expected), "{}", error.message());
    };
    check(r#"{"i":"x"}"#, "`i` must be a whole number, not a string");
    check(r#"{"b":0}"#, "`b` must be true or false, not a number");
    check(r#"{"AT":0}"#, "`c` has no field `AT` (did you mean `at`?)");
}

#[test]
fn bodies_that_are_no_json_object_are_refused_with_their_place() {
    let collection = all_types();
    let check = |body: &[u8], expected: &str| {
        let error = read_create(&collection, body, NOW).expect_err("not an object");
        assert_eq!(
            (error.code(), error.kind()),
            ("INVALID_JSON", ErrorKind::InvalidInput)
        );
        assert!(error.message().contains(expected), "{}", error.message());
    };
    check(b"", "empty");
    check(b" \n", "empty");
    check(b"[1]", "not an array");
    check(b"null", "not null");
    check(b"\"x\"", "not a string");
    check(b"{\"s\": \"a\"", "line 1 column 9");
    check(b"{\n\"s\": oops}", "line 2 column 6");
    check(b"{\"s\": 1} {", "line 1 column 10");
    check(b"{\"s\": \"a\nb\"}", "line 1 column 8");
    check(b"{\"s\": \"\xff\"}", "offset 7");
}

#[test]
fn a_hostile_body_gets_a_small_reply() {
    let members: Vec<String> = (0..10_000)
        .map(|i| format!(r#""{}{i}":1"#, "k".repeat(200)))
        .collect();
    let body = format!("{{{}}}", members.join(","));
    let error = read_create(&all_types(), body.as_bytes(), NOW).expect_err("unknown fields");
    assert_eq!(error.details().len(), 100);
    assert!(
        error
            .details()
            .iter()
            .all(|detail| detail.message.len() < 300 && detail.field.len() < 300)
    );
}

#[test]
fn updates_set_what_they_name() {
    let collection = collection(
        "id: {type: uuid, primary: true, default: auto}, s: {type: string}, n: {type: int, nullable: true}, \
         changed: {type: timestamp, onUpdate: now}, secret: {type: string, internal: true, nullable: true}",
    );
    let stamp = (3, Value::from(NOW));
    let check = |body: &str, expected: &[(usize, Value)]| {
        let set = read_update(&collection, body.as_bytes(), NOW).expect(body);
        let expected: Vec<_> = expected.iter().chain([&stamp]).cloned().collect();
        assert_eq!(set, expected, "{body}");
    };
    check("{}", &[]);
    check(
        r#"{"n":null,"s":"x"}"#,
        &[(1, Value::from("x")), (2, Value::Null)],
    );
    check(
        r#"{"id":"anything","changed":"1999-01-01","n":1}"#,
        &[(2, Value::Int(1))],
    );
    let codes = |body: &str| -> Vec<String> {
        let error = read_update(&collection, body.as_bytes(), NOW).expect_err(body);
        error.details().iter().map(|detail| detail.code.clone()).collect()
    };
    assert_eq!(codes(r#"{"s":null}"#), ["required"]);
    assert_eq!(codes(r#"{"secret":"x"}"#), ["read_only"]);
    assert_eq!(codes(r#"{"x":1,"s":2}"#), ["unknown_field", "invalid_type"]);
}

#[test]
fn internal_fields_are_set_on_create_and_never_written_out() {
    let collection = collection("secret: {type: string, internal: true}, s: {type: string}");
    let row = read_create(&collection, br#"{"secret":"x","s":"y","id":"auto"}"#, NOW).expect("valid");
    assert_eq!(row[1], Value::from("x"));
    let mut out = Vec::new();
    write_json(&collection, &row, Some(&[1, 2]), &mut out);
    assert_eq!(out, br#"{"s":"y"}"#);
    out.clear();
    write_json(&collection, &row, Some(&[]), &mut out);
    assert_eq!(out, b"{}");
    assert!(!written(&collection, &row).contains("secret"));
}

#[test]
fn values_that_raw_sql_may_have_left_are_written_as_json() {
    let collection = all_types();
    let mut row = vec![Value::Null; collection.fields.len()];
    row[0] = Value::from(KEY);
    row[5] = Value::Float(f64::INFINITY);
    row[6] = Value::Int(7);
    row[8] = Value::from("{oops");
    let document: serde_json::Value = serde_json::from_str(&written(&collection, &row)).expect("JSON");
    assert_eq!(
        document,
        json!({"id": KEY, "u": null, "s": null, "t": null, "i": null, "f": null, "b": true, "at": null, "j": "{oops", "d": null})
    );
}

#[test]
fn keys_in_paths() {
    let uuid = all_types();
    let upper = KEY.to_uppercase();
    assert_eq!(parse_key(&uuid, &upper), Some(Value::from(KEY)));
    assert_eq!(parse_key(&uuid, "1"), None);
    let int = collection("key: {type: int, primary: true}");
    assert_eq!(parse_key(&int, "-7"), Some(Value::Int(-7)));
    for bad in ["+7", "7.0", "", "x", "9223372036854775808"] {
        assert_eq!(parse_key(&int, bad), None, "{bad}");
    }
    let text = collection("key: {type: string, primary: true}");
    assert_eq!(parse_key(&text, "a b"), Some(Value::from("a b")));
    assert_eq!(parse_key(&text, ""), None);
    let mut out = Vec::new();
    key_to_json(&int, &Value::Int(7), &mut out);
    key_to_json(&text, &Value::from("a\"b"), &mut out);
    assert_eq!(out, br#"7"a\"b""#);
}

#[test]
fn filter_operands() {
    let collection = all_types();
    let field = |name: &str| collection.field(name).expect(name).1;
    let check = |name: &str, text: &str, expected: Option<Value>| {
        assert_eq!(value_from_text(field(name), text).ok(), expected, "{name} {text}");
    };
    check("b", "true", Some(Value::Int(1)));
    check("b", "0", Some(Value::Int(0)));
    check("b", "yes", None);
    check("i", "42", Some(Value::Int(42)));
    check("i", "x", None);
    check("i", "1.5", None);
    check("f", "1e3", Some(Value::Float(1000.0)));
    check("f", "inf", None);
    check("f", "NaN", None);
    check("at", "2026-01-31", Some(Value::from("2026-01-31T00:00:00.000Z")));
    check("at", "now", None);
    check("u", &KEY.to_uppercase(), Some(Value::from(KEY)));
    check("s", "a:b", Some(Value::from("a:b")));
    check("j", "{ \"a\": 1 }", Some(Value::from("{\"a\":1}")));
    check("j", "plain", Some(Value::from("\"plain\"")));
    check("d", "AP8=", Some(Value::Blob([0, 255].as_slice().into())));
    let check = |name: &str, json: serde_json::Value, expected: Option<Value>| {
        assert_eq!(
            value_from_json(field(name), &json).ok(),
            expected,
            "{name} {json}"
        );
    };
    check("b", json!(true), Some(Value::Int(1)));
    check("b", json!(1), Some(Value::Int(1)));
    check("b", json!(2), None);
    check("i", json!(5.0), Some(Value::Int(5)));
    check("i", json!("5"), None);
    check("i", json!(null), None);
    check("f", json!(5), Some(Value::Float(5.0)));
    check("s", json!("x"), Some(Value::from("x")));
    check("s", json!(5), None);
    check("j", json!({"a": [1]}), Some(Value::from("{\"a\":[1]}")));
    let message = value_from_text(field("i"), "x").expect_err("not a number");
    assert_eq!(message, "`i` must be a whole number, not `x`");
}

#[test]
fn images_fill_in_younger_fields_and_skip_older_ones() {
    let collection = collection(
        "s: {type: string}, n: {type: int, default: 7}, m: {type: text, nullable: true}, b: {type: blob, nullable: true}",
    );
    let image = format!(r#"{{"id":"{KEY}","gone":5,"s":"x","b":"00FF"}}"#);
    let row = row_from_image(&collection, &image).expect("an image");
    assert_eq!(
        row,
        [
            Value::from(KEY),
            Value::from("x"),
            Value::Int(7),
            Value::Null,
            Value::Blob([0, 255].as_slice().into())
        ]
    );
    for broken in ["", "[]", r#"{"s":true}"#, r#"{"b":"0"}"#, r#"{"b":"0G"}"#] {
        let error = row_from_image(&collection, broken).expect_err(broken);
        assert_eq!(error.kind(), ErrorKind::Internal, "{broken}");
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|truth| json!(truth)),
        any::<i64>().prop_map(|int| json!(int)),
        any::<u64>().prop_map(|int| json!(int)),
        ".*".prop_map(|text: String| json!(text)),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| json!(items)),
            prop::collection::hash_map(".*", inner, 0..6).prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #[test]
    fn every_document_comes_back_whole(
        text in "[^\0]*",
        int in any::<i64>(),
        float in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
        truth in any::<bool>(),
        json in any_json(),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        use base64::Engine as _;
        let blob = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let collection = all_types();
        // Pretty-printed, so that space has to be stripped; floats by `Debug`, which is exact.
        let body = format!(
            r#"{{"id":"{KEY}","s":{},"t":null,"i":{int},"f":{float:?},"b":{truth},"at":"{NOW}","j":{},"d":"{blob}"}}"#,
            json!(text),
            serde_json::to_string_pretty(&json).expect("JSON"),
        );
        let row = read_create(&collection, body.as_bytes(), NOW).expect("valid");
        let written = written(&collection, &row);
        let document: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        prop_assert_eq!(&document["s"], &json!(text));
        prop_assert_eq!(&document["i"], &json!(int));
        prop_assert_eq!(&document["b"], &json!(truth));
        prop_assert_eq!(&document["at"], &json!(NOW));
        prop_assert_eq!(&document["d"], &json!(blob));
        if !json.is_null() {
            prop_assert_eq!(&document["j"], &json);
            prop_assert_eq!(&row[8], &Value::from(json.to_string()));
        }
        let again = read_create(&collection, written.as_bytes(), NOW).expect("what we write, we read");
        prop_assert!(matches!((&row[5], &again[5]), (Value::Float(a), Value::Float(b)) if a.to_bits() == b.to_bits()));
        prop_assert_eq!(again, row);
    }

    #[test]
    fn no_body_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in ".*") {
        let collection = all_types();
        let _ = read_create(&collection, &body, NOW);
        let _ = read_update(&collection, text.as_bytes(), NOW);
        let _ = row_from_image(&collection, &text);
        for field in &collection.fields {
            let _ = value_from_text(field, &text);
        }
    }
}
