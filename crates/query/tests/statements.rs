//! Statements over single documents, run on a real database.

mod support;

use std::sync::Arc;

use alyx_core::{Row, Value};
use alyx_query::{delete, get, insert, insert_returns, update};
use alyx_schema::Collection;
use support::{Database, things};

fn row(collection: &Collection, name: &str) -> Row {
    let mut row = vec![Value::Null; collection.fields.len()];
    row[1] = Value::from(name);
    row[10] = Value::Int(3);
    row
}

#[test]
fn a_document_is_made_read_changed_and_deleted() {
    let things = things();
    let database = Database::new(&things, true);
    assert!(insert_returns(&things));
    let mut stored = database.run(&insert(&things, row(&things, "a"))).remove(0);
    assert_eq!(stored[0], Value::Int(1));
    assert_eq!(stored[1..], row(&things, "a")[1..]);
    assert_eq!(database.run(&get(&things, Value::Int(1))), [stored.clone()]);

    stored[1] = Value::from("b");
    stored[3] = Value::Int(9);
    let changes = vec![(1, Value::from("b")), (3, Value::Int(9))];
    assert_eq!(
        database.run(&update(&things, Value::Int(1), changes.clone())),
        [stored.clone()]
    );
    assert_eq!(
        database.run(&update(&things, Value::Int(1), Vec::new())),
        [stored]
    );
    assert!(database.run(&update(&things, Value::Int(2), changes)).is_empty());

    database.run(&delete(&things, Value::Int(1)));
    assert!(database.run(&get(&things, Value::Int(1))).is_empty());
}

#[test]
fn a_given_number_is_kept_and_a_taken_one_refused() {
    let things = things();
    let database = Database::new(&things, true);
    let mut given = row(&things, "a");
    given[0] = Value::Int(7);
    assert_eq!(database.run(&insert(&things, given.clone())), [given.clone()]);
    assert!(database.try_run(&insert(&things, given)).is_err());
    assert_eq!(
        database.run(&insert(&things, row(&things, "b")))[0][0],
        Value::Int(8)
    );
}

fn collection(yaml: &str, name: &str) -> Arc<Collection> {
    let parsed = alyx_schema::parse(yaml, "schema.yaml").expect("the schema is right");
    Arc::clone(parsed.schema.collection(name).expect("it is declared"))
}

#[test]
fn a_collection_of_nothing_but_its_number_works() {
    let tickets = collection(
        "collections: {tickets: {fields: {id: {type: int, primary: true, default: auto}}}}",
        "tickets",
    );
    let database = Database::new(&tickets, true);
    assert_eq!(
        database.run(&insert(&tickets, vec![Value::Null])),
        [[Value::Int(1)]]
    );
    assert_eq!(
        database.run(&insert(&tickets, vec![Value::Null])),
        [[Value::Int(2)]]
    );
}

#[test]
fn keywords_and_the_names_that_the_sql_itself_uses_are_names_like_any_other() {
    let yaml = "collections: {t: {fields: {e: {type: string, primary: true}, key: {type: json, nullable: true}, \
                value: {type: int, nullable: true}, type: {type: string, nullable: true}, select: {type: int, nullable: true}}}}";
    let t = collection(yaml, "t");
    let database = Database::new(&t, true);
    assert!(!insert_returns(&t));
    let stored = vec![
        Value::from("x"),
        Value::from(r#"["value",1]"#),
        Value::Int(2),
        Value::from("b"),
        Value::Int(4),
    ];
    database.run(&insert(&t, stored.clone()));
    for filter in [
        "filter=key:contains:value",
        "filter=key:contains:1",
        "value=2",
        "type=b",
        "select=4",
        "e=x",
    ] {
        let query = match alyx_query::ListParams::parse(&t, filter) {
            Ok(params) => params.query,
            Err(error) => panic!("{filter}: {error}"),
        };
        assert_eq!(
            database.run(&query.select()),
            std::slice::from_ref(&stored),
            "{filter}"
        );
        assert!(query.filter.matches(&stored), "{filter}");
    }
}

#[test]
fn a_page_carries_the_fields_that_are_asked_for_and_those_that_place_it() {
    let things = things();
    let database = Database::new(&things, true);
    let mut stored = row(&things, "a");
    stored[3] = Value::Int(5);
    stored[2] = Value::from("body");
    database.run(&insert(&things, stored));
    let query = match alyx_query::ListParams::parse(&things, "fields=name&sort=-rank") {
        Ok(params) => params.query,
        Err(error) => panic!("{error}"),
    };
    let mut expected = row(&things, "a");
    expected[0] = Value::Int(1);
    assert_eq!(database.run(&query.select()), [expected]);
}

#[test]
fn lists_of_many_lengths_share_few_texts() {
    let things = things();
    let text_of = |length: i64| {
        let values: Vec<String> = (0..length).map(|value| value.to_string()).collect();
        let query = alyx_query::ListParams::parse(&things, &format!("filter=age:in:{}", values.join(",")));
        query.map(|params| params.query.select().sql).map_err(Box::new)
    };
    let texts: std::collections::HashSet<_> = (2..=500).filter_map(|length| text_of(length).ok()).collect();
    assert_eq!(texts.len(), 9);
}
