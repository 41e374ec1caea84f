//! Queries as callers write them: what they mean, and what is refused.

mod meaning;
mod references;
#[expect(dead_code, reason = "only the collection is used here")]
#[path = "../support/mod.rs"]
mod support;
mod wrong;

use std::sync::Arc;

use alyx_core::{Error, Value};
use alyx_query::{Filter, ListParams, Query, parse_filter_json, parse_query_json};
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

#[test]
fn the_query_keeps_its_collection() {
    let things = things();
    let params = ListParams::parse(&things, "").map_err(Box::new);
    assert!(params.is_ok_and(|params| Arc::ptr_eq(&params.query.collection, &things)));
}
