//! Filters and orders mean the same in SQL and in memory: random rows, random filters, a real database.

mod support;

use std::sync::Arc;

use alyx_core::{Row, Statement, Value};
use alyx_query::{CompareOp, Filter, JsonNeedle, JsonPath, PathTest, Query, SortKey, Through, insert};
use alyx_schema::{Collection, FieldType};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};
use support::Database;

/// Filters that are compared, in each of the two kinds of table.
const FILTERS: u32 = 50_000;
const FILTERS_PER_TABLE: u32 = 50;
/// Orders that are walked.
const ORDERS: u32 = 1_000;
const ORDERS_PER_TABLE: u32 = 10;

/// Stored text holds no NUL: the product refuses it, and the driver would cut it off when it reads it back.
fn stored() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('\0', ""))
}

fn text() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "A",
        "b",
        "ab",
        "%",
        "_",
        "ä",
        "Ä",
        "\u{1F600}",
        "\u{FFFE}",
        "\u{FFFD}",
        "\0",
        "z",
        "Z",
        "[",
        "'",
    ];
    prop_oneof![
        9 => vec(select(pieces.to_vec()), 0..6).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    let pieces = ["a", "A", "b", "%", "%", "_", "ä", "\u{1F600}", "\u{FFFD}", "\0"];
    vec(select(pieces.to_vec()), 0..7).prop_map(|pieces| pieces.concat())
}

fn int() -> impl Strategy<Value = i64> {
    let edges = [
        0,
        1,
        -1,
        2,
        i64::MAX,
        i64::MAX - 1,
        i64::MIN,
        1 << 53,
        (1 << 53) + 1,
        -(1 << 53) - 1,
    ];
    prop_oneof![3 => select(edges.to_vec()), 1 => -5..5_i64]
}

fn float() -> impl Strategy<Value = f64> {
    let edges = [
        0.0,
        -0.0,
        1.0,
        1.5,
        0.1,
        0.3,
        0.1 + 0.2,
        1e308,
        -1e308,
        5e-324,
        9_007_199_254_740_992.0,
        9_007_199_254_740_994.0,
        9_223_372_036_854_775_808.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    prop_oneof![3 => select(edges.to_vec()), 1 => any::<f64>().prop_filter("never stored", |float| !float.is_nan())]
}

/// Values in JSON, apart by white space.
const SCALARS: &str = r#"
    "a" "ab" "\u0061" "\ud83d\ude00" "\ud800" "a\u0000b" "a\\b" "" true false null [1] ["a"] {"a":1}
    1 1.0 1.50 15e-1 -0 0.0 0e5 1e-400 1e400 100 1e2 0.1 1e308 5e-324 4e-324 9007199254740993 9223372036854775807
    -9223372036854775808 9223372036854775808 0.30000000000000004 0.30000000000000002
"#;

/// What is no JSON, or only nearly.
const BROKEN: &[&str] = &[
    "",
    "a",
    "[1",
    "[1]]",
    "[01]",
    "[+1]",
    "[.5]",
    "[1.]",
    "{a:1}",
    "['a']",
    "[1,]",
    "{\"a\":1,}",
    "nul",
    "-",
    "--1",
    "[\"\\x41\"]",
    "[\"\\q\"]",
    "[\"a\tb\"]",
    "\"a\tb\"",
    "{\"a\tb\":1,\"a\":1}",
    "[NaN]",
    "[Infinity]",
    " [1] ",
    "\u{a0}[1]",
    "\u{feff}[1]",
    "[\u{c}1]",
    "/**/[1]",
    "[1]//",
    "{\"a\":1,\"a\":2}",
    "{\"\\u0061\":1}",
    "[0x1]",
];

fn scalar() -> impl Strategy<Value = &'static str> {
    select(SCALARS.split_whitespace().collect::<Vec<_>>())
}

fn nested() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => scalar().prop_map(str::to_owned),
        1 => number(),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("[ {a},{b}]")),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("{{\"a\":{a},\"b\":{b}}}")),
    ]
}

/// JSON as the product stores it, and what only raw SQL can store.
fn json() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => vec(scalar(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        2 => vec((select(&["a", "b", "ab", "\\u0061", "\\ud800", ""][..]), scalar()), 0..3).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        }),
        3 => vec((select(&["a", "b", "ab", "\\u00e4", "ä", "0"][..]), nested()), 0..4).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
            format!(" {{{}}}", members.join(" , "))
        }),
        2 => scalar().prop_map(str::to_owned),
        2 => select(BROKEN).prop_map(str::to_owned),
        1 => any::<f64>().prop_filter("no JSON", |float| float.is_finite()).prop_map(|float| format!("[{float:?}]")),
        1 => vec(select(&["[", "]", "{", "}", ",", ":", "\"", "a", "1", "\\", "u0061", " ", "\n", "e", ".", "-"][..]), 0..8)
            .prop_map(|pieces| pieces.concat()),
    ]
}

fn json_path() -> impl Strategy<Value = JsonPath> {
    let step = select(&["a", "b", "ab", "0", "1", "ä"][..]);
    vec(step, 1..3).prop_map(|steps| JsonPath::parse(&steps.join(".")).expect("a sound path"))
}

/// Numbers as a caller's JSON spells them: what serde writes.
fn number() -> impl Strategy<Value = String> {
    let spelled = [
        "0",
        "1",
        "1.5",
        "100",
        "0.1",
        "9007199254740993",
        "9007199254740992",
        "9223372036854775807",
        "9223372036854775806",
        "-9223372036854775808",
        "9223372036854775808",
        "0.30000000000000004",
        "0.3",
        "1e+308",
        "1.7976931348623157e308",
        "5e-324",
        "1e-300",
        "0.01",
    ];
    prop_oneof![
        4 => select(spelled.to_vec()).prop_map(str::to_owned),
        1 => any::<f64>().prop_filter("no JSON", |float| float.is_finite()).prop_map(|float| format!("{float:?}")),
        1 => int().prop_map(|int| int.to_string()),
    ]
}

fn path_test() -> impl Strategy<Value = PathTest> {
    let ops = select(vec![
        CompareOp::Eq,
        CompareOp::Ne,
        CompareOp::Gt,
        CompareOp::Gte,
        CompareOp::Lt,
        CompareOp::Lte,
    ]);
    let words = || select(&["", "a", "ab", "b", "\u{1F600}", "a\\b", "z", "1", "true"][..]);
    prop_oneof![
        1 => Just(PathTest::Exists),
        1 => any::<bool>().prop_map(PathTest::Bool),
        4 => (ops.clone(), number()).prop_map(|(op, number)| PathTest::Number { op, number: number.into() }),
        3 => (ops, words()).prop_map(|(op, text)| PathTest::Text { op, text: text.into() }),
        1 => vec(words(), 1..4).prop_map(|mut texts| {
            texts.sort_unstable();
            texts.dedup();
            PathTest::TextIn(texts.into_iter().map(Arc::from).collect())
        }),
        1 => pattern().prop_map(|pattern| PathTest::Like(pattern.into())),
        1 => select(&["a", "b", "ab", "\u{1F600}"][..]).prop_map(|end| PathTest::EndsWith(end.into())),
        2 => needle().prop_map(PathTest::Contains),
    ]
}

fn needle() -> impl Strategy<Value = JsonNeedle> {
    let texts = ["a", "b", "ab", "", "a\0b", "\u{1F600}", "\\", "1", "true"];
    let numbers = [
        "0",
        "1",
        "1.5",
        "100",
        "0.1",
        "9007199254740993",
        "9007199254740992",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "0.30000000000000004",
        "1e308",
        "5e-324",
        "0.01",
    ];
    prop_oneof![
        3 => select(texts.to_vec()).prop_map(|text| JsonNeedle::Text(text.into())),
        4 => select(numbers.to_vec()).prop_map(|number| JsonNeedle::Number(number.into())),
        1 => any::<f64>().prop_filter("no JSON", |float| float.is_finite()).prop_map(|float| JsonNeedle::Number(format!("{float:?}").into())),
        1 => any::<bool>().prop_map(JsonNeedle::Bool),
    ]
}

/// A value of the field's storage class.
fn value(kind: FieldType) -> BoxedStrategy<Value> {
    match kind {
        FieldType::Int => int().prop_map(Value::Int).boxed(),
        FieldType::Bool => any::<bool>().prop_map(Value::from).boxed(),
        FieldType::Float => float().prop_map(Value::Float).boxed(),
        FieldType::Json => json().prop_map(Value::from).boxed(),
        FieldType::Blob => blob().boxed(),
        FieldType::Uuid | FieldType::String | FieldType::Text | FieldType::Timestamp => {
            stored().prop_map(Value::from).boxed()
        }
    }
}

fn blob() -> impl Strategy<Value = Value> {
    let bytes = [
        0x00, b'a', b'A', b'b', 0x80, 0xBF, 0xC3, 0xA4, 0xC0, 0xE0, 0xED, 0xA0, 0xF0, 0x9F, 0xFF,
    ];
    vec(select(bytes.to_vec()), 0..6).prop_map(|bytes| Value::Blob(bytes.into()))
}

fn row(collection: &Collection, strict: bool) -> BoxedStrategy<Row> {
    let fields = collection.fields.iter().map(|field| {
        let fitting = value(field.kind);
        if field.primary {
            Just(Value::Null).boxed()
        } else if !field.nullable {
            (0..3_i64).prop_map(Value::Int).boxed()
        } else if strict {
            prop_oneof![1 => Just(Value::Null), 5 => fitting].boxed()
        } else {
            prop_oneof![
                1 => Just(Value::Null),
                3 => fitting,
                1 => int().prop_map(Value::Int),
                1 => float().prop_map(Value::Float),
                1 => stored().prop_map(Value::from),
                1 => blob(),
            ]
            .boxed()
        }
    });
    fields.collect::<Vec<_>>().boxed()
}

fn filter(collection: &Collection) -> BoxedStrategy<Filter> {
    let comparable = collection.fields.iter().enumerate().map(|(field, definition)| {
        let ops = [CompareOp::Eq, CompareOp::Ne, CompareOp::Gt, CompareOp::Gte, CompareOp::Lt, CompareOp::Lte];
        let kind = definition.kind;
        prop_oneof![
            4 => (select(ops.to_vec()), value(kind)).prop_map(move |(op, value)| Filter::Compare { field, op, value }),
            2 => vec(value(kind), 0..6).prop_map(move |mut values| {
                values.sort_by(Value::sql_cmp);
                values.dedup();
                Filter::In { field, values }
            }),
            1 => Just(Filter::IsNull { field }),
        ]
        .boxed()
    });
    let textual = positions(collection, &["name", "body", "at", "meta"]);
    let meta = positions(collection, &["meta"])[0];
    let mut leaves: Vec<_> = comparable.collect();
    leaves.push(
        (select(textual.clone()), pattern())
            .prop_map(|(field, pattern)| Filter::Like {
                field,
                pattern: pattern.into(),
            })
            .boxed(),
    );
    leaves.push(leaves[leaves.len() - 1].clone());
    leaves.push(
        (select(textual), text())
            .prop_map(|(field, needle)| Filter::Contains {
                field,
                needle: needle.into(),
            })
            .boxed(),
    );
    let json = needle()
        .prop_map(move |needle| Filter::JsonContains { field: meta, needle })
        .boxed();
    leaves.extend([json.clone(), json.clone(), json]);
    let path = (json_path(), path_test())
        .prop_map(move |(path, test)| Filter::Path {
            field: meta,
            path: Arc::new(path),
            test,
        })
        .boxed();
    leaves.extend([path.clone(), path.clone(), path.clone(), path]);
    let searched = positions(collection, &["id", "name", "body", "owner"]);
    leaves.push(
        select(&["a", "A", "ab", "1", "2", "ä", "Ä", "%", "\u{1F600}"][..])
            .prop_map(move |text| Filter::Mentions {
                fields: searched.clone(),
                text: text.into(),
            })
            .boxed(),
    );
    let texts = positions(collection, &["name", "body", "at"]);
    leaves.push(
        (
            select(texts),
            stored().prop_filter("never empty", |end| !end.is_empty()),
        )
            .prop_map(|(field, needle)| Filter::EndsWith {
                field,
                needle: needle.into(),
            })
            .boxed(),
    );
    let leaf = (0..leaves.len()).prop_flat_map(move |at| leaves[at].clone());
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Filter::And),
            vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
    .boxed()
}

fn positions(collection: &Collection, names: &[&str]) -> Vec<usize> {
    let position = |name: &&str| collection.field(name).map(|(position, _)| position);
    names.iter().filter_map(position).collect()
}

fn query(collection: &Arc<Collection>, filter: Filter, mut sort: Vec<SortKey>) -> Query {
    let primary = collection.primary();
    let descending = sort.last().is_some_and(|key| key.descending);
    sort.retain(|key| key.field != primary);
    sort.push(SortKey {
        field: primary,
        descending,
    });
    Query {
        collection: Arc::clone(collection),
        filter,
        sort,
        limit: 1000,
        offset: 0,
        fields: None,
    }
}

/// Replaces all rows, and returns them as the database stores them.
fn fill(database: &Database, collection: &Arc<Collection>, rows: Vec<Row>) -> Vec<Row> {
    let run = |sql: &str| database.run(&Statement::new(sql, Vec::new()));
    run("BEGIN");
    run("DELETE FROM things");
    let stored = rows
        .into_iter()
        .flat_map(|row| database.run(&insert(collection, row)))
        .collect();
    run("COMMIT");
    stored
}

fn filters_agree(strict: bool) {
    let collection = support::things();
    let database = Database::new(&collection, strict);
    let cases = (
        vec(row(&collection, strict), 1..30),
        vec(filter(&collection), FILTERS_PER_TABLE as usize),
    );
    let config = Config {
        cases: FILTERS / FILTERS_PER_TABLE,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&cases, |(rows, filters)| {
        let rows = fill(&database, &collection, rows);
        for filter in filters {
            let expected: Vec<_> = rows.iter().filter(|row| filter.matches(row)).collect();
            let query = query(&collection, filter, Vec::new());
            let statement = query.select();
            let found = database.run(&statement);
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{:?}", statement);
            let count = database.run(&query.count());
            prop_assert_eq!(
                &count[0][0],
                &Value::Int(i64::try_from(found.len())?),
                "{:?}",
                query.count()
            );
            let normal = query.filter.clone().normalize();
            for row in &rows {
                prop_assert_eq!(
                    normal.eval(row),
                    query.filter.eval(row),
                    "{:?} on {:?}",
                    normal,
                    row
                );
            }
            prop_assert_eq!(normal.clone().normalize(), normal);
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{}", reason(&failure));
    }
}

/// Without the whole input, which is pages long: the message tells the statement and both results.
fn reason<T>(failure: &TestError<T>) -> String {
    match failure {
        TestError::Fail(reason, _) => reason.to_string(),
        TestError::Abort(reason) => format!("aborted: {reason}"),
    }
}

#[test]
fn filters_pass_the_same_rows_in_memory_as_in_sql() {
    filters_agree(true);
}

#[test]
fn filters_agree_also_on_values_of_another_class_than_their_column() {
    filters_agree(false);
}

#[test]
fn json_of_any_depth_agrees() {
    let collection = support::things();
    let database = Database::new(&collection, true);
    let meta = positions(&collection, &["meta"])[0];
    let needle = JsonNeedle::Number("1".into());
    let query = query(
        &collection,
        Filter::JsonContains { field: meta, needle },
        Vec::new(),
    );
    let mut found = Vec::new();
    for depth in [1, 2, 127, 128, 129, 998, 999, 1000, 1001, 1002, 5000] {
        let inner = depth - 1;
        let json = format!("[1,\"]\\\"[\",{}0{}]", "[".repeat(inner), "]".repeat(inner));
        let mut row = vec![Value::Null; collection.fields.len()];
        row[meta] = Value::from(json);
        row[positions(&collection, &["rank"])[0]] = Value::Int(0);
        let stored = fill(&database, &collection, vec![row]);
        assert_eq!(
            query.filter.matches(&stored[0]),
            !database.run(&query.select()).is_empty(),
            "{depth}"
        );
        found.push(query.filter.matches(&stored[0]));
    }
    assert!(found.contains(&true) && found.contains(&false), "{found:?}");
}

#[test]
fn pages_walk_every_row_once_in_the_order_of_memory() {
    let collection = support::things();
    let sorts = vec(
        ((0..collection.fields.len()), any::<bool>())
            .prop_map(|(field, descending)| SortKey { field, descending }),
        0..4,
    );
    for strict in [true, false] {
        let database = Database::new(&collection, strict);
        let cases = (
            vec(row(&collection, strict), 0..25),
            vec(
                (sorts.clone(), filter(&collection), 1..8_u32),
                ORDERS_PER_TABLE as usize,
            ),
        );
        let config = Config {
            cases: ORDERS / ORDERS_PER_TABLE / 2,
            failure_persistence: None,
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&cases, |(rows, orders)| {
            let rows = fill(&database, &collection, rows);
            for (mut sort, filter, page) in orders {
                let mut seen = Vec::new();
                sort.retain(|key| {
                    let new = !seen.contains(&key.field);
                    seen.push(key.field);
                    new
                });
                // Every other walk over all rows: most random filters pass few.
                let filter = if page % 2 == 0 { Filter::TRUE } else { filter };
                let query = query(&collection, filter, sort);
                let mut expected: Vec<_> = rows
                    .iter()
                    .filter(|row| query.filter.matches(row))
                    .cloned()
                    .collect();
                expected.sort_by(|a, b| query.compare(a, b));
                prop_assert_eq!(&database.run(&query.select()), &expected, "{:?}", query.select());
                let mut walked: Vec<Row> = Vec::new();
                loop {
                    let after = walked.last().map(|row| query.key(row));
                    let found = database.run(&query.select_after(after.as_deref(), page));
                    prop_assert!(
                        walked.len() + found.len() <= expected.len(),
                        "{:?}",
                        query.select_after(after.as_deref(), page)
                    );
                    let done = found.len() < page as usize;
                    walked.extend(found);
                    if done {
                        break;
                    }
                }
                prop_assert_eq!(&walked, &expected, "{:?}", query);
                let paged = Query { limit: page, ..query };
                let (mut pages, mut after): (Vec<Row>, Option<Vec<Value>>) = (Vec::new(), None);
                loop {
                    let found = database.run(&paged.select_from(after.as_deref()));
                    let Some(last) = found.last() else { break };
                    let cursor = paged.cursor(last).expect("the keys are short");
                    after = Some(paged.read_cursor(&cursor).expect("its own cursor"));
                    prop_assert!(
                        pages.len() + found.len() <= expected.len(),
                        "{:?}",
                        paged.select_from(after.as_deref())
                    );
                    pages.extend(found);
                }
                prop_assert_eq!(&pages, &expected, "{:?}", paged);
            }
            Ok(())
        });
        if let Err(failure) = result {
            panic!("{}", reason(&failure));
        }
    }
}

const RELATED: &str = "
collections:
  teams:
    fields:
      id: {type: int, primary: true, default: auto}
      code: {type: string, nullable: true, unique: true}
      size: {type: int, nullable: true}
      lead: {type: int, nullable: true, references: people.id}
  people:
    fields:
      id: {type: int, primary: true, default: auto}
      name: {type: string, nullable: true}
      team: {type: int, nullable: true, index: true, references: teams.id}
      team_code: {type: string, nullable: true, references: teams.code}
";

/// A filter over teams, which may look at their leads.
fn team_filter(teams: &Arc<Collection>, people: &Arc<Collection>) -> BoxedStrategy<Filter> {
    let ops = || select(vec![CompareOp::Eq, CompareOp::Ne, CompareOp::Gt, CompareOp::Lte]);
    let size = (ops(), 0..4_i64).prop_map(|(op, size)| Filter::Compare {
        field: 2,
        op,
        value: Value::Int(size),
    });
    let of_lead = prop_oneof![
        Just(Filter::IsNull { field: 1 }),
        (ops(), select(&["a", "b"][..])).prop_map(|(op, name)| Filter::Compare {
            field: 1,
            op,
            value: Value::text(name),
        }),
    ];
    let people = Arc::clone(people);
    let lead = of_lead.prop_map(move |filter| through(3, &people, 0, filter));
    let leaf = prop_oneof![
        3 => size,
        1 => (0..teams.fields.len()).prop_map(|field| Filter::IsNull { field }),
        2 => lead,
    ];
    combined(leaf.boxed())
}

fn through(field: usize, collection: &Arc<Collection>, target: usize, filter: Filter) -> Filter {
    Filter::Through(Box::new(Through {
        field,
        collection: Arc::clone(collection),
        target,
        filter,
    }))
}

fn combined(leaf: BoxedStrategy<Filter>) -> BoxedStrategy<Filter> {
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Filter::And),
            vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
    .boxed()
}

/// The filter about one row, with what is referred to looked up: a left join by hand.
fn looked_up(filter: &Filter, row: &Row, tables: &[(&str, &[Row])]) -> Filter {
    let all = |parts: &[Filter]| parts.iter().map(|part| looked_up(part, row, tables)).collect();
    match filter {
        Filter::And(parts) => Filter::And(all(parts)),
        Filter::Or(parts) => Filter::Or(all(parts)),
        Filter::Not(inner) => Filter::Not(Box::new(looked_up(inner, row, tables))),
        Filter::Through(through) => {
            let table = tables.iter().find(|(name, _)| *name == through.collection.name);
            let rows = table.map_or(&[][..], |(_, rows)| rows);
            let key = &row[through.field];
            let found = rows
                .iter()
                .find(|other| !key.is_null() && other[through.target] == *key);
            let nothing = Vec::new();
            let other = found.unwrap_or(&nothing);
            // A row of nulls has as many as the filter asks for.
            let width = vec![Value::Null; through.collection.fields.len()];
            let other = if other.is_empty() { &width } else { other };
            match looked_up(&through.filter, other, tables).eval(other) {
                Some(true) => Filter::TRUE,
                Some(false) => Filter::FALSE,
                None => Filter::Compare {
                    field: usize::MAX,
                    op: CompareOp::Eq,
                    value: Value::Int(0),
                },
            }
        }
        leaf => leaf.clone(),
    }
}

#[test]
fn paths_across_references_are_left_joins() {
    let schema = alyx_schema::parse(RELATED, "schema.yaml")
        .expect("the schema is right")
        .schema;
    let collection = |name: &str| Arc::clone(schema.collection(name).expect("declared"));
    let (teams, people) = (collection("teams"), collection("people"));
    let database = Database::new(&teams, true);
    let run = |sql: &str| database.run(&Statement::new(sql, Vec::new()));
    run("PRAGMA foreign_keys = OFF");
    for sql in alyx_schema::create_table(&people) {
        run(&sql);
    }
    let null_or =
        |values: std::ops::Range<i64>| prop_oneof![1 => Just(Value::Null), 3 => values.prop_map(Value::Int)];
    let code =
        || prop_oneof![1 => Just(Value::Null), 3 => select(&["x", "y", "z"][..]).prop_map(Value::text)];
    let person = (code(), null_or(1..6), code());
    let by_id = team_filter(&teams, &people).prop_map({
        let teams = Arc::clone(&teams);
        move |filter| through(2, &teams, 0, filter)
    });
    let by_code = team_filter(&teams, &people).prop_map({
        let teams = Arc::clone(&teams);
        move |filter| through(3, &teams, 1, filter)
    });
    let name = select(&["x", "y"][..]).prop_map(|name| Filter::Compare {
        field: 1,
        op: CompareOp::Gt,
        value: Value::text(name),
    });
    let filters = combined(prop_oneof![2 => by_id, 2 => by_code, 1 => name].boxed());
    let cases = (
        vec((null_or(0..4), null_or(1..6)), 0..5),
        vec(person, 0..8),
        vec(filters, 20),
    );
    let config = Config {
        cases: ORDERS / 10,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&cases, |(team_rows, person_rows, filters)| {
        run("DELETE FROM people");
        run("DELETE FROM teams");
        // So that references meet what they refer to, and some nothing.
        let codes = ["x", "y"]
            .map(Value::text)
            .into_iter()
            .chain(std::iter::repeat(Value::Null));
        for (index, ((size, lead), code)) in team_rows.into_iter().zip(codes).enumerate() {
            let id = Value::Int(i64::try_from(index)? + 1);
            database.run(&insert(&teams, vec![id, code, size, lead]));
        }
        for (index, (name, team, code)) in person_rows.into_iter().enumerate() {
            let id = Value::Int(i64::try_from(index)? + 1);
            database.run(&insert(&people, vec![id, name, team, code]));
        }
        let all = |collection: &Arc<Collection>| {
            database.run(&query(collection, Filter::TRUE, Vec::new()).select())
        };
        let (team_rows, person_rows) = (all(&teams), all(&people));
        let tables = [
            ("teams", team_rows.as_slice()),
            ("people", person_rows.as_slice()),
        ];
        for filter in filters {
            let query = query(&people, filter, Vec::new());
            let expected: Vec<&Row> = person_rows
                .iter()
                .filter(|row| looked_up(&query.filter, row, &tables).matches(row))
                .collect();
            let found = database.run(&query.select());
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{:?}", query.select());
            let normal = Query {
                filter: query.filter.clone().normalize(),
                ..query.clone()
            };
            prop_assert_eq!(database.run(&normal.select()), found, "{:?}", normal.select());
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{}", reason(&failure));
    }
}
