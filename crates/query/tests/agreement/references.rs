//! Paths across references against a left join by hand.

use std::sync::Arc;

use alyx_core::{Row, Statement, Value};
use alyx_query::{CompareOp, Elsewhere, Exists, Filter, Query, Through, insert, referring};
use alyx_schema::Collection;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::support::Database;
use crate::{ORDERS, query, reason};

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

fn exists(field: Option<usize>, collection: &Arc<Collection>, target: usize, filter: Filter) -> Filter {
    Filter::Exists(Box::new(Exists {
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
            inner.clone().prop_map(|filter| Filter::Not(Box::new(filter))),
            inner.prop_map(|filter| Filter::Untrue(Box::new(filter))),
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
        Filter::Untrue(inner) => Filter::Untrue(Box::new(looked_up(inner, row, tables))),
        Filter::Exists(exists) => {
            let table = tables.iter().find(|(name, _)| *name == exists.collection.name);
            let mut rows = table.map_or(&[][..], |(_, rows)| rows).iter();
            let found = rows.any(|other| {
                let meant = exists
                    .field
                    .is_none_or(|field| !row[field].is_null() && other[exists.target] == row[field]);
                meant && looked_up(&exists.filter, other, tables).matches(other)
            });
            if found { Filter::TRUE } else { Filter::FALSE }
        }
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

fn null_or(values: std::ops::Range<i64>) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 3 => values.prop_map(Value::Int)]
}

fn code() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 3 => select(&["x", "y", "z"][..]).prop_map(Value::text)]
}

/// A filter over people, which looks at their teams by key and by code.
fn person_filter(teams: &Arc<Collection>, people: &Arc<Collection>) -> BoxedStrategy<Filter> {
    let by_id = team_filter(teams, people).prop_map({
        let teams = Arc::clone(teams);
        move |filter| through(2, &teams, 0, filter)
    });
    let by_code = team_filter(teams, people).prop_map({
        let teams = Arc::clone(teams);
        move |filter| through(3, &teams, 1, filter)
    });
    let of_size = team_filter(teams, people).prop_map({
        let teams = Arc::clone(teams);
        move |filter| exists(Some(2), &teams, 2, filter)
    });
    let anywhere = team_filter(teams, people).prop_map({
        let teams = Arc::clone(teams);
        move |filter| exists(None, &teams, 0, filter)
    });
    let name = select(&["x", "y"][..]).prop_map(|name| Filter::Compare {
        field: 1,
        op: CompareOp::Gt,
        value: Value::text(name),
    });
    combined(prop_oneof![2 => by_id, 2 => by_code, 2 => of_size, 1 => anywhere, 1 => name].boxed())
}

/// The row in memory, with what the database says about other documents; and where some of that is not known, what is
/// said all the same is right.
fn judged(database: &Database, normal: &Query, row: &Row, expected: bool) -> Result<(), TestCaseError> {
    for half in [false, true] {
        let mut asked = 0;
        let holds = |part: Elsewhere<'_>, value: &Value| {
            asked += 1;
            if half && asked % 2 == 0 {
                return None;
            }
            let values = [value.clone(), Value::Int(-1)];
            let held = database.run(&referring(&normal.collection, part, &values));
            Some(held.iter().any(|row| row[0] == *value))
        };
        let said = normal.filter.judge(row, holds);
        prop_assert!(half || said.is_some(), "{:?}", normal);
        prop_assert!(said.is_none_or(|said| said == expected), "{:?} {:?}", normal, row);
    }
    Ok(())
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
    let cases = (
        vec((null_or(0..4), null_or(1..6)), 0..5),
        vec((code(), null_or(1..6), code()), 0..8),
        vec(person_filter(&teams, &people), 20),
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
            prop_assert_eq!(&database.run(&normal.select()), &found, "{:?}", normal.select());
            for row in &person_rows {
                judged(&database, &normal, row, found.contains(row))?;
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{}", reason(&failure));
    }
}
