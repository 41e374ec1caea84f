//! Checks of the change log and statements of transactions, on a real database with the product's triggers.

mod support;

use alyx_core::{Row, Seq, Statement, Value};
use alyx_query::{
    CompareOp, Filter, Query, adjust, delete, documents_unchanged, get, insert, passes, query_unchanged,
    reserve_keys, update, upsert,
};
use alyx_schema::Collection;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use support::{Database, things};

const NAME: usize = 1;
const AGE: usize = 3;
const PRICE: usize = 4;
const META: usize = 7;
const RANK: usize = 10;
const DAY: usize = 14;
const PICK: usize = 18;

fn logged(collection: &Collection) -> Database {
    let database = Database::new(collection, true);
    let run = |sql: String| database.run(&Statement::new(sql, Vec::new()));
    run(
        "CREATE TABLE _alyx_changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, collection TEXT NOT NULL, \
         op INTEGER NOT NULL, id, old TEXT, new TEXT)"
            .to_owned(),
    );
    run("CREATE TABLE _alyx_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)".to_owned());
    run("INSERT INTO _alyx_meta VALUES ('horizon', 0)".to_owned());
    alyx_schema::triggers(collection).into_iter().for_each(|sql| {
        run(sql);
    });
    database
}

fn row(name: &str, age: i64, price: f64, meta: &str) -> Row {
    let mut row = vec![Value::Null; things().fields.len()];
    row[NAME] = Value::from(name);
    row[AGE] = Value::Int(age);
    row[PRICE] = Value::Float(price);
    row[META] = Value::from(meta);
    row[RANK] = Value::Int(0);
    row
}

fn head(database: &Database) -> Seq {
    let sql = "SELECT coalesce(max(seq), 0) FROM _alyx_changes";
    let found = database.run(&Statement::new(sql, Vec::new()));
    Seq(u64::try_from(found[0][0].as_int().expect("a position")).expect("not negative"))
}

fn holds(database: &Database, statement: &Statement) -> bool {
    match database.run(statement).len() {
        0 => false,
        1 => true,
        more => panic!("{more} rows: {statement:?}"),
    }
}

fn query(filter: Filter) -> Query {
    Query {
        collection: things(),
        filter,
        sort: Vec::new(),
        limit: 10,
        offset: 0,
        fields: None,
    }
}

fn leaf() -> impl Strategy<Value = Filter> {
    let ops = [
        CompareOp::Eq,
        CompareOp::Ne,
        CompareOp::Gt,
        CompareOp::Gte,
        CompareOp::Lt,
        CompareOp::Lte,
    ];
    let value = prop_oneof![
        (-2..3_i64).prop_map(|age| (AGE, Value::Int(age))),
        select(&["a", "ä\"\\", "", "{\"a\":1}"][..]).prop_map(|name| (NAME, Value::from(name))),
        select(&[0.5, 1e300, -0.0][..]).prop_map(|price| (PRICE, Value::Float(price))),
        Just((AGE, Value::Int(i64::MAX))),
        select(&["2026-01-01", "2026-01-02"][..]).prop_map(|day| (DAY, Value::from(day))),
        select(&["a", "[\"a\",\"b\"]"][..]).prop_map(|pick| (PICK, Value::from(pick))),
    ];
    prop_oneof![
        4 => (select(ops.to_vec()), value).prop_map(|(op, (field, value))| Filter::Compare { field, op, value }),
        1 => select(&[NAME, AGE, PRICE][..]).prop_map(|field| Filter::IsNull { field }),
        1 => Just(Filter::Like { field: NAME, pattern: "%a%".into() }),
        1 => select(&[META, PICK][..]).prop_map(|field| {
            Filter::JsonContains { field, needle: alyx_query::JsonNeedle::Text("a".into()) }
        }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    leaf().prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Filter::And),
            vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

fn names_a_float(filter: &Filter) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(names_a_float),
        Filter::Not(inner) => names_a_float(inner),
        Filter::Compare { field, .. } | Filter::IsNull { field } => *field == PRICE,
        _ => false,
    }
}

fn random_row() -> impl Strategy<Value = Row> {
    (
        select(&["a", "b", "ä\"\\", "", "{\"a\":1}"][..]),
        prop_oneof![-2..3_i64, Just(i64::MAX), Just(i64::MIN)],
        select(&[0.5, 1e300, -0.0, 5e-324][..]),
        select(&["[\"a\"]", "{\"b\":1}", "\"a\"", "null"][..]),
        select(&["a", "b", "[\"a\",\"b\"]", "[\"b\"]", "[]"][..]),
        0..8_u8,
    )
        .prop_map(|(name, age, price, meta, pick, nulls)| {
            let mut row = row(name, age, price, meta);
            row[PICK] = Value::from(pick);
            row[DAY] = Value::from(if age > 0 { "2026-01-02" } else { "2026-01-01" });
            for (bit, field) in [NAME, AGE, PRICE].into_iter().enumerate() {
                if nulls & (1 << bit) != 0 {
                    row[field] = Value::Null;
                }
            }
            row
        })
}

/// No change that a list would have seen is overlooked; where the log holds every value exactly, no other change is
/// taken for one.
#[test]
fn a_list_is_unchanged_exactly_while_no_image_passes_its_filter() {
    let things = things();
    let database = logged(&things);
    let cases = (random_row(), random_row(), vec(filter(), 20));
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((before, after, filters) in cases)| {
        let stored = database.run(&insert(&things, before)).remove(0);
        let since = head(&database);
        let changes = [NAME, AGE, PRICE, META].map(|field| (field, after[field].clone()));
        let changed = database.run(&update(&things, stored[0].clone(), changes.into())).remove(0);
        prop_assert_eq!(head(&database), Seq(since.0 + 1));
        for filter in filters {
            let touched = filter.matches(&stored) || filter.matches(&changed);
            let exact = !names_a_float(&filter);
            let check = query_unchanged(&query(filter), since);
            let unchanged = holds(&database, &check);
            prop_assert!(!(touched && unchanged), "overlooked: {:?}", check);
            prop_assert!(touched || unchanged || !exact, "nothing changed: {:?}", check);
            let later = query_unchanged(&query(Filter::TRUE), head(&database));
            prop_assert!(holds(&database, &later));
        }
    });
}

#[test]
fn documents_are_unchanged_each_since_its_own_position() {
    let things = things();
    let database = logged(&things);
    for name in ["a", "b", "c"] {
        database.run(&insert(&things, row(name, 1, 1.0, "null")));
    }
    let check = |reads: &[(i64, u64)], expected: bool| {
        let reads: Vec<_> = reads
            .iter()
            .map(|(key, seq)| (Value::Int(*key), Seq(*seq)))
            .collect();
        let statement = documents_unchanged(&things, &reads);
        assert_eq!(holds(&database, &statement), expected, "{statement:?}");
    };
    check(&[(1, 3), (2, 3), (3, 3)], true);
    check(&[(1, 1), (2, 2), (3, 3)], true);
    check(&[(1, 0)], false);
    check(&[(9, 0)], true);
    database.run(&update(&things, Value::Int(2), vec![(AGE, Value::Int(2))]));
    check(&[(1, 3), (3, 3)], true);
    check(&[(1, 1), (2, 3), (3, 3)], false);
    check(&[(1, 1), (2, 4), (3, 3)], true);
    database.run(&delete(&things, Value::Int(3)));
    check(&[(3, 4)], false);
    // What has been cut off may have changed anything.
    database.run(&Statement::new("UPDATE _alyx_meta SET value = 4", Vec::new()));
    check(&[(1, 3)], false);
    check(&[(1, 4)], true);
    assert!(!holds(&database, &query_unchanged(&query(Filter::FALSE), Seq(3))));
    assert!(holds(&database, &query_unchanged(&query(Filter::FALSE), Seq(4))));
}

#[test]
fn a_filter_decides_about_one_document() {
    let things = things();
    let database = logged(&things);
    database.run(&insert(&things, row("a", 5, 1.0, "null")));
    let at_least = |age: i64| Filter::Compare {
        field: AGE,
        op: CompareOp::Gte,
        value: Value::Int(age),
    };
    assert!(holds(&database, &passes(&things, Value::Int(1), &at_least(5))));
    assert!(!holds(&database, &passes(&things, Value::Int(1), &at_least(6))));
    assert!(!holds(&database, &passes(&things, Value::Int(2), &at_least(0))));
}

#[test]
fn numbers_are_added_where_their_sum_fits() {
    let things = things();
    let database = logged(&things);
    database.run(&insert(&things, row("a", 5, 1.5, "null")));
    let add = |field: usize, number: Value| {
        adjust(
            &things,
            Value::Int(1),
            vec![(NAME, "b".into())],
            vec![(field, number)],
        )
    };
    let changed = database.run(&add(AGE, Value::Int(-7))).remove(0);
    assert_eq!((&changed[NAME], &changed[AGE]), (&"b".into(), &Value::Int(-2)));
    let changed = database.run(&add(PRICE, Value::Float(0.25))).remove(0);
    assert_eq!(changed[PRICE], Value::Float(1.75));
    database.run(&update(&things, Value::Int(1), vec![(AGE, Value::Null)]));
    assert_eq!(database.run(&add(AGE, Value::Int(3)))[0][AGE], Value::Int(3));
    assert!(database.try_run(&add(AGE, Value::Int(i64::MAX))).is_err());
}

#[test]
fn an_upsert_makes_or_changes_and_returns_the_document() {
    let things = things();
    let database = logged(&things);
    let mut given = row("a", 1, 1.0, "null");
    given[0] = Value::Int(7);
    let run = |row: &Row, fields: &[usize]| database.run(&upsert(&things, row.clone(), fields)).remove(0);
    assert_eq!(run(&given, &[NAME, AGE]), given);
    let mut other = row("b", 2, 2.0, "[]");
    other[0] = Value::Int(7);
    let changed = run(&other, &[NAME]);
    assert_eq!((&changed[NAME], &changed[AGE]), (&"b".into(), &Value::Int(1)));
    assert_eq!(run(&given, &[]), changed);
    other[0] = Value::Null;
    assert_eq!(run(&other, &[NAME])[0], Value::Int(8));
    assert_eq!(database.run(&get(&things, Value::Int(8))).len(), 1);
}

#[test]
fn reserved_keys_are_given_to_nobody_else() {
    let things = things();
    let database = logged(&things);
    let reserve = |count: usize| {
        let [first, second] = reserve_keys(&things, count);
        database.run(&first);
        database.run(&second).remove(0).remove(0)
    };
    assert_eq!(reserve(3), Value::Int(3));
    let made = database.run(&insert(&things, row("a", 1, 1.0, "null"))).remove(0);
    assert_eq!(made[0], Value::Int(4));
    assert_eq!(reserve(2), Value::Int(6));
    let mut given = row("b", 1, 1.0, "null");
    given[0] = Value::Int(2);
    assert_eq!(database.run(&insert(&things, given.clone())), [given]);
}
