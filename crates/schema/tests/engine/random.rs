//! From any schema to any other: what comes out is what a fresh database has, with the data that both can hold.
//!
//! Databases go through chains of random schemas, every one a step further from how it was made. What a plan refuses
//! is carried out by the migration that it proposes. `ALYX_SEED` repeats a run: nothing in it is of another's time or
//! chance.

mod chance;
mod compare;
mod data;
mod kinds;
mod memory;
mod model;

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use alyx_schema::{Limits, NotSettled, Plan, Schema, Transition, plan};
use chance::Chance;
use compare::Seen;
use kinds::Kinds;
use memory::{Memory, now};
use model::Model;

/// Migrations in all.
const PAIRS: usize = 10_000;
/// Migrations that one database goes through.
const CHAIN: usize = 20;

#[test]
fn ten_thousand_random_migrations_end_where_a_fresh_database_begins() {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not a setting")]
    let seed = std::env::var("ALYX_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(0xA17C_5EED);
    println!("ALYX_SEED={seed}");
    let kinds = Kinds::discover();
    let halves = [0, 1].map(|half| {
        let kinds = kinds.clone();
        std::thread::spawn(move || run((seed, half), PAIRS / CHAIN / 2, &kinds))
    });
    let tallies = halves.map(|half| half.join().expect("every migration arrived"));
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    let (all, refused, kept) = (sum(|t| t.all), sum(|t| t.refused), sum(|t| t.kept));
    let unfit = sum(|t| t.unfit);
    println!(
        "{all} migrations, {refused} of them by what was proposed, {unfit} refused for large numbers; {kept} values compared"
    );
    assert_eq!(all, PAIRS);
    // Otherwise it would not have tried what it is for.
    assert!(refused > PAIRS / 4 && all - refused > PAIRS / 5 && kept > 20 * PAIRS);
    assert!((1..PAIRS / 20).contains(&unfit));
}

#[test]
fn a_seed_repeats_its_run() {
    let kinds = Kinds::discover();
    let [first, again] = [0, 1].map(|_| run((7, 0), 5, &kinds));
    assert!(first.kept > 1000);
    assert_eq!(first.trace.finish(), again.trace.finish());
}

#[derive(Default)]
struct Tally {
    all: usize,
    refused: usize,
    kept: usize,
    /// Refused for what the documents hold.
    unfit: usize,
    /// Of all that was migrated.
    trace: DefaultHasher,
}

fn run((seed, half): (u64, u64), chains: usize, kinds: &Kinds) -> Tally {
    let mut tally = Tally::default();
    let mut chance = Chance::new(seed.wrapping_add(half));
    for chain in 0..chains {
        let mut model = Model::random(&mut chance, kinds);
        let database = Memory::with(&model.schema);
        let mut database = database;
        for link in 0..CHAIN {
            let next = model.next(&mut chance, kinds);
            data::fill(&mut database, &model.schema, &mut chance, kinds);
            let story = || {
                format!(
                    "seed {seed}, half {half}, chain {chain}, link {link}\nfrom\n{}\nto\n{}",
                    model.text, next.text
                )
            };
            if migrate(&mut database, (&model.schema, &next.schema), &mut tally, &story) {
                model = next;
            }
        }
    }
    tally
}

/// Whether it was carried out: whole numbers that no float can be are a reason to refuse it.
fn migrate(
    database: &mut Memory,
    (from, to): (&Arc<Schema>, &Arc<Schema>),
    tally: &mut Tally,
    story: &dyn Fn() -> String,
) -> bool {
    let plan = plan(from, to);
    let proposed = operations(&plan);
    let before = Seen::of(database, from);
    before.hash(&mut tally.trace);
    let transition = match &proposed {
        Some(operations) => Transition::new(
            Arc::clone(from),
            Arc::clone(to),
            operations.iter().map(String::as_str),
        ),
        None => Transition::direct(Arc::clone(from), Arc::clone(to)),
    };
    database.begin();
    let outcome = transition.carry_out(database, Limits::default(), |database| {
        for sql in proposed.iter().flatten() {
            alyx_schema::Database::run(database, sql)?;
        }
        Ok(())
    });
    tally.all += 1;
    if let Err(error) = outcome {
        let unfit = matches!(&error, NotSettled::Unfit { problem, .. } if problem.contains("2^53"));
        if unfit && before.has_beyond_float(from, to) {
            database.script("ROLLBACK");
            assert_eq!(before, Seen::of(database, from), "{}", story());
            tally.unfit += 1;
            return false;
        }
        panic!("{error}: {error:?}\n{proposed:#?}\n{}", story());
    }
    database.commit();
    let after = Seen::of(database, to);
    let fresh = Memory::with(to);
    let (is, should) = (compare::shape(database), compare::shape(&fresh));
    assert_eq!(is, should, "{}", story());
    let dangling = now(database.rows("PRAGMA foreign_key_check"));
    assert!(dangling.is_empty(), "{dangling:?}\n{proposed:#?}\n{}", story());
    assert_eq!(before.logged, after.logged, "nothing is logged\n{}", story());
    let kept = compare::data((from, &before), (to, &after), proposed.as_deref());
    match kept {
        Ok(kept) => tally.kept += kept,
        Err(problem) => panic!("{problem}\n{proposed:#?}\n{}", story()),
    }
    compare::search(database, to, &after, story);
    tally.refused += usize::from(proposed.is_some());
    true
}

#[test]
fn a_table_beyond_the_bound_is_not_made_anew() {
    let schema = |options: &str| {
        let text = format!("collections: {{notes: {{fields: {{n: {{type: int{options}}}}}}}}}");
        Arc::new(crate::schema(&text))
    };
    let (from, to) = (schema(""), schema(", default: 5"));
    let mut database = Memory::with(&from);
    database.script("INSERT INTO notes (id, n) VALUES ('1', 1), ('2', 2)");
    let transition = Transition::direct(from, to);
    let mut bounded = |most| {
        let limits = Limits {
            rebuilt_rows: Some(most),
        };
        database.begin();
        let outcome = transition.carry_out(&mut database, limits, |_| Ok(()));
        database.script(if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" });
        outcome
    };
    let error = bounded(1).expect_err("too large");
    assert!(
        error.to_string().contains("`notes`") && error.to_string().contains("2 rows, more than 1"),
        "{error}"
    );
    bounded(2).expect("small enough");
}

/// The SQL of the migration that a plan proposes.
fn operations(plan: &Plan) -> Option<Vec<String>> {
    let proposal = plan.proposal()?;
    let operations = proposal.operations.iter().map(|operation| {
        if let Some(sql) = operation.strip_prefix("{type: sql, up: '") {
            return sql.strip_suffix("'}").expect(operation).replace("''", "'");
        }
        let names = operation
            .strip_prefix("{type: rename_field, collection: ")
            .expect(operation);
        let names = names.strip_suffix('}').expect(operation);
        let names: Vec<&str> = names
            .split(", ")
            .map(|name| name.trim_start_matches("from: "))
            .collect();
        let to = names[2].trim_start_matches("to: ");
        format!(
            "ALTER TABLE \"{}\" RENAME COLUMN \"{}\" TO \"{to}\"",
            names[0], names[1]
        )
    });
    Some(operations.collect())
}
