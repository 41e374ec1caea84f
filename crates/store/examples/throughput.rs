//! How fast a store is on this machine, and how much CPU an operation costs (of this process).
//!
//! `cargo run --release -p alyx-store --example throughput -- [SECONDS] [FOLDER or URL of a libSQL server]`: inserts with 1, 16 and 64 callers
//! into a table of five fields with one index and the change trigger, then point reads and lists of 20.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{Error, Result, Statement, Value, new_uuid_v7};
use alyx_store::{Commit, EmbeddedOptions, Expect, Read, ReadCost, RemoteOptions, Store, Write, WriteStep};

const SCHEMA: &str = "
CREATE TABLE messages (
    id TEXT PRIMARY KEY NOT NULL, room TEXT NOT NULL, author TEXT, body TEXT, created TEXT
);
CREATE INDEX messages_room ON messages (room, created);
CREATE TRIGGER messages_insert AFTER INSERT ON messages BEGIN
    INSERT INTO _alyx_changes (collection, op, id, new) VALUES ('messages', 1, new.id, json_object(
        'id', new.id, 'room', new.room, 'author', new.author, 'body', new.body, 'created', new.created));
END;";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let place = arguments.next();
    let runtime = tokio::runtime::Runtime::new().map_err(Error::internal)?;
    let time = Duration::from_secs(seconds);
    if let Some(url) = place.as_deref().filter(|place| place.contains("://")) {
        return runtime.block_on(async {
            let (published, follower) = counter();
            let store = Store::open_remote(RemoteOptions::new(url), follower).await?;
            run(&store, &published, time).await
        });
    }
    let folder = place.map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("throughput-{}.db", std::process::id()));
    let outcome = runtime.block_on(async {
        let (published, follower) = counter();
        let store = Store::open_embedded(EmbeddedOptions::new(&path), follower)?;
        run(&store, &published, time).await
    });
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        // Some of them are gone already.
        let _ = std::fs::remove_file(name);
    }
    outcome
}

/// Counts the changes that are published.
fn counter() -> (Arc<AtomicU64>, impl Fn(Commit) + Send + Sync + 'static) {
    let published = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&published);
    (published, move |commit: Commit| {
        counter.fetch_add(commit.changes.len() as u64, Ordering::Relaxed);
    })
}

async fn run(store: &Store, published: &AtomicU64, time: Duration) -> Result<()> {
    let drop_old = "DROP TABLE IF EXISTS messages";
    for sql in [drop_old, SCHEMA] {
        store.migrate(vec![Statement::new(sql, Vec::new())]).await?;
    }
    println!(
        "{:<28} {:>10} {:>14} {:>12} {:>12}",
        "", "per second", "CPU µs each", "p50 µs", "p99 µs"
    );
    inserts(store, time).await?;
    reads(store, time).await?;
    let stats = store.stats();
    println!(
        "published {} of {} changes; batches {:?}",
        published.load(Ordering::Relaxed),
        stats.changes,
        stats.batches
    );
    println!(
        "database {} MiB, write-ahead log {} MiB",
        stats.database_bytes >> 20,
        stats.wal_bytes >> 20
    );
    store.close().await;
    Ok(())
}

async fn inserts(store: &Store, time: Duration) -> Result<()> {
    let insert: Arc<str> =
        "INSERT INTO messages (id, room, author, body, created) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id, room, author, body, created"
            .into();
    // The last two do something else between two writes, as a server does that reads and answers requests.
    for (callers, between) in [(1, 0), (16, 0), (64, 0), (16, 30), (64, 30)] {
        let work = {
            let (store, insert) = (store.clone(), Arc::clone(&insert));
            move |caller: usize, turn: u64| {
                let (store, insert) = (store.clone(), Arc::clone(&insert));
                async move {
                    busy(Duration::from_micros(between));
                    store
                        .write(insert_message(insert, caller, turn))
                        .await
                        .map(|_| ())
                }
            }
        };
        let before = store.stats();
        report(
            &format!("insert, {callers} callers, {between} µs"),
            callers,
            time,
            work,
        )
        .await?;
        let after = store.stats();
        println!(
            "  {:.1} writes per commit, {} checkpoints",
            (after.writes - before.writes) as f64 / (after.commits - before.commits).max(1) as f64,
            after.checkpoints - before.checkpoints
        );
    }
    Ok(())
}

async fn reads(store: &Store, time: Duration) -> Result<()> {
    for (name, cost, callers, sql) in [
        ("point read, 1 caller", ReadCost::Point, 1, GET),
        ("point read, 16 callers", ReadCost::Point, 16, GET),
        ("list of 20, 1 caller", ReadCost::Scan, 1, LIST),
        ("list of 20, 16 callers", ReadCost::Scan, 16, LIST),
    ] {
        let first = store
            .read(read(
                "SELECT id FROM messages LIMIT 1",
                Vec::new(),
                ReadCost::Scan,
            ))
            .await?;
        let key = match sql {
            GET => first.results[0].rows[0][0].clone(),
            _ => Value::text("room-3"),
        };
        let store = store.clone();
        report(name, callers, time, move |_, _| {
            let (store, key) = (store.clone(), key.clone());
            async move { store.read(read(sql, vec![key], cost)).await.map(|_| ()) }
        })
        .await?;
    }
    Ok(())
}

const GET: &str = "SELECT id, room, author, body, created FROM messages WHERE id = ?1";
const LIST: &str =
    "SELECT id, room, author, body, created FROM messages WHERE room = ?1 ORDER BY created DESC LIMIT 20";

fn insert_message(insert: Arc<str>, caller: usize, turn: u64) -> Write {
    let values = vec![
        Value::from(new_uuid_v7()),
        Value::from(format!("room-{}", turn % 50)),
        Value::from(format!("author-{caller}")),
        Value::from("a message of ordinary length, such as people write to each other all day long"),
        Value::from("2026-01-31T12:00:00.000Z"),
    ];
    Write {
        steps: vec![WriteStep {
            statement: Statement {
                sql: insert,
                params: values,
            },
            expect: Expect::Row,
        }],
        deadline: Instant::now() + Duration::from_secs(10),
    }
}

fn read(sql: &str, params: Vec<Value>, cost: ReadCost) -> Read {
    Read {
        statements: vec![Statement::new(sql, params)],
        cost,
        deadline: Instant::now() + Duration::from_secs(10),
    }
}

/// Runs `work` over and over from `callers` tasks for `time`, and prints a line.
async fn report<W, F>(name: &str, callers: usize, time: Duration, work: W) -> Result<()>
where
    W: Fn(usize, u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let end = Instant::now() + time;
    let (began, cpu) = (Instant::now(), process_cpu());
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let work = work.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let started = Instant::now();
                work(caller, latencies.len() as u64).await?;
                latencies.push(started.elapsed());
            }
            Ok::<_, Error>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended.map_err(Error::internal)??);
    }
    let (elapsed, cpu) = (began.elapsed(), process_cpu().saturating_sub(cpu));
    latencies.sort_unstable();
    let percentile = |percent: usize| {
        latencies
            .get(latencies.len() * percent / 100)
            .map_or(0, Duration::as_micros)
    };
    let count = latencies.len() as f64;
    println!(
        "{name:<28} {:>10.0} {:>14.1} {:>12} {:>12}",
        count / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count,
        percentile(50),
        percentile(99)
    );
    Ok(())
}

/// Uses the CPU for `time`.
fn busy(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// CPU time of this process in user and kernel, in steps of 10 ms (`proc_pid_stat(5)`).
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
