//! Changes of the tables.

use std::sync::mpsc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Statement, Value};
use alyx_store::ReadCost;

use crate::support::{
    Backend, code, flat, ids, insert, migrate, read_of, single, step, with_items, write, write_of,
};

pub(crate) async fn a_migration_is_all_or_nothing(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let position = store.position().await.expect("a position");
    let steps = vec![
        Statement::new("CREATE TABLE more (id TEXT)", Vec::new()),
        Statement::new("ALTER TABLE items ADD COLUMN extra TEXT", Vec::new()),
        Statement::new(
            "INSERT INTO items (id, n) VALUES (?1, ?2)",
            vec!["b".into(), Value::Int(2)],
        ),
        Statement::new(
            "INSERT INTO items (id, n) VALUES (?1, ?2)",
            vec!["a".into(), Value::Int(2)],
        ),
    ];
    assert_eq!(code(store.migrate(steps).await), "UNIQUE_VIOLATION");
    assert_eq!(ids(&store).await, ["a"]);
    assert_eq!(store.position().await.expect("a position"), position);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'more'";
    assert_eq!(single(&store, tables).await, Value::Int(0));
    assert_eq!(
        code(write(&store, "UPDATE items SET extra = 'x'").await),
        "INTERNAL_ERROR"
    );
    insert(&store, "b", 1).await.expect("the store still writes");
}

pub(crate) async fn readers_see_the_new_columns(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let insert_all = "INSERT INTO items VALUES (?1, ?2, ?3) RETURNING *";
    let params = |id: &str| vec![Value::from(id), Value::Int(1), Value::Null];
    let returned = store
        .write(write_of(vec![step(insert_all, params("b"))]))
        .await
        .expect("a write");
    assert_eq!(returned.steps[0].rows[0].len(), 3);
    let widths = async || -> Vec<usize> {
        let mut widths = Vec::new();
        // Often enough that every reader and connection has the statement prepared.
        for cost in [ReadCost::Scan, ReadCost::Point].repeat(8) {
            let reply = store
                .read(read_of("SELECT * FROM items WHERE id = 'a'", cost))
                .await
                .expect("a read");
            widths.push(reply.results[0].rows[0].len());
        }
        widths.sort_unstable();
        widths.dedup();
        widths
    };
    assert_eq!(widths().await, [3]);
    migrate(&store, "ALTER TABLE items ADD COLUMN extra TEXT DEFAULT 'x'")
        .await
        .expect("a column");
    assert_eq!(widths().await, [4]);
    let short = store.write(write_of(vec![step(insert_all, params("c"))])).await;
    assert_eq!(
        code(short),
        "INTERNAL_ERROR",
        "the writer's statement follows, too"
    );
    migrate(&store, "ALTER TABLE items DROP COLUMN extra")
        .await
        .expect("no column");
    assert_eq!(widths().await, [3]);
    store
        .write(write_of(vec![step(insert_all, params("c"))]))
        .await
        .expect("a write");
}

const CHILDREN: &str = "
CREATE TABLE children (id TEXT PRIMARY KEY, item TEXT NOT NULL REFERENCES items (id) ON DELETE CASCADE);
INSERT INTO children (id, item) VALUES ('c', 'a');";

pub(crate) async fn a_table_with_references_can_be_rebuilt(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    migrate(&store, CHILDREN).await.expect("the children");
    let rebuild = "
        CREATE TABLE items_new (id TEXT PRIMARY KEY NOT NULL, n TEXT);
        INSERT INTO items_new (id, n) SELECT id, n FROM items;
        DROP TABLE items;
        ALTER TABLE items_new RENAME TO items;";
    migrate(&store, rebuild).await.expect("the table is rebuilt");
    assert_eq!(
        single(&store, "SELECT count(*) FROM children").await,
        Value::Int(1),
        "no cascade"
    );
    assert_eq!(single(&store, "SELECT n FROM items").await, Value::text("1"));
    let orphan = "INSERT INTO children (id, item) VALUES ('d', 'nobody')";
    assert_eq!(
        code(write(&store, orphan).await),
        "FOREIGN_KEY_VIOLATION",
        "keys are checked again"
    );
    write(&store, "DELETE FROM items").await.expect("a write");
    assert_eq!(
        single(&store, "SELECT count(*) FROM children").await,
        Value::Int(0),
        "and cascade"
    );
}

pub(crate) async fn dangling_references_are_refused(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    migrate(&store, CHILDREN).await.expect("the children");
    let error = migrate(&store, "DELETE FROM items")
        .await
        .expect_err("a dangling child");
    assert_eq!(error.code(), "FOREIGN_KEY_VIOLATION");
    assert!(error.message().contains("children"), "{}", error.message());
    assert_eq!(ids(&store).await, ["a"]);
}

pub(crate) async fn a_step_may_not_end_the_transaction(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    for end in ["COMMIT", "ROLLBACK", "END", "BEGIN", "ATTACH ':memory:' AS other"] {
        let sql = format!("INSERT INTO items (id, n) VALUES ('m', 1); {end}; SELECT 1");
        assert_eq!(
            code(migrate(&store, &sql).await),
            "STATEMENT_NOT_ALLOWED",
            "{end}"
        );
        assert!(ids(&store).await.is_empty(), "{end}");
    }
    insert(&store, "a", 1).await.expect("the store still writes");
    migrate(&store, "CREATE TABLE more (id TEXT)")
        .await
        .expect("and migrates");
}

pub(crate) async fn rows_of_a_migration_are_published(backend: &dyn Backend) {
    let (store, published) = with_items(backend).await;
    let empty = migrate(&store, "CREATE TABLE more (id TEXT)")
        .await
        .expect("a table");
    assert_eq!(empty, store.position().await.expect("a position"));
    let sql = "INSERT INTO items (id, n) VALUES ('a', 1), ('b', 2)";
    let position = migrate(&store, sql).await.expect("two rows");
    let commits = published.until(position).await;
    assert_eq!(commits.len(), 1);
    let seqs: Vec<u64> = commits[0].changes.iter().map(|change| flat(change).0).collect();
    assert_eq!(seqs, [1, 2]);
}

pub(crate) async fn an_alteration_sees_its_own_steps_and_is_all_or_nothing(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let columns = || {
        Statement::new(
            "SELECT name FROM pragma_table_info(?1) ORDER BY name",
            vec!["items".into()],
        )
    };
    let refused = Error::new(ErrorKind::InvalidInput, "NOT_LIKE_THAT", "no");
    let outcome = store.alter(move |tables| {
        tables.run("ALTER TABLE items ADD COLUMN extra TEXT; UPDATE items SET extra = 'x'")?;
        assert_eq!(tables.query(&columns())?.len(), 4);
        Err(refused)
    });
    assert_eq!(code(outcome.await), "NOT_LIKE_THAT");
    let extra = "SELECT count(*) FROM pragma_table_info('items') WHERE name = 'extra'";
    assert_eq!(single(&store, extra).await, Value::Int(0));
    let ended = store
        .alter(|tables| tables.run("DELETE FROM items; COMMIT"))
        .await;
    assert_eq!(code(ended), "STATEMENT_NOT_ALLOWED");
    store
        .alter(move |tables| {
            tables.run("ALTER TABLE items RENAME COLUMN n TO number")?;
            let renamed = tables.query(&columns())?;
            assert!(
                renamed.iter().any(|row| row[0] == Value::text("number")),
                "{renamed:?}"
            );
            Ok(())
        })
        .await
        .expect("renamed");
    assert_eq!(single(&store, "SELECT number FROM items").await, Value::Int(1));
}

pub(crate) async fn reads_are_served_while_the_tables_are_changed(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let ((half_way, at_half), (go_on, told)) = (tokio::sync::oneshot::channel(), mpsc::channel());
    let mut altering = tokio::task::JoinSet::new();
    let changed = store.clone();
    altering.spawn(async move {
        let work = changed.alter(move |tables| {
            tables.run("CREATE TABLE items_new (id TEXT PRIMARY KEY NOT NULL, n INTEGER)")?;
            tables.run("INSERT INTO items_new SELECT id, n + 1 FROM items; DROP TABLE items")?;
            half_way.send(()).expect("somebody waits");
            told.recv_timeout(Duration::from_secs(20)).expect("told to go on");
            tables.run("ALTER TABLE items_new RENAME TO items")
        });
        work.await.expect("altered");
    });
    at_half.await.expect("half-way");
    for _ in 0..8 {
        assert_eq!(
            single(&store, "SELECT n FROM items").await,
            Value::Int(1),
            "the old table is read"
        );
    }
    go_on.send(()).expect("it waits");
    altering.join_all().await;
    assert_eq!(single(&store, "SELECT n FROM items").await, Value::Int(2));
}
