//! A write is carried out whole or not at all, whatever becomes of its neighbours.

use alyx_core::{Result, Value};
use alyx_store::{Expect, ReadCost, Store, Write, WriteReply, WriteStep};
use tokio::task::JoinSet;

use crate::support::{
    Backend, Tuning, code, ids, insert, insert_step, migrate, read_of, scan, step, with_gate, with_items,
    write, write_of,
};

pub(crate) async fn a_failing_step_undoes_the_whole_write(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let position = store.position().await.expect("a position");
    let failing = write_of(vec![
        insert_step("b", 1),
        insert_step("c", 1),
        insert_step("a", 1),
    ]);
    assert_eq!(code(store.write(failing).await), "UNIQUE_VIOLATION");
    assert_eq!(ids(&store).await, ["a"]);
    assert_eq!(
        store.position().await.expect("a position"),
        position,
        "no trace in the log"
    );
}

pub(crate) async fn a_write_is_about_rows(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let refused = [
        "COMMIT",
        "ROLLBACK",
        "RELEASE step",
        "PRAGMA foreign_keys = OFF",
        "CREATE TABLE t (a)",
        "INSERT INTO items (id, n) VALUES ('x', 1); INSERT INTO items (id, n) VALUES ('y', 1)",
        "",
    ];
    for sql in refused {
        let steps = vec![insert_step("a", 1), step(sql, Vec::new()), insert_step("b", 1)];
        assert_eq!(
            code(store.write(write_of(steps)).await),
            "STATEMENT_NOT_ALLOWED",
            "{sql}"
        );
        assert!(ids(&store).await.is_empty(), "{sql}");
    }
    insert(&store, "a", 1).await.expect("a write");
}

/// Queues the writes while the writer is held up, so that they are one group, and returns their answers in order.
pub(crate) async fn as_one_group(
    backend: &dyn Backend,
    set_up: &str,
    writes: Vec<Write>,
) -> (Store, Vec<Result<WriteReply>>) {
    let (store, gate, published) = with_gate(backend, Tuning::default()).await;
    let (before, waiting) = (store.stats(), writes.len());
    let mut tasks = JoinSet::new();
    if !set_up.is_empty() {
        let (store, set_up) = (store.clone(), set_up.to_owned());
        let queued = store.stats().write_queue;
        let migrating = store.clone();
        tasks.spawn(async move {
            (
                usize::MAX,
                migrate(&migrating, &set_up).await.map(|_| WriteReply::default()),
            )
        });
        crate::support::eventually("the migration waits", || {
            (store.stats().write_queue > queued).then_some(())
        })
        .await;
    }
    for (index, write) in writes.into_iter().enumerate() {
        let (task_store, queued) = (store.clone(), store.stats().write_queue);
        tasks.spawn(async move { (index, task_store.write(write).await) });
        crate::support::eventually("the write waits", || {
            (store.stats().write_queue > queued).then_some(())
        })
        .await;
    }
    gate.open();
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.truncate(waiting);
    let last = store.position().await.expect("a position");
    published.until(last).await;
    assert!(store.stats().commits > before.commits);
    (store, answers.into_iter().map(|(_, answer)| answer).collect())
}

pub(crate) async fn a_failing_write_of_a_group_fails_alone(backend: &dyn Backend) {
    let writes = (0..20)
        .map(|turn| match turn % 4 {
            0 => write_of(vec![insert_step("gate", turn)]),
            1 => write_of(vec![
                insert_step(&format!("first-{turn:02}"), turn),
                insert_step("gate", turn),
            ]),
            2 => write_of(vec![insert_step(&format!("one-{turn:02}"), turn)]),
            _ => write_of(vec![
                insert_step(&format!("two-{turn:02}-a"), turn),
                insert_step(&format!("two-{turn:02}-b"), turn),
            ]),
        })
        .collect();
    let (store, answers) = as_one_group(backend, "", writes).await;
    for (turn, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), turn % 4 >= 2, "write {turn}: {answer:?}");
    }
    let positions: Vec<_> = answers.iter().flatten().map(|reply| reply.position).collect();
    assert!(
        positions.windows(2).all(|pair| pair[0] == pair[1]),
        "one commit: {positions:?}"
    );
    let found = ids(&store).await;
    assert_eq!(found.len(), 1 + 5 + 10, "{found:?}");
    assert!(!found.iter().any(|id| id.starts_with("first")), "{found:?}");
}

pub(crate) async fn inserts_that_are_alike_are_answered_one_by_one(backend: &dyn Backend) {
    alike(backend, None).await;
}

pub(crate) async fn a_refused_insert_among_alike_ones_fails_alone(backend: &dyn Backend) {
    alike(backend, Some(40)).await;
}

/// One group of inserts, of which the one at `refused` has a key that is taken.
async fn alike(backend: &dyn Backend, refused: Option<i64>) {
    const INSERTS: i64 = 150;
    let key = |turn: i64| format!("{:03}", if refused == Some(turn) { 0 } else { turn });
    let writes = (0..INSERTS)
        .map(|turn| write_of(vec![insert_step(&key(turn), turn)]))
        .collect();
    let (store, answers) = as_one_group(backend, "", writes).await;
    for (turn, answer) in (0..).zip(&answers) {
        let affected = answer.as_ref().map(|reply| reply.steps[0].affected).ok();
        let expected = (refused != Some(turn)).then_some(1);
        assert_eq!(affected, expected, "insert {turn}: {answer:?}");
    }
    let found = scan(&store, "SELECT id, n FROM items WHERE id <> 'gate' ORDER BY n")
        .await
        .expect("rows");
    let expected: Vec<Vec<Value>> = (0..INSERTS)
        .filter(|turn| refused != Some(*turn))
        .map(|turn| vec![key(turn).into(), turn.into()])
        .collect();
    assert_eq!(found.results[0].rows, expected);
}

pub(crate) async fn a_statement_that_leaves_rows_behind_is_undone(backend: &dyn Backend) {
    // `OR FAIL` keeps the rows before the one that fails.
    let partial = step(
        "INSERT OR FAIL INTO items (id, n) VALUES ('x', 1), ('gate', 1)",
        Vec::new(),
    );
    let writes = vec![
        write_of(vec![insert_step("before", 1)]),
        write_of(vec![partial]),
        write_of(vec![insert_step("after", 1)]),
    ];
    let (store, answers) = as_one_group(backend, "", writes).await;
    let outcomes: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(ids(&store).await, ["after", "before", "gate"]);
}

pub(crate) async fn a_trigger_that_rolls_back_costs_only_its_own_write(backend: &dyn Backend) {
    let trigger = "CREATE TRIGGER forbidden BEFORE INSERT ON items WHEN new.n < 0 BEGIN
        SELECT raise(ROLLBACK, 'negative');
    END";
    let writes = (0..12)
        .map(|turn| {
            write_of(vec![insert_step(
                &format!("{turn:02}"),
                if turn % 3 == 0 { -1 } else { 1 },
            )])
        })
        .collect();
    let (store, answers) = as_one_group(backend, trigger, writes).await;
    for (turn, answer) in answers.into_iter().enumerate() {
        if turn % 3 == 0 {
            assert_eq!(code(answer), "CONSTRAINT_VIOLATION", "write {turn}");
        } else {
            answer.expect("an innocent write");
        }
    }
    assert_eq!(ids(&store).await.len(), 1 + 8);
}

pub(crate) async fn a_deferred_violation_costs_only_its_own_write(backend: &dyn Backend) {
    let table = "CREATE TABLE replies (id TEXT PRIMARY KEY, \
         item TEXT REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED)";
    let reply = |id: &str, item: &str| {
        let sql = "INSERT INTO replies (id, item) VALUES (?1, ?2)";
        write_of(vec![step(sql, vec![id.into(), item.into()])])
    };
    let writes = vec![
        reply("1", "gate"),
        reply("2", "nowhere"),
        write_of(vec![insert_step("new", 1)]),
        reply("3", "new"),
    ];
    let (store, answers) = as_one_group(backend, table, writes).await;
    let codes: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.map_or_else(|error| error.code().to_owned(), |_| "ok".to_owned()))
        .collect();
    assert_eq!(codes, ["ok", "FOREIGN_KEY_VIOLATION", "ok", "ok"]);
    assert_eq!(ids(&store).await, ["gate", "new"]);
}

pub(crate) async fn text_that_is_no_text_costs_only_its_own_write(backend: &dyn Backend) {
    let insert_note = |id: &str, sql: &str| {
        let sql = format!("INSERT INTO items (id, n, note) VALUES ('{id}', 1, {sql}) RETURNING note");
        write_of(vec![step(&sql, Vec::new())])
    };
    let broken = "CAST(x'ff' AS TEXT)";
    let poisoned = step(
        &format!("INSERT INTO items (id, n) VALUES ({broken}, 1)"),
        Vec::new(),
    );
    let writes = vec![
        insert_note("a", "'text'"),
        // In the reply, and in the change log.
        insert_note("b", broken),
        write_of(vec![poisoned]),
        insert_note("c", "'text'"),
    ];
    let (store, answers) = as_one_group(backend, "", writes).await;
    let outcomes: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [true, false, false, true]);
    assert_eq!(ids(&store).await, ["a", "c", "gate"]);
    for cost in [ReadCost::Point, ReadCost::Scan] {
        let read = store.read(read_of(&format!("SELECT {broken}"), cost)).await;
        assert_eq!(code(read), "INTERNAL_ERROR");
        store
            .read(read_of("SELECT 'text'", cost))
            .await
            .expect("the next read");
    }
}

pub(crate) async fn an_expected_row_that_is_missing_undoes_the_write(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let update = |id: &str, returning: &str| WriteStep {
        expect: Expect::Row,
        ..step(
            &format!("UPDATE items SET n = 2 WHERE id = ?1 {returning}"),
            vec![id.into()],
        )
    };
    for returning in ["", "RETURNING id, n"] {
        let failing = write_of(vec![insert_step("a", 1), update("missing", returning)]);
        assert_eq!(code(store.write(failing).await), "DOCUMENT_NOT_FOUND");
        assert!(ids(&store).await.is_empty());
    }
    insert(&store, "a", 1).await.expect("a write");
    let reply = store
        .write(write_of(vec![update("a", "RETURNING id, n")]))
        .await
        .expect("a write");
    assert_eq!(reply.steps[0].rows, [vec![Value::from("a"), Value::Int(2)]]);
    assert_eq!(reply.steps[0].affected, 1);
    let reply = store
        .write(write_of(vec![update("a", "")]))
        .await
        .expect("a write");
    assert_eq!((reply.steps[0].rows.len(), reply.steps[0].affected), (0, 1));
}

pub(crate) async fn a_returning_statement_over_the_bound_is_undone(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let many = "INSERT INTO items (id, n) \
         WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n <= 10000) \
         SELECT 'i' || n, n FROM c";
    let answer = write(&store, &format!("{many} RETURNING id")).await;
    assert_eq!(code(answer), "RESULT_TOO_LARGE");
    assert!(ids(&store).await.is_empty());
    let reply = write(&store, many).await.expect("the same without a result");
    assert_eq!(reply.steps[0].affected, 10_001);
    assert_eq!(reply.position.0, 10_001);
}
