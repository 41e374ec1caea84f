//! Every way to decide against the `cel` crate: the filter as SQL, the filter in memory, and the rule with the
//! document known. Where rules differ from plain CEL on purpose, the text for CEL spells out what is meant.

use std::collections::HashMap;
use std::sync::Arc;

use alyx_core::{Caller, Row, Statement, Value};
use alyx_query::{Filter, Query, SortKey, holds, insert};
use alyx_rules::{Action, Came, Decision, Facts, Rule};
use alyx_schema::{Collection, Schema};
use cel::{Context, Program, Value as Cel};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};

use crate::support::{Database, account, collection, explained, now, schema};

/// Databases, each with some rules.
const CASES: u32 = 250;
const RULES: usize = 16;

/// A rule in both languages.
#[derive(Debug, Clone)]
struct Texts {
    ours: String,
    cel: String,
}

/// Stored texts, as both name them.
fn text_field() -> impl Strategy<Value = (&'static str, &'static str)> {
    select(vec![
        ("doc.owner", "doc.owner"),
        ("doc.title", "doc.title"),
        ("doc.team_id", "doc.team_id"),
        ("doc.team.name", "team.name"),
        ("get('teams', doc.team_id).lead", "team.lead"),
        ("get('teams', 'a').name", "team_a.name"),
        ("get('teams', auth.metadata.team).lead", "own_team.lead"),
        ("doc.meta.a", "meta_a"),
        ("doc.meta.list[0]", "meta_list_0"),
    ])
}

fn known_text() -> impl Strategy<Value = &'static str> {
    select(vec!["auth.id", "auth.metadata.team", "auth.metadata.none"])
}

/// An equality with a part of `auth`: null does not equal null.
fn strict(field: (&str, &str), known: &str, negated: bool) -> Texts {
    let (sign, not) = if negated { ("!=", "!") } else { ("==", "") };
    Texts {
        ours: format!("{} {sign} {known}", field.0),
        cel: format!("{not}({known} != null && {} == {known})", field.1),
    }
}

fn leaf() -> BoxedStrategy<Texts> {
    let literals = || select(vec!["'a'", "'b'", "''", "'ab'", "null"]);
    let texts = || select(vec!["'a'", "'b'", "''", "'ab'"]);
    let equality = (text_field(), literals(), any::<bool>()).prop_map(|(field, literal, negated)| {
        let sign = if negated { "!=" } else { "==" };
        Texts {
            ours: format!("{} {sign} {literal}", field.0),
            cel: format!("{} {sign} {literal}", field.1),
        }
    });
    let of_caller = (text_field(), known_text(), any::<bool>())
        .prop_map(|(field, known, negated)| strict(field, known, negated));
    let signs = || select(vec!["<", "<=", ">", ">="]);
    let order = (text_field(), signs(), texts()).prop_map(|(field, sign, literal)| Texts {
        ours: format!("{} {sign} {literal}", field.0),
        cel: format!("{} {sign} {literal}", field.1),
    });
    let parts = (
        text_field(),
        select(vec!["startsWith", "endsWith", "contains"]),
        texts(),
    )
        .prop_map(|(field, function, literal)| Texts {
            ours: format!("{}.{function}({literal})", field.0),
            cel: format!("{}.{function}({literal})", field.1),
        });
    let within = (text_field(), known_text(), literals()).prop_map(|(field, known, literal)| Texts {
        ours: format!("{} in [{known}, 'a', {literal}]", field.0),
        cel: format!(
            "({} != null && {} in [{known}, 'a', {literal}])",
            field.1, field.1
        ),
    });
    prop_oneof![3 => equality, 3 => of_caller, 2 => order, 2 => parts, 2 => within, 10 => of_other_types()]
        .boxed()
}

fn of_other_types() -> BoxedStrategy<Texts> {
    let stored_list = select(vec![
        ("doc.tags", "doc.tags"),
        ("doc.meta.list", "meta_list"),
        ("doc.meta.a", "meta_a"),
    ]);
    let needles = select(vec!["'a'", "'c'", "auth.id", "auth.metadata.team"]);
    let holds = (needles, stored_list).prop_map(|(needle, list)| Texts {
        ours: format!("{needle} in {}", list.0),
        cel: format!("({needle} != null && {needle} in {})", list.1),
    });
    let numbers = (
        select(vec![
            ("doc.age", "doc.age"),
            ("doc.price", "doc.price"),
            ("doc.rank", "doc.rank"),
            ("doc.meta.a", "meta_a"),
        ]),
        select(vec!["==", "!=", "<", "<=", ">", ">="]),
        select(vec!["1", "2", "1.5", "auth.metadata.level"]),
    )
        .prop_map(|(field, sign, number)| match (sign, number) {
            ("==" | "!=", "auth.metadata.level") => strict(field, number, sign == "!="),
            _ => Texts {
                ours: format!("{} {sign} {number}", field.0),
                cel: format!("{} {sign} {number}", field.1),
            },
        });
    let times = (
        select(vec!["==", "!=", "<", "<=", ">", ">="]),
        select(vec!["2025", "2026"]),
    )
        .prop_map(|(sign, year)| Texts {
            ours: format!("doc.at {sign} '{year}-01-01'"),
            cel: format!("doc.at {sign} timestamp('{year}-01-01T00:00:00Z')"),
        });
    let has = select(vec![
        ("doc.owner", "doc.owner"),
        ("doc.age", "doc.age"),
        ("doc.meta", "doc.meta"),
        ("doc.meta.a", "meta_a"),
        ("doc.team.name", "team.name"),
        ("doc.tags", "doc.tags"),
    ])
    .prop_map(|(ours, cel)| Texts {
        ours: format!("has({ours})"),
        cel: format!("({cel} != null)"),
    });
    let truths = select(vec![
        ("doc.done", "doc.done"),
        ("doc.team.open", "team.open"),
        ("doc.meta.a", "meta_a"),
        ("doc.done == true", "doc.done == true"),
        ("doc.done != true", "doc.done != true"),
        ("get('teams', 'b').open", "team_b.open"),
        ("auth != null", "signed_in"),
        ("auth.role == 'admin'", "auth.role == 'admin'"),
        ("auth.metadata.level > 1", "auth.metadata.level > 1"),
        (
            "exists('members', {'team_id': doc.team_id, 'user_id': auth.id})",
            "is_member",
        ),
        ("exists('members', {'user_id': doc.team.lead})", "lead_is_member"),
        ("exists('members', {'user_id': auth.id})", "is_member_somewhere"),
        ("(doc.age > 1) == true", "(doc.age > 1) == true"),
        ("true", "true"),
        ("false", "false"),
    ])
    .prop_map(|(ours, cel)| Texts {
        ours: ours.to_owned(),
        cel: cel.to_owned(),
    });
    let lists = Just(Texts {
        ours: "auth.metadata.teams.exists(t, t == doc.team_id)".to_owned(),
        cel: "auth.metadata.teams.exists(t, t == doc.team_id)".to_owned(),
    });
    prop_oneof![3 => holds, 4 => numbers, 1 => times, 2 => has, 4 => truths, 1 => lists].boxed()
}

fn rule() -> BoxedStrategy<Texts> {
    leaf()
        .prop_recursive(3, 12, 3, |inner| {
            let joined = |sign: &'static str| {
                move |parts: Vec<Texts>| {
                    let all = |text: fn(&Texts) -> &str| {
                        let parts: Vec<_> = parts.iter().map(|part| format!("({})", text(part))).collect();
                        parts.join(sign)
                    };
                    Texts {
                        ours: all(|part| &part.ours),
                        cel: all(|part| &part.cel),
                    }
                }
            };
            prop_oneof![
                3 => vec(inner.clone(), 2..4).prop_map(joined(" && ")),
                3 => vec(inner.clone(), 2..4).prop_map(joined(" || ")),
                3 => inner.clone().prop_map(|part| Texts {
                    ours: format!("!({})", part.ours),
                    cel: format!("!({})", part.cel),
                }),
                1 => (inner.clone(), inner.clone(), inner).prop_map(|(condition, yes, no)| Texts {
                    ours: format!("({}) ? ({}) : ({})", condition.ours, yes.ours, no.ours),
                    cel: format!("({}) ? ({}) : ({})", condition.cel, yes.cel, no.cel),
                }),
            ]
        })
        .boxed()
}

fn text_or_null() -> impl Strategy<Value = Value> {
    select(vec![None, Some("a"), Some("b"), Some("ab"), Some("")]).prop_map(Value::from)
}

fn meta() -> impl Strategy<Value = Value> {
    select(vec![
        None,
        Some("{}"),
        Some(r#"{"a":"a"}"#),
        Some(r#"{"a":1,"list":["a",1]}"#),
        Some(r#"{"a":1.5,"list":[]}"#),
        Some(r#"{"a":true,"list":"a"}"#),
        Some(r#"{"a":null,"list":{"a":1}}"#),
        Some(r#"{"a":["a","b"],"list":["b"]}"#),
        Some(r#"{"a":{"c":2},"list":[null,"a"]}"#),
        Some(r#"[1,"a"]"#),
        Some(r#""a""#),
    ])
    .prop_map(Value::from)
}

fn item() -> impl Strategy<Value = Row> {
    let number = || select(vec![Value::Null, Value::Int(1), Value::Int(2), Value::Int(3)]);
    let price = select(vec![
        Value::Null,
        Value::Float(1.0),
        Value::Float(1.5),
        Value::Float(2.0),
    ]);
    let truth = select(vec![Value::Null, Value::Int(0), Value::Int(1)]);
    let at = select(vec![
        None,
        Some("2024-06-01T00:00:00.000Z"),
        Some("2025-01-01T00:00:00.000Z"),
        Some("2026-05-05T05:05:05.005Z"),
    ]);
    let tags = select(vec![None, Some("a"), Some(r#"["a","b"]"#), Some("[]"), Some("c")]);
    let key = || select(vec![None, Some("a"), Some("b"), Some("gone")]).prop_map(Value::from);
    (
        text_or_null(),
        text_or_null(),
        number(),
        price,
        truth,
        at,
        meta(),
        tags,
        key(),
        1..3_i64,
    )
        .prop_map(|(owner, title, age, price, done, at, meta, tags, team, rank)| {
            vec![
                Value::Null,
                owner,
                title,
                age,
                price,
                done,
                at.into(),
                meta,
                tags.into(),
                team,
                rank.into(),
                Value::Null,
            ]
        })
}

fn caller() -> impl Strategy<Value = Caller> {
    let accounts = vec![
        Caller::Anonymous,
        account(
            "a",
            "user",
            json!({"team": "a", "teams": ["a", "gone"], "level": 1}),
        ),
        account("b", "admin", json!({"team": null, "teams": [], "level": 2})),
        account("ab", "user", json!({})),
    ];
    select(accounts)
}

struct Tables {
    teams: Vec<Row>,
    members: Vec<Row>,
}

/// The same for CEL.
fn value(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(truth) => Cel::Bool(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(int) => Cel::Int(int),
            None => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Cel::String(Arc::new(text.clone())),
        Json::Array(parts) => Cel::List(Arc::new(parts.iter().map(value).collect())),
        Json::Object(members) => {
            let members: HashMap<String, Cel> = members
                .iter()
                .map(|(name, member)| (name.clone(), value(member)))
                .collect();
            Cel::Map(members.into())
        }
    }
}

fn document(collection: &Collection, row: &[Value]) -> Json {
    let mut out = Vec::new();
    alyx_schema::write_json(collection, row, None, &mut out);
    serde_json::from_slice(&out).expect("a document is JSON")
}

/// A document with nothing in it where there is none.
fn team<'t>(tables: &'t Tables, width: &'t Row, key: &Value) -> &'t Row {
    let found = tables.teams.iter().find(|row| !key.is_null() && row[0] == *key);
    found.unwrap_or(width)
}

fn variables(schema: &Schema, tables: &Tables, caller: &Caller, row: &Row) -> Vec<(&'static str, Cel)> {
    let (items, teams) = (collection(schema, "items"), collection(schema, "teams"));
    let mut doc = document(&items, row);
    if let Some(text) = doc["tags"].as_str() {
        doc["tags"] = json!([text]);
    }
    let meta = doc["meta"].clone();
    let mut doc: HashMap<String, Cel> = doc
        .as_object()
        .expect("a document is an object")
        .iter()
        .map(|(name, member)| (name.clone(), value(member)))
        .collect();
    if let Some(text) = row[6].as_text() {
        let at = chrono_of(text);
        doc.insert("at".to_owned(), at);
    }
    let auth = caller.account().map_or_else(
        || json!({"id": null, "email": null, "verified": null, "role": null, "metadata": {}}),
        |account| account.to_json(),
    );
    let mut auth = auth;
    for name in ["team", "teams", "level", "none"] {
        if auth["metadata"].get(name).is_none() {
            auth["metadata"][name] = Json::Null;
        }
    }
    let nothing: Row = vec![Value::Null; teams.fields.len()];
    let of_team = |key: &Value| value(&document(&teams, team(tables, &nothing, key)));
    let own = Value::from(auth["metadata"]["team"].as_str());
    let user = Value::from(auth["id"].as_str());
    let lead = team(tables, &nothing, &row[9])[3].clone();
    let member = |team: Option<&Value>, user: &Value| {
        let mut members = tables.members.iter();
        let is = members.any(|row| {
            !user.is_null() && row[2] == *user && team.is_none_or(|team| !team.is_null() && row[1] == *team)
        });
        Cel::Bool(is)
    };
    vec![
        ("meta_a", value(&meta["a"])),
        ("meta_list", value(&meta["list"])),
        ("meta_list_0", value(&meta["list"][0])),
        ("doc", Cel::Map(doc.into())),
        ("signed_in", Cel::Bool(caller.account().is_some())),
        ("team", of_team(&row[9])),
        ("team_a", of_team(&Value::text("a"))),
        ("team_b", of_team(&Value::text("b"))),
        ("own_team", of_team(&own)),
        ("is_member", member(Some(&row[9]), &user)),
        ("is_member_somewhere", member(None, &user)),
        ("lead_is_member", member(None, &lead)),
        ("auth", value(&auth)),
    ]
}

/// A stored time as CEL reads it.
fn chrono_of(text: &str) -> Cel {
    let program = Program::compile(&format!("timestamp('{text}')")).expect("a call");
    program.execute(&Context::default()).expect("a time")
}

fn put(database: &Database, schema: &Schema, name: &str, rows: &[Row]) {
    database.run(&Statement::new(format!("DELETE FROM {name}"), Vec::new()));
    let collection = collection(schema, name);
    for (index, row) in rows.iter().enumerate() {
        let mut row = row.clone();
        if row[0].is_null() {
            row[0] = Value::Int(i64::try_from(index).expect("few rows") + 1);
        }
        database.run(&insert(&collection, row));
    }
}

/// The keys of the rows that pass.
fn selected(database: &Database, items: &Arc<Collection>, filter: &Filter) -> Vec<Value> {
    let query = Query {
        collection: Arc::clone(items),
        filter: filter.clone(),
        sort: vec![SortKey {
            field: 0,
            descending: false,
        }],
        limit: 1000,
        offset: 0,
        fields: None,
    };
    database
        .run(&query.select())
        .into_iter()
        .map(|row| row[0].clone())
        .collect()
}

/// What is told of a decision is the decision, and reasons are told where it is no.
fn check_reasons(
    database: &Database,
    rule: &Rule,
    (items, facts): (&Arc<Collection>, &Facts<'_>),
    (row, allowed): (&Row, bool),
) -> Result<(), TestCaseError> {
    let why = explained(database, rule, (items, facts), &row[0]);
    prop_assert_eq!(why.allowed, allowed, "{:?}", rule);
    let parts = (why.root.came == Came::True, why.because().is_empty());
    prop_assert_eq!(parts, (allowed, allowed), "why: {:?} {:?} {:?}", rule, row, why);
    Ok(())
}

#[test]
fn every_way_to_decide_agrees_with_cel() {
    let schema = schema();
    let items = collection(&schema, "items");
    let database = Database::new(&schema);
    let teams = vec((text_or_null(), any::<Option<bool>>(), text_or_null()), 0..3);
    let members = vec((text_or_null(), text_or_null()), 0..4);
    let cases = (teams, members, vec(item(), 1..8), vec((rule(), caller()), RULES));
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let base = Context::default();
    let result = TestRunner::new(config).run(&cases, |(teams, members, rows, rules)| {
        let teams = teams.into_iter().zip(["a", "b"]);
        let teams = teams.map(|((name, open, lead), key)| vec![Value::text(key), name, open.into(), lead]);
        let members = members
            .into_iter()
            .map(|(team, user)| vec![Value::Null, team, user]);
        let tables = Tables {
            teams: teams.collect(),
            members: members.collect(),
        };
        put(&database, &schema, "teams", &tables.teams);
        put(&database, &schema, "members", &tables.members);
        put(&database, &schema, "items", &rows);
        let rows = (1_i64..).zip(&rows).map(|(key, row)| {
            let mut row = row.clone();
            row[0] = Value::Int(key);
            row
        });
        let rows: Vec<Row> = rows.collect();
        for (texts, caller) in rules {
            let rule = Rule::compile(&schema, &items, Action::Read, &texts.ours);
            let rule = rule.map_err(|problem| TestCaseError::fail(format!("{}: {problem}", texts.ours)))?;
            let program = Program::compile(&texts.cel).expect("it is CEL");
            let facts = Facts::of(&caller, now());
            let filter = rule.decide(&items, &facts).into_filter();
            let by_sql = selected(&database, &items, &filter);
            for row in &rows {
                let mut context = base.new_inner_scope();
                for (name, value) in variables(&schema, &tables, &caller, row) {
                    context.add_variable_from_value(name, value);
                }
                let oracle = matches!(program.execute(&context), Ok(Cel::Bool(true)));
                prop_assert_eq!(
                    by_sql.contains(&row[0]),
                    oracle,
                    "{:?} {:?} {:?}",
                    texts,
                    caller,
                    row
                );
                if filter.is_local() {
                    prop_assert_eq!(filter.matches(row), oracle, "in memory: {:?} {:?}", texts, row);
                }
                let known = rule.decide(
                    &items,
                    &Facts {
                        document: Some(row),
                        ..facts
                    },
                );
                let known = match known {
                    Decision::Allow => true,
                    Decision::Deny => false,
                    Decision::Filter(filter) => !database.run(&holds(&items, &filter)).is_empty(),
                };
                prop_assert_eq!(known, oracle, "known: {:?} {:?} {:?}", texts, caller, row);
            }
            let allowed = by_sql.contains(&rows[0][0]);
            check_reasons(&database, &rule, (&items, &facts), (&rows[0], allowed))?;
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
