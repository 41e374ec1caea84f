//! What is wrong with a query is named.

use serde_json::json;

use crate::{list, parsed, refused};

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn what_is_wrong_with_a_filter_is_named() {
    let deep = (0..9).fold(json!({"age": 1}), |inner, _| json!({"$not": inner}));
    let deep = format!("filter={deep}");
    let wide = format!("filter=age:in:{}", vec!["1"; 501].join(","));
    let many = vec!["age=1"; 101].join("&");
    let long = format!("filter=name:like:{}", "a".repeat(1001));
    let filters = [
        (
            "filter=nme:eq:1",
            &["`nme` is not a field of `things`", "did you mean `name`?"][..],
        ),
        ("filter=zzzzzz:eq:1", &["its fields are id, name"]),
        ("filter=secret:eq:1", &["`secret` is not a field"]),
        ("filter=name", &["has no operator", "name:eq:"]),
        ("filter=name:eq", &["has no value", "name:eq:value"]),
        (
            "filter=name:equals:1",
            &["`equals` is not an operator", "the operators are eq, ne"],
        ),
        ("filter=name:lk:1", &["`lk` is not an operator"]),
        ("filter=age:eq:old", &["`age`", "old"]),
        ("filter=age:eq:1.5", &["`age`"]),
        ("filter=age:eq:9223372036854775808", &["`age`"]),
        ("age=", &["`age`"]),
        ("filter=age:in:1,x", &["`age`", "x"]),
        ("filter=age:between:1", &["`age` needs two values"]),
        ("filter=age:between:1,2,3", &["`age` needs two values"]),
        (r#"filter={"age":{"$between":[1]}}"#, &["a list of two values"]),
        ("filter=age:startsWith:1", &["`age` is int"]),
        ("filter=meta:endsWith:x", &["`meta` is json", "`meta.name`"]),
        ("filter=meta..a:eq:1", &["`meta..a` has an empty step"]),
        ("filter=meta.a.b.c.d.e.f.g.h.i:eq:1", &["more than 8 steps"]),
        ("filter=meta.a:gt:true", &["cannot be ordered by a truth value"]),
        ("filter=meta.a:in:1,x", &["mixed: write one list for each"]),
        (
            r#"filter={"meta.a":{"$eq":{"b":1}}}"#,
            &["is a place inside json"],
        ),
        (
            "filter=name.a:eq:1",
            &["`name.a` is no field", "refers to nothing"],
        ),
        ("filter=age:is_null:maybe", &["takes no value"]),
        ("filter=age:like:1", &["`like` works on text and json only"]),
        (
            "filter=age:contains:1",
            &["`contains` works on text and json only"],
        ),
        ("filter=meta:gt:1", &["json, which has no order"]),
        ("filter=owner:eq:me", &["`owner`"]),
        ("filter=at:gt:yesterday", &["`at`"]),
        ("filter=done:eq:yes", &["`done`"]),
        ("filter={", &["not JSON"]),
        ("filter={\"age\":{}}", &["has no condition"]),
        ("filter={\"age\":[1]}", &["$in"]),
        (
            "filter={\"age\":{\"gt\":1}}",
            &["`gt` is not an operator", "did you mean `$gt`?"],
        ),
        ("filter={\"age\":{\"$gt\":null}}", &["null"]),
        ("filter={\"age\":{\"$gt\":\"1\"}}", &["`age`"]),
        ("filter={\"age\":{\"$in\":1}}", &["needs a list"]),
        ("filter={\"age\":{\"$exists\":1}}", &["true or false"]),
        ("filter={\"age\":{\"$not\":1}}", &["needs conditions"]),
        ("filter={\"name\":{\"$like\":1}}", &["needs a string"]),
        (
            "filter={\"meta\":{\"$contains\":[1]}}",
            &["a string, a number or a truth value"],
        ),
        ("filter={\"$eq\":1}", &["belongs inside a field"]),
        ("filter={\"$nor\":[]}", &["did you mean `$or`?"]),
        ("filter={\"$and\":{}}", &["needs a list"]),
        ("filter={\"$or\":[]}", &["at least one"]),
        ("filter={\"$or\":[1]}", &["JSON object"]),
        (&deep, &["deeper than 8"]),
        (&wide, &["501 values, 500 at most"]),
        (&many, &["more than 100 conditions"]),
        (&long, &["more than 1000 characters"]),
    ];
    for (text, words) in filters {
        refused(text, "INVALID_FILTER", words);
    }
}

#[test]
fn what_is_wrong_with_the_rest_of_a_query_is_named() {
    let huge = format!("name={}", "a".repeat(16 * 1024));
    let queries = [
        (
            "nme=1",
            &["neither a parameter nor a field", "did you mean `name`?"][..],
        ),
        ("secret=1", &["neither a parameter nor a field"]),
        ("secret.a=1", &["neither a parameter nor a field"]),
        ("per_page=1", &["did you mean `perPage`?"]),
        ("zzzzzz=1", &["filter, sort, limit"]),
        ("expand=owner", &["`owner` is uuid and refers to nothing"]),
        ("expand=ownr", &["`ownr` is not a field", "did you mean `owner`?"]),
        ("search=%00", &["`search` is a text"]),
        ("after=x", &["`after` is no cursor"]),
        ("after=AAAAAAAAAAAA", &["`after` is no cursor"]),
        ("after=AQAAAAAAAAAA", &["`after` is the cursor of another order"]),
        ("after=x&offset=1", &["leave out `offset`"]),
        ("after=x&page=2", &["leave out `offset` and `page`"]),
        ("tx_id=x", &["not supported"]),
        ("limit=-1", &["`limit` must be a whole number"]),
        ("limit=ten", &["`limit`", "ten"]),
        ("limit=", &["`limit`"]),
        ("offset=-5", &["`offset`"]),
        ("page=0", &["counts from 1"]),
        ("perPage=x", &["`perPage`"]),
        ("limit=1&limit=2", &["given twice"]),
        ("count=maybe", &["true or false"]),
        ("sort=nme", &["did you mean `name`?"]),
        ("sort=secret", &["`secret` is not a field"]),
        ("sort=name,,age", &["`` is not a field"]),
        ("sort=id,name,body,age,price,done,at,meta,data", &["more than 8"]),
        ("fields=name,secret", &["`secret` is not a field"]),
        ("name=%FF", &["not UTF-8", "%25"]),
        (&huge, &["longer than 16384 bytes"]),
    ];
    for (text, words) in queries {
        refused(text, "INVALID_QUERY", words);
    }
}

#[test]
fn an_error_names_its_field() {
    let field = |text: &str| {
        list(text)
            .err()
            .and_then(|error| error.field().map(str::to_owned))
    };
    assert_eq!(field("filter=age:eq:x").as_deref(), Some("age"));
    assert_eq!(field("filter=nope:eq:x").as_deref(), Some("nope"));
    assert_eq!(field("limit=x").as_deref(), Some("limit"));
    assert_eq!(field("sort=nope").as_deref(), Some("nope"));
}

#[test]
fn names_that_are_sql_are_refused_and_values_never_become_sql() {
    let hostile = [
        "id\" OR 1=1 --",
        "\"name\"",
        "name) OR (1=1",
        "name;DROP TABLE things",
        "t.name",
        "name COLLATE NOCASE",
        "rowid",
        "*",
        "",
    ];
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    for name in hostile {
        let encoded = encode(name);
        for text in [
            format!("filter={encoded}:eq:1"),
            format!("{encoded}=1"),
            format!("fields={encoded},{encoded}"),
            format!("sort=name,{encoded}"),
            format!("filter={}", encode(&json!({name: 1}).to_string())),
        ] {
            assert!(list(&text).is_err(), "{text} is accepted");
        }
    }
    let query = parsed(
        "filter=name:eq:HOSTILE&filter=name:like:HOSTILE&filter=body:in:HOSTILE,b&filter=meta:contains:HOSTILE",
    );
    for statement in [query.select(), query.count(), query.select_after(None, 5)] {
        assert!(!statement.sql.contains("HOSTILE"), "{}", statement.sql);
    }
}
