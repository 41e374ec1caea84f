//! Conditions are checked by the writer's own transaction, and cost nobody but the write that sets them.

use alyx_core::Value;
use alyx_store::{Condition, Expect, KeptReply, Read, ReadCost, Store, Write, WriteStep};
use tokio::task::JoinSet;

use crate::atomicity::as_one_group;
use crate::support::{Backend, PATIENCE, code, ids, insert, insert_step, single, step, with_items, write_of};

const CONDITIONS: [(Condition, &str); 3] = [
    (Condition::Precondition, "PRECONDITION_FAILED"),
    (Condition::Snapshot, "TRANSACTION_CONFLICT"),
    (Condition::FreeKey, "IDEMPOTENCY_KEY_TAKEN"),
];

/// A step that holds where the document has that number.
fn check(id: &str, n: i64, condition: Condition) -> WriteStep {
    WriteStep {
        expect: Expect::Holds(condition),
        ..step(
            "SELECT 1 FROM items WHERE id = ?1 AND n = ?2",
            vec![id.into(), n.into()],
        )
    }
}

pub(crate) async fn a_condition_that_does_not_hold_undoes_the_write_and_names_its_step(
    backend: &dyn Backend,
) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let position = store.position().await.expect("a position");
    for (condition, expected) in CONDITIONS {
        for (steps, failing) in [
            (vec![check("a", 2, condition), insert_step("b", 1)], Some(0)),
            (vec![insert_step("b", 1), check("a", 2, condition)], Some(1)),
            (vec![insert_step("b", 1), check("missing", 1, condition)], Some(1)),
            (vec![check("a", 2, condition)], None),
        ] {
            let error = store.write(write_of(steps)).await.expect_err("it does not hold");
            assert_eq!((error.code(), error.step()), (expected, failing));
        }
        let met = write_of(vec![
            check("a", 1, condition),
            insert_step("c", 1),
            check("c", 1, condition),
            step("DELETE FROM items WHERE id = 'c'", Vec::new()),
        ]);
        store.write(met).await.expect("it holds");
    }
    assert_eq!(ids(&store).await, ["a"]);
    let log = store.read_log(position, 100).await.expect("the log");
    assert_eq!(
        log.commits.len(),
        CONDITIONS.len(),
        "failed writes leave no trace"
    );
}

pub(crate) async fn a_writing_step_can_be_a_condition_itself(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let raise = |from: i64| WriteStep {
        expect: Expect::Holds(Condition::Precondition),
        ..step(
            "UPDATE items SET n = n + 1 WHERE id = 'a' AND n = ?1 RETURNING n",
            vec![from.into()],
        )
    };
    let reply = store.write(write_of(vec![raise(1)])).await.expect("it holds");
    assert_eq!(reply.steps[0].rows, [vec![Value::Int(2)]]);
    let error = store.write(write_of(vec![raise(1)])).await;
    assert_eq!(code(error), "PRECONDITION_FAILED");
    let error = store.write(write_of(vec![insert_step("b", 1), raise(1)])).await;
    assert_eq!(code(error), "PRECONDITION_FAILED");
    assert_eq!(ids(&store).await, ["a"]);
}

pub(crate) async fn a_failing_condition_of_a_group_fails_alone(backend: &dyn Backend) {
    let writes: Vec<Write> = (0..16)
        .map(|turn| {
            let n = if turn % 4 == 0 { 1 } else { 0 };
            let own = insert_step(&format!("item-{turn:02}"), turn);
            write_of(match turn % 2 {
                0 => vec![check("gate", n, Condition::Snapshot), own],
                _ => vec![own],
            })
        })
        .collect();
    let (store, answers) = as_one_group(backend, "", writes).await;
    let failed: Vec<usize> = answers
        .iter()
        .enumerate()
        .filter_map(|(turn, answer)| answer.as_ref().err().map(|error| (turn, error.code())))
        .map(|(turn, code)| {
            assert_eq!(code, "TRANSACTION_CONFLICT");
            turn
        })
        .collect();
    assert_eq!(failed, [0, 4, 8, 12]);
    assert_eq!(ids(&store).await.len(), 1 + 16 - 4);
}

/// Of many who saw the same state, the first one to write wins.
pub(crate) async fn of_writes_on_the_same_condition_one_is_carried_out(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 0).await.expect("a write");
    let mut tasks = JoinSet::new();
    for turn in 0..100_i64 {
        let store = store.clone();
        tasks.spawn(async move {
            let steps = vec![
                check("a", 0, Condition::Snapshot),
                step("UPDATE items SET n = ?1 WHERE id = 'a'", vec![(turn + 1).into()]),
            ];
            store.write(write_of(steps)).await.is_ok()
        });
    }
    let done = tasks.join_all().await.into_iter().filter(|done| *done).count();
    assert_eq!(done, 1);
    assert_eq!(
        single(&store, "SELECT count(*) FROM _alyx_changes").await,
        Value::Int(2)
    );
}

fn reply(body: &str) -> KeptReply {
    KeptReply {
        request: [7; 32],
        status: 201,
        etag: Some("\"e\"".to_owned()),
        body: body.as_bytes().to_vec(),
    }
}

async fn kept(store: &Store, key: u8, since: i64) -> Option<KeptReply> {
    let read = Read {
        statements: vec![KeptReply::find([key; 32], since)],
        cost: ReadCost::Point,
        deadline: std::time::Instant::now() + PATIENCE,
    };
    let found = store.read(read).await.expect("a read");
    found.results[0].rows.first().and_then(KeptReply::from_row)
}

fn with_reply(id: &str, key: u8, (now, since): (i64, i64)) -> Write {
    let mut steps = Vec::from(reply(id).keep([key; 32], now, since));
    steps.push(insert_step(id, 1));
    write_of(steps)
}

pub(crate) async fn a_reply_is_kept_with_its_effects_and_only_once(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let mut tasks = JoinSet::new();
    for turn in 0..100 {
        let store = store.clone();
        tasks.spawn(async move { store.write(with_reply(&format!("i{turn:02}"), 1, (50, 0))).await });
    }
    let answers = tasks.join_all().await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1);
    for answer in refused {
        assert_eq!(code(answer), "IDEMPOTENCY_KEY_TAKEN");
    }
    let only = ids(&store).await;
    assert_eq!(only.len(), 1);
    assert_eq!(kept(&store, 1, 0).await, Some(reply(&only[0])));

    // Its effects fail, so there is no reply either.
    let failing = store.write(with_reply(&only[0], 2, (50, 0))).await;
    assert_eq!(code(failing), "UNIQUE_VIOLATION");
    assert_eq!(kept(&store, 2, 0).await, None);
}

pub(crate) async fn replies_that_are_too_old_make_room(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    for key in 0..10 {
        let write = with_reply(&format!("old-{key}"), key, (100, 0));
        store.write(write).await.expect("a write");
    }
    assert_eq!(kept(&store, 3, 101).await, None, "it is not found any more");
    // The key can be used again, and the others are gone with it.
    store
        .write(with_reply("new", 3, (300, 200)))
        .await
        .expect("a write");
    assert_eq!(kept(&store, 3, 200).await, Some(reply("new")));
    let left = single(&store, "SELECT count(*) FROM _alyx_idempotency").await;
    assert_eq!(left, Value::Int(1));
}
