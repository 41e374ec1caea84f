//! What the database itself knows, asked past every role: who may write, who did, and the change log.
//!
//! Triggers of the run's own write down, in each write's own transaction, which writer's batch it was and under which
//! epoch of the lease it was committed. A writer that goes on after another one took the lease shows as a second
//! writer in that epoch.

use alyx_core::Seq;
use alyx_store::{ChangeOp, Store};
use alyx_tests::{Cluster, Part, eventually};
use serde_json::{Value, json};

use super::COLLECTION;

/// Changes that are read at once.
const PAGE: usize = 2_000;

/// The writer's lease as it is in the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// The gateway that holds it.
    pub(crate) gateway: usize,
    pub(crate) epoch: i64,
}

/// Creates the tables and triggers of the audit.
pub(super) async fn begin(cluster: &Cluster) {
    let written = format!(
        "CREATE TRIGGER chaos_written AFTER INSERT ON _alyx_changes WHEN NEW.collection = '{COLLECTION}' BEGIN \
         INSERT INTO chaos_epochs (epoch, writer, changes) \
         SELECT (SELECT epoch FROM _alyx_lease WHERE name = 'writer'), writer, 1 FROM chaos_batch WHERE true \
         ON CONFLICT (epoch, writer) DO UPDATE SET changes = changes + 1; END"
    );
    for statement in [
        "CREATE TABLE chaos_batch (one INTEGER PRIMARY KEY, writer TEXT NOT NULL)",
        "CREATE TABLE chaos_epochs (epoch INTEGER, writer TEXT, changes INTEGER, PRIMARY KEY (epoch, writer))",
        "INSERT INTO chaos_batch VALUES (1, 'nobody')",
        "CREATE TRIGGER chaos_began AFTER INSERT ON _alyx_writers BEGIN UPDATE chaos_batch SET writer = NEW.id; END",
        "CREATE TRIGGER chaos_went_on AFTER UPDATE ON _alyx_writers BEGIN UPDATE chaos_batch SET writer = NEW.id; END",
        &written,
    ] {
        cluster.sql(statement).await.expect("the audit is set up");
    }
}

pub(super) async fn lease(cluster: &Cluster) -> Option<Lease> {
    let rows = cluster
        .sql("SELECT address, epoch FROM _alyx_lease WHERE name = 'writer'")
        .await
        .ok()?;
    let [address, epoch] = rows.first()?.as_slice() else {
        return None;
    };
    let leads_to = |gateway: &usize| {
        let inbound = cluster.links(Part::Gateway, *gateway).inbound.address();
        *address == inbound.to_string()
    };
    Some(Lease {
        gateway: (0..2).find(leads_to)?,
        epoch: epoch.parse().ok()?,
    })
}

pub(super) async fn epochs(cluster: &Cluster) -> Value {
    let rows = asked(
        cluster,
        "SELECT epoch, writer, changes FROM chaos_epochs ORDER BY epoch",
    )
    .await;
    let row =
        |row: Vec<String>| json!({"epoch": number(&row[0]), "writer": row[1], "changes": number(&row[2])});
    rows.into_iter().map(row).collect()
}

/// The change log of a database on a server.
pub(super) async fn log(cluster: &Cluster) -> Vec<Value> {
    let mut log = Vec::new();
    loop {
        let after = log
            .last()
            .map_or(0, |last: &Value| last["seq"].as_u64().unwrap_or(0));
        let page = format!(
            "SELECT c.seq, c.op, c.old, c.new, k.seq IS NOT NULL FROM _alyx_changes c \
             LEFT JOIN _alyx_commits k ON k.seq = c.seq WHERE c.seq > {after} ORDER BY c.seq LIMIT {PAGE}"
        );
        let rows = asked(cluster, &page).await;
        let last = rows.len() < PAGE;
        log.extend(rows.into_iter().map(|row| {
            let ops = ["insert", "update", "delete"];
            let op = number(&row[1])
                .checked_sub(1)
                .and_then(|op| ops.get(usize::try_from(op).ok()?));
            change(
                number(&row[0]),
                op.copied().unwrap_or("strange"),
                (&row[2], &row[3]),
                row[4] == "1",
            )
        }));
        if last {
            return log;
        }
    }
}

/// The change log of a database file.
pub(super) async fn log_of(store: &Store) -> Vec<Value> {
    let mut log = Vec::new();
    let mut after = Seq(0);
    loop {
        let read = store.read_log(after, PAGE).await.expect("the log can be read");
        let Some(last) = read.commits.last() else {
            return log;
        };
        after = last.position;
        for commit in &read.commits {
            log.extend(commit.changes.iter().map(|one| {
                let op = match one.op {
                    ChangeOp::Insert => "insert",
                    ChangeOp::Update => "update",
                    ChangeOp::Delete => "delete",
                };
                let images = (one.old.as_deref().unwrap_or(""), one.new.as_deref().unwrap_or(""));
                change(one.seq.0, op, images, one.seq == commit.position)
            }));
        }
    }
}

fn change(seq: u64, op: &str, (old, new): (&str, &str), ends_commit: bool) -> Value {
    let image = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    json!({"seq": seq, "op": op, "old": image(old), "new": image(new), "ends_commit": ends_commit})
}

async fn asked(cluster: &Cluster, sql: &str) -> Vec<Vec<String>> {
    eventually("the database answers", || cluster.sql(sql)).await
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}
