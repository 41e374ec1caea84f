//! Statements over single documents, run on a real database.

mod support;

use std::sync::Arc;

use alyx_core::{Row, Statement, Value};
use alyx_query::{Aggregate, Figure, ListParams, Reach, Scope, delete, get, insert, insert_returns, update};
use alyx_schema::{Collection, Schema};
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

const SALES: &str = "
collections:
  sales:
    fields:
      id: {type: int, primary: true, default: auto}
      shop: {type: string, nullable: true, index: true}
      amount: {type: int, nullable: true}
      weight: {type: float, nullable: true}
      at: {type: timestamp}
      paid: {type: bool, default: false}
      day: {type: date, nullable: true}
";

struct Sales {
    schema: Schema,
    database: Database,
}

impl Sales {
    fn new() -> Self {
        let schema = alyx_schema::parse(SALES, "schema.yaml")
            .expect("the schema is right")
            .schema;
        let sales = schema.collection("sales").expect("declared");
        let database = Database::new(sales, true);
        let text = |text: &str| Value::from(text);
        for (shop, amount, weight, at) in [
            (
                text("a"),
                Value::Int(i64::MAX),
                Value::Float(1.5),
                "2025-12-29T00:30:00.000Z",
            ),
            (
                text("a"),
                Value::Int(i64::MAX),
                Value::Null,
                "2026-01-04T23:59:59.999Z",
            ),
            (
                text("b"),
                Value::Int(-7),
                Value::Float(0.5),
                "2026-01-05T00:00:00.000Z",
            ),
            (
                text("b"),
                Value::Null,
                Value::Float(2.0),
                "2026-03-01T10:20:30.400Z",
            ),
            (
                Value::Null,
                Value::Int(i64::MIN),
                Value::Float(1.0),
                "2026-03-01T10:50:00.000Z",
            ),
        ] {
            let row = vec![
                Value::Null,
                shop,
                amount,
                weight,
                Value::from(at),
                Value::from(false),
                Value::from(&at[..10]),
            ];
            database.run(&insert(sales, row));
        }
        Self { schema, database }
    }

    fn asked(&self, text: &str) -> alyx_core::Result<Aggregate> {
        let sales = self.schema.collection("sales").expect("declared");
        Aggregate::parse(Scope::new(&self.schema, sales, Reach::Caller), text)
    }

    /// Groups and figures as text.
    fn figures(&self, text: &str) -> Vec<String> {
        let asked = self.asked(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let rows = self.database.run(&asked.select());
        let shown = |value: &Value| match value {
            Value::Null => "null".to_owned(),
            Value::Int(int) => int.to_string(),
            Value::Float(float) => format!("{float:?}"),
            Value::Text(text) => text.as_ref().to_owned(),
            Value::Blob(_) => "blob".to_owned(),
        };
        let lines = rows.iter().map(|row| {
            let groups = row[..asked.groups.len()].iter().map(shown);
            let figures = asked.figures(row).expect("a row of its own");
            let figures = figures.iter().map(|figure| match figure {
                Figure::Whole(sum) => sum.to_string(),
                Figure::Value(value) => shown(value),
            });
            groups.chain(figures).collect::<Vec<_>>().join(" ")
        });
        lines.collect()
    }
}

#[test]
fn figures_are_exact_and_of_the_rows_that_pass() {
    let sales = Sales::new();
    let check = |text: &str, expected: &[&str]| assert_eq!(sales.figures(text), expected, "{text}");
    check("", &["5"]);
    check("select=count,count:amount,count:weight", &["5 4 4"]);
    check("select=sum:amount", &["9223372036854775799"]);
    check("select=sum:amount&shop=a", &["18446744073709551614"]);
    check("select=sum:amount&filter=shop:isnull", &["-9223372036854775808"]);
    check(
        "select=sum:amount,avg:amount,min:amount&shop=zz",
        &["null null null"],
    );
    check(
        "select=sum:weight,avg:weight,min:weight,max:weight",
        &["5.0 1.25 0.5 2.0"],
    );
    check("select=min:shop,max:at", &["a 2026-03-01T10:50:00.000Z"]);
    check("groupBy=shop", &["null 1", "a 2", "b 2"]);
    check("groupBy=shop&sort=-count,-shop", &["b 2", "a 2", "null 1"]);
    check(
        "groupBy=shop&select=sum:amount&sort=-sum:amount&limit=0",
        &["a 18446744073709551614"],
    );
    check("groupBy=shop&limit=1&offset=1", &["a 2", "b 2"]);
    check("groupBy=shop&filter=weight:gt:1", &["a 1", "b 1"]);
    check("groupBy=shop&search=A", &["a 2"]);
    check(
        "groupBy=at:hour&filter=at:gte:2026-02-01",
        &["2026-03-01T10:00:00.000Z 2"],
    );
    check(
        "groupBy=at:day&filter=at:lt:2026-02-01",
        &[
            "2025-12-29T00:00:00.000Z 1",
            "2026-01-04T00:00:00.000Z 1",
            "2026-01-05T00:00:00.000Z 1",
        ],
    );
    check(
        "groupBy=at:week",
        &[
            "2025-12-29T00:00:00.000Z 2",
            "2026-01-05T00:00:00.000Z 1",
            "2026-02-23T00:00:00.000Z 2",
        ],
    );
    check(
        "groupBy=at:month,shop",
        &[
            "2025-12-01T00:00:00.000Z a 1",
            "2026-01-01T00:00:00.000Z a 1",
            "2026-01-01T00:00:00.000Z b 1",
            "2026-03-01T00:00:00.000Z null 1",
            "2026-03-01T00:00:00.000Z b 1",
        ],
    );
    check(
        "groupBy=at:year",
        &["2025-01-01T00:00:00.000Z 1", "2026-01-01T00:00:00.000Z 4"],
    );
    check(
        "groupBy=day:week&filter=day:gte:2026-01-01",
        &["2025-12-29 1", "2026-01-05 1", "2026-02-23 2"],
    );
    check(
        "groupBy=day:month",
        &["2025-12-01 1", "2026-01-01 2", "2026-03-01 2"],
    );
    check("groupBy=day:year", &["2025-01-01 1", "2026-01-01 4"]);
    check(
        "groupBy=day:day&day=2026-03-01&select=min:day,count",
        &["2026-03-01 2026-03-01 2"],
    );
}

#[test]
fn what_is_wrong_with_a_question_about_figures_is_named() {
    let sales = Sales::new();
    let check = |text: &str, code: &str, words: &str| {
        let refused = sales.asked(text).expect_err(text);
        assert_eq!(refused.code(), code, "{text}: {refused}");
        assert!(refused.message().contains(words), "{text}: {refused}");
    };
    check("select=median:amount", "INVALID_QUERY", "`median` is no figure");
    check("select=sum", "INVALID_QUERY", "`sum` needs a field");
    check(
        "select=sum:shop",
        "INVALID_QUERY",
        "`shop` is string, of which there is no sum",
    );
    check("select=sum:amuont", "INVALID_QUERY", "did you mean `amount`?");
    check(
        "groupBy=shop:day",
        "INVALID_QUERY",
        "only times and dates fall into a day",
    );
    check(
        "groupBy=day:hour",
        "INVALID_QUERY",
        "only times fall into an hour",
    );
    check(
        "groupBy=at:decade",
        "INVALID_QUERY",
        "`decade` is no stretch of time",
    );
    check("groupBy=id,shop,amount,weight,at", "INVALID_QUERY", "more than 4");
    check(
        "sort=shop",
        "INVALID_QUERY",
        "neither in `groupBy` nor in `select`",
    );
    check("group=shop", "INVALID_QUERY", "neither a parameter nor a field");
    check("filter=shp:eq:1", "INVALID_FILTER", "did you mean `shop`?");
}

#[test]
fn a_page_after_a_cursor_reads_one_stretch_of_the_index() {
    let source = "
collections:
  notes:
    fields:
      id: {type: int, primary: true, default: auto}
      due: {type: timestamp, nullable: true, index: true}
      made: {type: timestamp, index: true}
";
    let schema = alyx_schema::parse(source, "schema.yaml")
        .expect("the schema is right")
        .schema;
    let notes = schema.collection("notes").expect("declared");
    let database = Database::new(notes, true);
    for sort in ["made", "-made", "due", "-due", "id", "-id"] {
        let mut params = ListParams::parse(notes, &format!("sort={sort}")).expect("sound");
        let key = params.query.sort.iter().map(|key| match key.field {
            0 => Value::Int(5),
            _ => Value::text("2026-01-01T00:00:00.000Z"),
        });
        params.after = Some(key.collect());
        let before_nulls = params.select_before_nulls();
        assert_eq!(before_nulls.is_some(), sort == "-due");
        assert!(before_nulls.is_none_or(|statement| !statement.sql.contains("UNION")));
        let statement = params.select();
        let explained = Statement::new(format!("EXPLAIN QUERY PLAN {}", statement.sql), statement.params);
        let plan: Vec<String> = database
            .run(&explained)
            .iter()
            .filter_map(|row| row[3].as_text().map(str::to_owned))
            .collect();
        let plan = plan.join("; ");
        assert!(plan.contains("SEARCH t USING"), "{sort}: {plan}");
        assert!(!plan.contains("SCAN t"), "{sort}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sort}: {plan}");
    }
}

/// A page begins right at its row, not at the first of those that share its time.
#[test]
fn a_page_after_a_cursor_skips_the_rows_that_share_its_key() {
    let source = "
collections:
  posts:
    fields:
      id: {type: string, primary: true}
      made: {type: timestamp, index: true}
";
    let schema = alyx_schema::parse(source, "schema.yaml")
        .expect("the schema is right")
        .schema;
    let posts = schema.collection("posts").expect("declared");
    let database = Database::new(posts, true);
    for (sort, sign) in [("made", '>'), ("-made", '<')] {
        let mut params = ListParams::parse(posts, &format!("sort={sort}")).expect("sound");
        params.after = Some(vec![Value::text("2026-01-01T00:00:00.000Z"), Value::text("m")]);
        let statement = params.select();
        let explained = Statement::new(format!("EXPLAIN QUERY PLAN {}", statement.sql), statement.params);
        let plan = database.run(&explained);
        let plan = plan[0][3].as_text().expect("a plan");
        assert!(plan.contains(&format!("(made,id){sign}(?,?)")), "{sort}: {plan}");
    }
}

const INDEXED: &str = "
collections:
  order-notes:
    search: [rank, body]
    fields:
      id: {type: string, primary: true}
      rank: {type: string, nullable: true}
      body: {type: text, nullable: true}
      rowid: {type: int, default: 0}
";

#[test]
fn the_full_text_index_follows_the_documents_and_takes_no_syntax() {
    let schema = alyx_schema::parse(INDEXED, "schema.yaml")
        .expect("the schema is right")
        .schema;
    let notes = schema.collection("order-notes").expect("declared");
    let database = Database::new(notes, true);
    let run = |sql: &str| database.run(&Statement::new(sql, Vec::new()));
    let id = |name: &str| Value::text(name);
    let note = |name: &str, rank: &str, body: Value| {
        database.run(&insert(
            notes,
            vec![id(name), Value::text(rank), body, Value::Int(0)],
        ));
    };
    note("before", "old", Value::text("There before the index"));
    run("CREATE TABLE _alyx_changes (seq INTEGER PRIMARY KEY, collection, op, id, old, new)");
    for sql in alyx_schema::triggers(notes) {
        run(&sql);
    }
    note(
        "a",
        "first",
        Value::text("The quick brown fox; \"quoted\" AND more"),
    );
    note("b", "second", Value::Null);
    note("c", "third", Value::text("Zoë rénds brownies"));
    let found = |text: &str| -> Vec<String> {
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let params = ListParams::parse(notes, &format!("search={escaped}&sort=id")).expect("sound");
        let rows = database.run(&params.query.select());
        let count = database.run(&params.query.count());
        assert_eq!(count[0][0], Value::Int(i64::try_from(rows.len()).expect("few")));
        rows.iter()
            .filter_map(|row| row[0].as_text().map(str::to_owned))
            .collect()
    };
    assert_eq!(found("brown"), ["a", "c"]);
    assert_eq!(found("BROWN qui"), ["a"]);
    assert_eq!(found("zoe rends"), ["c"]);
    assert_eq!(found("second"), ["b"]);
    assert_eq!(found("index"), ["before"]);
    assert_eq!(found("rown"), [""; 0]);
    assert_eq!(found("\"quoted\""), ["a"]);
    for hostile in [
        "fox OR second",
        "NOT fox",
        "c0:fox",
        "fox NEAR quick",
        "rank : first",
        "%",
        "\"",
        "*",
        "^fox^",
        "(fox",
    ] {
        let params =
            ListParams::parse(notes, &format!("search={}", hostile.replace('%', "%25"))).expect(hostile);
        database.run(&params.query.select());
    }
    assert_eq!(found("fox OR second"), [""; 0]);
    assert_eq!(found("quick AND"), ["a"]);

    database.run(&update(notes, id("b"), vec![(2, Value::text("brown too"))]));
    database.run(&update(notes, id("a"), vec![(3, Value::Int(7))]));
    database.run(&update(notes, id("c"), vec![(2, Value::text("nothing"))]));
    assert_eq!(found("brown"), ["a", "b"]);
    database.run(&delete(notes, id("a")));
    assert_eq!(found("brown"), ["b"]);
    assert_eq!(found("first"), [""; 0]);
    for sql in alyx_schema::drop_triggers(notes)
        .into_iter()
        .chain(alyx_schema::triggers(notes))
    {
        run(&sql);
    }
    assert_eq!(found("brown"), ["b"]);
    assert_eq!(found("nothing"), ["c"]);
}
