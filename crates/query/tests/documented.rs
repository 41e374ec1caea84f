//! The examples of `docs/queries.md`, run in SQL and in memory.

#[expect(dead_code, reason = "the collection here is the page's own")]
mod support;

use std::sync::Arc;

use alyx_core::{Row, Value};
use alyx_query::{ListParams, Query, insert};
use alyx_schema::Collection;
use support::Database;

/// The page's YAML block and the rows of its table.
fn tasks() -> (Arc<Collection>, Database) {
    let page = include_str!("../../../docs/queries.md");
    let yaml = page
        .split("```")
        .nth(1)
        .and_then(|block| block.strip_prefix("yaml"));
    let parsed = alyx_schema::parse(yaml.expect("the page has it"), "schema.yaml")
        .expect("the page's schema is right");
    let tasks = Arc::clone(parsed.schema.collection("tasks").expect("it is declared"));
    let database = Database::new(&tasks, true);
    let march_1 = Value::from("2026-03-01T00:00:00.000Z");
    let march_5 = Value::from("2026-03-05T00:00:00.000Z");
    let april_1 = Value::from("2026-04-01T00:00:00.000Z");
    for (title, priority, due, done, tags) in [
        ("Buy milk", 2, march_1, false, Value::from(r#"["home","shop"]"#)),
        ("Pay rent", 5, march_5, true, Value::from(r#"{"bank":"A","n":1}"#)),
        ("buy 50% off", 1, Value::Null, false, Value::from("[7,1.5,true]")),
        ("Call Zoë", 2, april_1, false, Value::Null),
    ] {
        let row = vec![
            Value::Null,
            Value::from(title),
            Value::Int(priority),
            due,
            Value::from(done),
            tags,
        ];
        database.run(&insert(&tasks, row));
    }
    (tasks, database)
}

fn query(tasks: &Arc<Collection>, text: &str) -> Query {
    match ListParams::parse(tasks, text) {
        Ok(params) => params.query,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn ids(rows: &[Row]) -> Vec<i64> {
    rows.iter().filter_map(|row| row[0].as_int()).collect()
}

#[test]
fn the_examples_find_what_the_page_says() {
    let (tasks, database) = tasks();
    let all = database.run(&query(&tasks, "").select());
    let check = |text: &str, expected: &[i64]| {
        let query = query(&tasks, text);
        assert_eq!(ids(&database.run(&query.select())), expected, "{text}");
        let matching: Vec<Row> = all
            .iter()
            .filter(|row| query.filter.matches(row))
            .cloned()
            .collect();
        assert_eq!(ids(&matching), expected, "{text} in memory");
    };
    check("done=true", &[2]);
    check("filter=priority:gte:2", &[1, 2, 4]);
    check(r#"filter={"priority":{"$gte":2}}"#, &[1, 2, 4]);
    check("done=false&filter=priority:eq:2&filter=title:like:buy%25", &[1]);
    check(
        r#"filter={"done": false, "priority": {"$gte": 2, "$lt": 5}}"#,
        &[1, 4],
    );
    check("filter=priority:eq:2", &[1, 4]);
    check("filter=priority:ne:2", &[2, 3]);
    check("filter=priority:gt:2", &[2]);
    check("filter=due:gte:2026-03-05", &[2, 4]);
    check("filter=due:lt:2026-03-05", &[1]);
    check("filter=priority:lte:1", &[3]);
    check("filter=title:like:buy%25", &[1, 3]);
    check("filter=title:like:%25zo\u{eb}", &[4]);
    check("filter=title:like:%25ZO\u{cb}", &[]);
    check("filter=title:contains:Pay", &[2]);
    check("filter=title:contains:50%25", &[3]);
    check("filter=title:ilike:buy%25", &[1, 3]);
    check("filter=title:startsWith:buy", &[3]);
    check("filter=title:endsWith:rent", &[2]);
    check("filter=priority:between:2,5", &[1, 2, 4]);
    check(r#"filter={"priority": {"$between": [2, 5]}}"#, &[1, 2, 4]);
    check("filter=due:isnull", &[3]);
    check(r#"filter={"due": {"$isnull": true}}"#, &[3]);
    check("filter=tags.bank:eq:A", &[2]);
    check(r#"filter={"tags.bank": "A"}"#, &[2]);
    check("tags.bank=A", &[2]);
    check("filter=tags.0:eq:home", &[1]);
    check(r#"filter={"tags.1": {"$gt": 1}}"#, &[3]);
    check("filter=tags.2:eq:true", &[3]);
    check("filter=tags.n:isnull", &[1, 3, 4]);
    check("filter=tags.bank:in:A,B", &[2]);
    check("filter=tags.0:ne:7", &[]);
    check("filter=priority:in:1,5", &[2, 3]);
    check("filter=priority:nin:1,5", &[1, 4]);
    check("filter=due:is_null", &[3]);
    check("filter=due:not_null", &[1, 2, 4]);
    check(r#"filter={"$and": [{"done": false}, {"priority": 2}]}"#, &[1, 4]);
    check(r#"filter={"$or": [{"done": true}, {"priority": 1}]}"#, &[2, 3]);
    check(r#"filter={"$not": {"priority": 2}}"#, &[2, 3]);
    check(r#"filter={"title": {"$not": {"$like": "buy%"}}}"#, &[2, 4]);
    check("filter=due:ne:2026-03-05", &[1, 4]);
    check(r#"filter={"$not": {"due": "2026-03-05"}}"#, &[1, 4]);
    check(
        r#"filter={"$or": [{"due": {"$ne": "2026-03-05"}}, {"due": null}]}"#,
        &[1, 3, 4],
    );
    check(r#"filter={"tags": {"$contains": "shop"}}"#, &[1]);
    check(r#"filter={"tags": {"$contains": 7}}"#, &[3]);
    check(r#"filter={"tags": {"$contains": "7"}}"#, &[]);
    check("filter=tags:contains:7", &[3]);
    check(r#"filter={"tags": {"$contains": "bank"}}"#, &[2]);
}

#[test]
fn the_orders_and_pages_are_those_of_the_page() {
    let (tasks, database) = tasks();
    let check = |text: &str, expected: &[i64]| {
        assert_eq!(
            ids(&database.run(&query(&tasks, text).select())),
            expected,
            "{text}"
        );
    };
    check("sort=-priority,title", &[2, 1, 4, 3]);
    check("sort=due", &[3, 1, 2, 4]);
    check("sort=-due", &[4, 2, 1, 3]);
    check("page=2&perPage=2", &[3, 4]);
    check("limit=2&offset=2", &[3, 4]);
    check("limit=0", &[]);
}
