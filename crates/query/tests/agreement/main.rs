//! Filters and orders mean the same in SQL and in memory: random rows, random filters, a real database.

mod references;
#[path = "../support/mod.rs"]
mod support;
mod values;

use std::sync::Arc;

use alyx_core::{Row, Statement, Value};
use alyx_query::{CompareOp, Filter, JsonNeedle, Query, SortKey, insert};
use alyx_schema::Collection;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};
use support::Database;
use values::{CHOICES, blob, float, int, json_path, needle, path_test, pattern, stored, text, value};

/// Filters that are compared, in each of the two kinds of table.
const FILTERS: u32 = 50_000;
const FILTERS_PER_TABLE: u32 = 50;
/// Orders that are walked.
const ORDERS: u32 = 1_000;
const ORDERS_PER_TABLE: u32 = 10;

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
    let mut leaves: Vec<_> = comparable.collect();
    leaves.extend(on_text(collection));
    leaves.extend(on_json(collection));
    let leaf = (0..leaves.len()).prop_flat_map(move |at| leaves[at].clone());
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Filter::And),
            vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.clone().prop_map(|filter| Filter::Not(Box::new(filter))),
            inner.prop_map(|filter| Filter::Untrue(Box::new(filter))),
        ]
    })
    .boxed()
}

/// Conditions on text.
fn on_text(collection: &Collection) -> Vec<BoxedStrategy<Filter>> {
    let names = [
        "name", "body", "at", "meta", "mail", "day", "pick", "html", "file", "code",
    ];
    let textual = positions(collection, &names);
    let like = (select(textual.clone()), pattern())
        .prop_map(|(field, pattern)| Filter::Like {
            field,
            pattern: pattern.into(),
        })
        .boxed();
    let contains = (select(textual), text())
        .prop_map(|(field, needle)| Filter::Contains {
            field,
            needle: needle.into(),
        })
        .boxed();
    let searched = positions(
        collection,
        &["id", "name", "body", "owner", "mail", "site", "code"],
    );
    let mentions = select(&["a", "A", "ab", "1", "2", "ä", "Ä", "%", "\u{1F600}"][..])
        .prop_map(move |text| Filter::Mentions {
            fields: searched.clone(),
            text: text.into(),
        })
        .boxed();
    let texts = positions(collection, &["name", "body", "at", "site", "day", "pick", "html"]);
    let end = stored().prop_filter("never empty", |end| !end.is_empty());
    let ends_with = (select(texts), end)
        .prop_map(|(field, needle)| Filter::EndsWith {
            field,
            needle: needle.into(),
        })
        .boxed();
    vec![like.clone(), like, contains, mentions, ends_with]
}

/// Conditions on what json, and selections of several values, hold.
fn on_json(collection: &Collection) -> Vec<BoxedStrategy<Filter>> {
    let meta = positions(collection, &["meta"])[0];
    let pick = positions(collection, &["pick"])[0];
    let json = needle()
        .prop_map(move |needle| Filter::JsonContains { field: meta, needle })
        .boxed();
    let chosen = select(CHOICES)
        .prop_map(move |choice| Filter::JsonContains {
            field: pick,
            needle: JsonNeedle::Text(choice.into()),
        })
        .boxed();
    let path = (json_path(), path_test())
        .prop_map(move |(path, test)| Filter::Path {
            field: meta,
            path: Arc::new(path),
            test,
        })
        .boxed();
    vec![
        json.clone(),
        json.clone(),
        json,
        chosen,
        path.clone(),
        path.clone(),
        path.clone(),
        path,
    ]
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
                    before_nulls(&database, &paged, after.as_deref(), &found)?;
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

/// What stands in front of the nulls is how the page begins, and nulls are all the rest.
fn before_nulls(
    database: &Database,
    query: &Query,
    after: Option<&[Value]>,
    page: &[Row],
) -> Result<(), TestCaseError> {
    if let Some(stretch) = after.and_then(|after| query.select_before_nulls(after)) {
        let rows = database.run(&stretch);
        prop_assert!(page.starts_with(&rows), "{stretch:?}");
        let field = query.sort[0].field;
        prop_assert!(
            page[rows.len()..].iter().all(|row| row[field].is_null()),
            "{stretch:?}"
        );
    }
    Ok(())
}
