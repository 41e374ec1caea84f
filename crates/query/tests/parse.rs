//! Queries as callers write them: what they mean, and what is refused.

#[expect(dead_code, reason = "only the collection is used here")]
mod support;

use std::sync::Arc;

use alyx_core::{Error, Value};
use alyx_query::{Filter, ListParams, Query, Reach, Scope, parse_filter_json, parse_query_json};
use alyx_schema::Collection;
use serde_json::json;
use support::things;

fn list(text: &str) -> Result<ListParams, Box<Error>> {
    ListParams::parse(&things(), text).map_err(Box::new)
}

fn parsed(text: &str) -> Query {
    match list(text) {
        Ok(params) => params.query,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn filter_of(json: &serde_json::Value) -> Filter {
    parse_filter_json(&things(), json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn sort_of(collection: &Collection, query: &Query) -> String {
    let keys = query.sort.iter().map(|key| {
        let sign = if key.descending { "-" } else { "" };
        format!("{sign}{}", collection.fields[key.field].name)
    });
    keys.collect::<Vec<_>>().join(",")
}

#[test]
fn every_spelling_of_a_condition_means_the_same() {
    let check = |text: &str, json: serde_json::Value| {
        assert_eq!(parsed(text).filter, filter_of(&json), "{text} and {json}");
    };
    check("filter=name:eq:a:b", json!({"name": "a:b"}));
    check("name=a:b", json!({"name": {"$eq": "a:b"}}));
    check("name=a%26b+c", json!({"name": "a&b c"}));
    check("filter=name:ne:x", json!({"name": {"$ne": "x"}}));
    check("filter=name:ne:x", json!({"$not": {"name": "x"}}));
    check("filter=age:gt:1", json!({"age": {"$gt": 1}}));
    check(
        "filter=age:gte:1&filter=age:lt:9",
        json!({"age": {"$gte": 1, "$lt": 9}}),
    );
    check(
        "filter=age:gte:1&age=7",
        json!({"$and": [{"age": 7}, {"age": {"$gte": 1}}]}),
    );
    check("filter=age:lte:-3", json!({"age": {"$lte": -3}}));
    check("filter=done:eq:true", json!({"done": true}));
    check("filter=price:eq:1.5", json!({"price": 1.5}));
    check("filter=price:eq:2", json!({"price": 2}));
    check("filter=name:like:50%25", json!({"name": {"$like": "50%"}}));
    check("filter=name:like:50%", json!({"name": {"$like": "50%"}}));
    check("filter=name:contains:a,b", json!({"name": {"$contains": "a,b"}}));
    check("filter=meta:contains:a", json!({"meta": {"$contains": "a"}}));
    check(
        "filter=meta:contains:5",
        json!({"$or": [{"meta": {"$contains": "5"}}, {"meta": {"$contains": 5.0}}]}),
    );
    check(
        "filter=meta:contains:true",
        json!({"$or": [{"meta": {"$contains": "true"}}, {"meta": {"$contains": true}}]}),
    );
    check("filter=age:in:3,1,1", json!({"age": {"$in": [1, 3]}}));
    check("filter=age:in:3", json!({"age": 3}));
    check("filter=age:in:3,1", json!({"$or": [{"age": 3}, {"age": 1}]}));
    check("filter=age:in:", json!({"age": {"$in": []}}));
    check("filter=age:nin:3,1", json!({"age": {"$nin": [1, 3]}}));
    check("filter=age:nin:3,1", json!({"age": {"$not": {"$in": [1, 3]}}}));
    check("filter=age:is_null", json!({"age": null}));
    check("filter=age:isnull", json!({"age": {"$null": true}}));
    check("filter=age:is_null:true", json!({"age": {"$exists": false}}));
    check("filter=age:is_null:false", json!({"age": {"$ne": null}}));
    check("filter=age:not_null", json!({"age": {"$exists": true}}));
    check("filter=age:notnull", json!({"age": {"$null": false}}));
    check(
        "filter=%7B%22age%22:%7B%22$gt%22:1%7D%7D",
        json!({"age": {"$gt": 1}}),
    );
    check("filter=", json!({}));
    check("", json!({"$and": [{}, {}]}));
}

#[test]
fn selections_are_asked_for_one_value_or_for_the_whole() {
    let check = |text: &str, json: serde_json::Value| {
        assert_eq!(parsed(text).filter, filter_of(&json), "{text} and {json}");
    };
    check("pick=a", json!({"pick": "a"}));
    check(
        "filter=pick:eq:%5B%22a%22,%20%22b%22%5D",
        json!({"pick": {"$eq": ["a", "b"]}}),
    );
    check("filter=pick:in:b,a", json!({"pick": {"$in": ["a", "b"]}}));
    check("filter=pick:contains:a", json!({"pick": {"$contains": "a"}}));
    let things = things();
    let pick = things.field("pick").expect("declared").0;
    let found = |json: serde_json::Value, stored: &str| {
        let mut row = vec![Value::Null; things.fields.len()];
        row[pick] = stored.into();
        filter_of(&json).matches(&row)
    };
    for (stored, expected) in [
        ("a", true),
        (r#"["a"]"#, true),
        (r#"["ab","a"]"#, true),
        ("ab", false),
        ("A", false),
        (r#"["ab","b"]"#, false),
        ("[]", false),
    ] {
        assert_eq!(
            found(json!({"pick": {"$contains": "a"}}), stored),
            expected,
            "{stored}"
        );
    }
    assert!(found(json!({"pick": {"$eq": ["a", "b"]}}), r#"["a","b"]"#));
    assert!(!found(json!({"pick": {"$eq": ["b", "a"]}}), r#"["a","b"]"#));
}

#[test]
fn a_list_with_null_asks_for_null_too() {
    assert_eq!(
        filter_of(&json!({"age": {"$in": [1, null]}})),
        filter_of(&json!({"$or": [{"age": 1}, {"age": null}]}))
    );
    assert_eq!(
        filter_of(&json!({"age": {"$nin": [1, null]}})),
        filter_of(&json!({"age": {"$ne": 1, "$exists": true}}))
    );
}

#[test]
fn pages_and_limits() {
    let check = |text: &str, limit: u32, offset: u64| {
        let query = parsed(text);
        assert_eq!((query.limit, query.offset), (limit, offset), "{text}");
    };
    check("", 100, 0);
    check("limit=5&offset=7", 5, 7);
    check("limit=0", 0, 0);
    check("limit=5000", 1000, 0);
    check("limit=99999999999999999999999", 1000, 0);
    check("page=3&perPage=20", 20, 40);
    check("page=3&perPage=20&limit=7&offset=9", 20, 40);
    check("page=2&limit=7&offset=9", 7, 7);
    check("perPage=20&offset=9", 20, 9);
    check("page=1", 100, 0);
    assert!(list("").is_ok_and(|params| params.count));
    assert!(list("count=false").is_ok_and(|params| !params.count));
}

#[test]
fn orders_end_with_the_primary_key() {
    let things = things();
    let check = |text: &str, expected: &str| assert_eq!(sort_of(&things, &parsed(text)), expected, "{text}");
    check("", "id");
    check("sort=name", "name,id");
    check("sort=-age,name", "-age,name,id");
    check("sort=name,-age", "name,-age,-id");
    check("sort=name&sort=-age", "name,-age,-id");
    check("sort=+name, -age ,name", "name,-age,-id");
    check("sort=-id,name", "-id");
    check("sort=", "id");
}

#[test]
fn fields_keep_their_order_of_declaration() {
    assert_eq!(parsed("fields=age,name&fields=name").fields, Some(vec![1, 3]));
    assert_eq!(parsed("fields=").fields, None);
}

#[test]
fn json_queries() {
    let things = things();
    let read = |json: serde_json::Value| {
        parse_query_json(&things, &json).unwrap_or_else(|error| panic!("{json}: {error}"))
    };
    let query = read(
        json!({"filter": {"age": 1}, "sort": ["-age", "name"], "limit": 2000, "offset": 3, "fields": ["name"]}),
    );
    assert_eq!(query.filter, filter_of(&json!({"age": 1})));
    assert_eq!(sort_of(&things, &query), "-age,name,id");
    assert_eq!((query.limit, query.offset), (1000, 3));
    assert_eq!(query.fields, Some(vec![0, 1]));
    let query = read(json!({"sort": "-age", "filter": null}));
    assert_eq!(sort_of(&things, &query), "-age,-id");
    assert_eq!((query.limit, query.offset, query.fields), (100, 0, None));
    let refuse = |json: serde_json::Value, code: &str, words: &str| match parse_query_json(&things, &json) {
        Ok(query) => panic!("{json} is accepted: {query:?}"),
        Err(error) => {
            assert_eq!(error.code(), code, "{json}: {error}");
            assert!(error.message().contains(words), "{json}: {error}");
        }
    };
    refuse(json!([]), "INVALID_QUERY", "JSON object");
    refuse(json!({"limits": 1}), "INVALID_QUERY", "did you mean `limit`?");
    refuse(json!({"limit": -1}), "INVALID_QUERY", "whole number");
    refuse(json!({"limit": "1"}), "INVALID_QUERY", "whole number");
    refuse(json!({"offset": 1.5}), "INVALID_QUERY", "whole number");
    refuse(json!({"sort": 1}), "INVALID_QUERY", "`sort`");
    refuse(json!({"sort": "nme"}), "INVALID_QUERY", "did you mean `name`?");
    refuse(json!({"fields": "name"}), "INVALID_QUERY", "list");
    refuse(
        json!({"fields": ["secret"]}),
        "INVALID_QUERY",
        "`secret` is not a field",
    );
    refuse(
        json!({"filter": {"secret": 1}}),
        "INVALID_FILTER",
        "`secret` is not a field",
    );
    refuse(json!({"filter": []}), "INVALID_FILTER", "JSON object");
}

/// The query string is refused with that code and with words that name what is wrong.
fn refused(text: &str, code: &str, words: &[&str]) {
    match list(text) {
        Ok(params) => panic!("{text} is accepted: {params:?}"),
        Err(error) => {
            assert_eq!(error.code(), code, "{text}: {error}");
            assert_eq!(error.kind().http_status(), 400);
            for word in words {
                assert!(
                    error.message().contains(word),
                    "{text}: {error} does not say {word}"
                );
            }
        }
    }
}

#[test]
fn newer_operators_and_paths_have_the_same_spellings() {
    let check = |text: &str, json: serde_json::Value| {
        assert_eq!(parsed(text).filter, filter_of(&json), "{text} and {json}");
    };
    check("filter=name:ilike:a%25", json!({"name": {"$ilike": "a%"}}));
    check("filter=name:ilike:a%25", json!({"name": {"$like": "a%"}}));
    check(
        "filter=name:startsWith:a,b",
        json!({"name": {"$startsWith": "a,b"}}),
    );
    check(
        "filter=name:startsWith:a",
        json!({"name": {"$gte": "a", "$lt": "b"}}),
    );
    check("filter=name:endsWith:a:b", json!({"name": {"$endsWith": "a:b"}}));
    check("filter=age:between:1,5", json!({"age": {"$between": [1, 5]}}));
    check("filter=age:between:1,5", json!({"age": {"$gte": 1, "$lte": 5}}));
    check("filter=age:isnull:true", json!({"age": {"$isnull": true}}));
    check("filter=meta.a.0:eq:5", json!({"meta.a.0": 5}));
    check("filter=meta.a:eq:%225%22", json!({"meta.a": "5"}));
    check("meta.a=5x", json!({"meta.a": {"$eq": "5x"}}));
    check("filter=meta.a:gte:1.50", json!({"meta.a": {"$gte": 1.5}}));
    check("filter=meta.a:in:x,y", json!({"meta.a": {"$in": ["y", "x"]}}));
    check("filter=meta.a:isnull", json!({"meta.a": null}));
    check("filter=meta.a:notnull", json!({"meta.a": {"$ne": null}}));
    check("filter=meta.a:contains:x", json!({"meta.a": {"$contains": "x"}}));
    check(
        "filter=meta.a:between:1,2",
        json!({"meta.a": {"$gte": 1, "$lte": 2}}),
    );
    check(
        "filter=meta.a:endsWith:x",
        json!({"$not": {"meta.a": {"$not": {"$endsWith": "x"}}}}),
    );
}

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

#[test]
fn queries_that_mean_the_same_have_one_canonical_form_and_others_do_not() {
    let canonical = |text: &str| parsed(text).canonical();
    let same = [
        ("age=1&name=a", "name=a&age=1"),
        ("age=1&age=1", "filter=age:eq:1"),
        ("filter=age:in:2,1", "filter={\"$or\":[{\"age\":1},{\"age\":2}]}"),
        ("filter={\"$not\":{\"$not\":{\"age\":1}}}", "age=1"),
        ("filter={\"$not\":{\"age\":{\"$lt\":1}}}", "filter=age:gte:1"),
        (
            "filter={\"$not\":{\"$or\":[{\"age\":1},{\"name\":\"a\"}]}}",
            "filter=age:ne:1&filter=name:ne:a",
        ),
        ("filter=price:eq:-0.0", "price=0"),
        ("sort=id", ""),
        ("sort=-name", "sort=-name,-id"),
        (
            "fields=id,name,body,age,price,done,at,meta,data,owner,rank,mail,site,day,html,file,code,pick",
            "",
        ),
        ("page=2&perPage=10", "limit=10&offset=10"),
    ];
    for (a, b) in same {
        assert_eq!(canonical(a), canonical(b), "{a} and {b}");
    }
    let distinct = [
        "",
        "age=1",
        "age=2",
        "name=1",
        "body=1",
        "filter=age:ne:1",
        "filter=age:gt:1",
        "filter=age:in:1,2",
        "filter=age:in:1,3",
        "filter=age:is_null",
        "filter=name:like:a",
        "filter=name:contains:a",
        "filter=meta:contains:a",
        "sort=age",
        "sort=-age",
        "sort=-id",
        "limit=5",
        "offset=5",
        "fields=name",
        "fields=age",
        "name=ab",
        "name=a&body=b",
        "filter={\"$or\":[{\"name\":\"a\"},{\"body\":\"b\"}]}",
    ];
    for (i, a) in distinct.iter().enumerate() {
        for b in &distinct[..i] {
            assert_ne!(canonical(a), canonical(b), "{a} and {b}");
        }
    }
}

#[test]
fn an_equality_index_gets_the_conjunct_with_the_fewest_values() {
    let things = things();
    let check = |text: &str, expected: Option<(&str, usize)>| {
        let found = alyx_query::equality_keys(&parsed(text).filter);
        let found = found.map(|(field, values)| (things.fields[field].name.clone(), values.len()));
        assert_eq!(
            found,
            expected.map(|(name, count)| (name.to_owned(), count)),
            "{text}"
        );
    };
    check("", None);
    check("age=1", Some(("age", 1)));
    check("filter=age:in:1,2&name=a&filter=price:gt:1", Some(("name", 1)));
    check("filter=age:in:1,2", Some(("age", 2)));
    check("filter=age:ne:1", None);
    check("filter={\"$or\":[{\"age\":1},{\"name\":\"a\"}]}", None);
}

#[test]
fn the_query_keeps_its_collection() {
    let things = things();
    let params = ListParams::parse(&things, "").map_err(Box::new);
    assert!(params.is_ok_and(|params| Arc::ptr_eq(&params.query.collection, &things)));
}

const RELATED: &str = "
collections:
  teams:
    fields:
      name: {type: string}
  authors:
    rules: {read: false}
    fields:
      name: {type: string}
  posts:
    fields:
      title: {type: string}
      team_id: {type: uuid, nullable: true, references: teams.id}
      parent: {type: uuid, nullable: true, references: posts.id}
      author: {type: uuid, nullable: true, references: authors.id}
";

fn related(text: &str, reach: Reach) -> Result<ListParams, Box<Error>> {
    let parsed = alyx_schema::parse(RELATED, "schema.yaml").expect("the schema is right");
    let posts = parsed.schema.collection("posts").expect("declared");
    ListParams::parse(Scope::new(&parsed.schema, posts, reach), text).map_err(Box::new)
}

#[test]
fn references_are_followed_as_far_as_the_caller_may_read() {
    let check = |text: &str, code: &str, words: &str| {
        let refused = related(text, Reach::Caller).expect_err(text);
        assert_eq!(refused.code(), code, "{text}: {refused}");
        assert!(refused.message().contains(words), "{text}: {refused}");
    };
    check("filter=author.name:eq:a", "INVALID_FILTER", "may not be read");
    check(
        "expand=author",
        "FORBIDDEN",
        "does not let callers read documents of `authors`",
    );
    check("expand=parent.author", "FORBIDDEN", "`authors`");
    check(
        "expand=title",
        "INVALID_QUERY",
        "what can be expanded: team_id, parent, author",
    );
    check(
        "expand=parent.parent.parent.parent.parent",
        "INVALID_QUERY",
        "more than 4",
    );
    check(
        "filter=parent.parent.parent.parent.parent.title:eq:a",
        "INVALID_FILTER",
        "more than 4",
    );
    check(
        "filter=parent.titel:eq:a",
        "INVALID_FILTER",
        "did you mean `title`?",
    );
    for text in [
        "filter=author.name:eq:a",
        "expand=author",
        "filter=team.name:eq:a",
        "expand=team,parent.team_id,parent.parent",
    ] {
        related(text, Reach::Function).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let expand = related("expand=parent.team,team_id,team&fields=title", Reach::Caller).expect("sound");
    assert_eq!(expand.expand.len(), 2);
    assert_eq!(expand.expand[0].inner.len(), 1);
    let names = expand.query.fields.expect("some").into_iter();
    let names: Vec<_> = names
        .map(|field| expand.query.collection.fields[field].name.clone())
        .collect();
    assert_eq!(names, ["title", "team_id", "parent"]);
    let alone = parse_query_json(
        &expand.query.collection,
        &json!({"filter": {"parent.title": "a"}}),
    );
    let alone = alone.expect_err("nothing is known of other collections");
    assert!(
        alone
            .message()
            .contains("only documents of this collection are looked at"),
        "{alone}"
    );
}
