//! Why a rule says what it says.

use alyx_core::{Row, Value};
use alyx_query::insert;
use alyx_rules::{Action, Came, Explained, Facts, Incoming, Seen};
use serde_json::json;

use crate::support::{Database, account, collection, compiled, explained, now, schema};

/// Item 1 of `ann`, whose team is led by `bob`.
fn told(action: Action, text: &str, incoming: Incoming<'_>) -> Explained {
    let schema = schema();
    let (items, teams) = (collection(&schema, "items"), collection(&schema, "teams"));
    let database = Database::new(&schema);
    let mut team: Row = vec![Value::Null; teams.fields.len()];
    (team[0], team[1], team[3]) = ("red".into(), "Red".into(), "bob".into());
    database.run(&insert(&teams, team));
    let mut item: Row = vec![Value::Null; items.fields.len()];
    (item[0], item[1], item[3]) = (Value::Int(1), "ann".into(), Value::Int(7));
    (item[7], item[9], item[10]) = (r#"{"kind":"draft"}"#.into(), "red".into(), Value::Int(0));
    database.run(&insert(&items, item.clone()));
    let caller = account("eve", "user", json!({"level": 3}));
    let facts = Facts {
        incoming,
        document: (action == Action::Create).then_some(&item[..]),
        ..Facts::of(&caller, now())
    };
    explained(
        &database,
        &compiled(&schema, action, text),
        (&items, &facts),
        &item[0],
    )
}

fn because(text: &str) -> Vec<String> {
    told(Action::Read, text, Incoming::Nothing).because()
}

#[test]
fn what_denies_is_named_with_the_values_of_its_parts() {
    let check = |text: &str, expected: &[&str]| assert_eq!(because(text), expected, "{text}");
    check("auth.role == 'user'", &[]);
    check(
        "doc.owner == auth.id",
        &[r#"`doc.owner == auth.id` is false: `doc.owner` is "ann", `auth.id` is "eve""#],
    );
    check(
        "auth.id != null && (doc.owner == auth.id || doc.team.lead == auth.id)",
        &[
            r#"`doc.owner == auth.id` is false: `doc.owner` is "ann", `auth.id` is "eve""#,
            r#"`doc.team.lead == auth.id` is false: `doc.team.lead` is "bob", `auth.id` is "eve""#,
        ],
    );
    check("!(doc.age > 5)", &["`(doc.age > 5)` is true: `doc.age` is 7"]);
    check(
        "doc.age > 5 ? doc.rank == 1 : true",
        &["`doc.rank == 1` is false: `doc.rank` is 0"],
    );
    check(
        "doc.done",
        &["`doc.done` is null, which is neither true nor false, and errors deny"],
    );
    check(
        "doc.title < 'x' || false",
        &[
            "`doc.title < 'x'` cannot be evaluated, and errors deny: `doc.title` is null",
            "`false` is false",
        ],
    );
    check(
        "get('teams', doc.team_id).name == 'Blue'",
        &[
            r#"`get('teams', doc.team_id).name == 'Blue'` is false: `get('teams', doc.team_id).name` is "Red""#,
        ],
    );
    check(
        "exists('members', {'team_id': doc.team_id, 'user_id': auth.id})",
        &[
            r#"`exists('members', {'team_id': doc.team_id, 'user_id': auth.id})` is false: `doc.team_id` is "red", `auth.id` is "eve""#,
        ],
    );
    check(
        "doc.meta.kind == 'final' && auth.metadata.level > 2",
        &[r#"`doc.meta.kind == 'final'` is false: `doc.meta.kind` is "draft""#],
    );
    check("false", &["`false` is false"]);
}

#[test]
fn what_comes_in_is_among_the_values() {
    let changes = [(1, Value::from("eve"))];
    let incoming = Incoming::Changes {
        changes: &changes,
        sums: &[],
    };
    let given = told(
        Action::Update,
        "!has(data.owner) || doc.owner == auth.id",
        incoming,
    );
    assert!(!given.allowed && !given.always, "{given:?}");
    assert_eq!(
        given.because(),
        [
            "`has(data.owner)` is true",
            r#"`doc.owner == auth.id` is false: `doc.owner` is "ann", `auth.id` is "eve""#,
        ]
    );
    let made = told(
        Action::Create,
        "doc.owner == auth.id && doc.team.lead == 'bob'",
        Incoming::Nothing,
    );
    assert!(!made.allowed && made.always, "{made:?}");
    assert_eq!(
        made.because(),
        [r#"`doc.owner == auth.id` is false: `doc.owner` is "ann", `auth.id` is "eve""#]
    );
    let made = told(Action::Create, "doc.team.lead == 'bob'", Incoming::Nothing);
    assert!(made.allowed && !made.always, "{made:?}");
}

#[test]
fn the_tree_has_every_part_that_is_no_constant() {
    let text = "doc.owner == auth.id || auth.metadata.level > 2 && doc.age in [7, 8]";
    let told = told(Action::Read, text, Incoming::Nothing);
    fn lines(seen: &Seen, depth: usize, out: &mut Vec<String>) {
        out.push(format!("{depth} {} = {}", seen.text, seen.came.words()));
        seen.parts.iter().for_each(|part| lines(part, depth + 1, out));
    }
    let mut out = Vec::new();
    lines(&told.root, 0, &mut out);
    assert!(told.allowed);
    assert_eq!(
        out,
        [
            format!("0 {text} = true").as_str(),
            "1 doc.owner == auth.id = false",
            r#"2 doc.owner = "ann""#,
            r#"2 auth.id = "eve""#,
            "1 auth.metadata.level > 2 && doc.age in [7, 8] = true",
            "2 auth.metadata.level > 2 = true",
            "3 auth.metadata.level = 3",
            "2 doc.age in [7, 8] = true",
            "3 doc.age = 7",
            "3 [7, 8] = [7,8]",
        ]
    );
}

#[test]
fn a_long_value_is_cut() {
    let long = "é".repeat(2000);
    let changes = [(2, Value::from(long.as_str()))];
    let incoming = Incoming::Changes {
        changes: &changes,
        sums: &[],
    };
    let told = told(Action::Update, "data.title == 'x'", incoming);
    let Came::Value(value) = &told.root.parts[0].came else {
        panic!("{told:?}");
    };
    let text = value.as_str().expect("a text");
    assert!(text.len() < 1100 && text.ends_with('…'), "{} bytes", text.len());
}
