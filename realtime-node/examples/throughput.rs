//! Measures what a change costs a node, by the number of live queries, and how a node keeps up with a store that
//! writes as fast as it can. Run it in release mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_bus::Bus;
use alyx_core::{Result, Seq, Statement};
use alyx_query::parse_query_json;
use alyx_realtime_node::{Limits, NodeParts, RealtimeNode, Stats};
use alyx_schema::Collection;
use alyx_service::realtime::{GroupCommand, GroupEvent, GroupId, RealtimeLink, RealtimeService};
use alyx_service::state::DesiredState;
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_store::{Change, ChangeOp, Commit, EmbeddedOptions, Expect, Store, Write, WriteStep};
use serde_json::{Value as Json, json};
use tokio::sync::watch;

const SCHEMA: &str = "
collections:
  messages:
    fields:
      id: {type: int, primary: true, default: auto}
      room: {type: string, index: true}
      author: {type: string}
      body: {type: text}
      created_at: {type: timestamp, default: now}
";
const CHANGES: u64 = 200_000;
const AT_ONCE: u64 = 200;
const WRITERS: u64 = 64;
const WRITE_FOR: Duration = Duration::from_secs(5);

struct Setup {
    store: Store,
    bus: Bus,
    node: Arc<RealtimeNode>,
    tasks: Tasks,
    collection: Arc<Collection>,
    _state: watch::Sender<Arc<DesiredState>>,
    _folder: tempfile::TempDir,
}

fn main() {
    let outcome = engine_alone_for_all().and_then(|()| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        runtime.block_on(with_the_store(1_000))
    });
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// On one thread, so that its CPU time is the cost, whatever else the machine does.
fn engine_alone_for_all() -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime starts");
    println!("engine alone: µs of CPU per change, by distinct live queries");
    for (name, groups, residual) in [
        ("one equality each", 1, false),
        ("one equality each", 1_000, false),
        ("one equality each", 20_000, false),
        ("no equality", 100, true),
    ] {
        runtime.block_on(engine_alone(name, groups, residual))?;
    }
    Ok(())
}

/// CPU time of this thread, where the system tells it (Linux), else the time of day.
fn thread_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().unwrap_or_default(),
        Duration::from_nanos,
    )
}

async fn set_up() -> Result<Setup> {
    let folder = tempfile::tempdir().expect("a folder for the database");
    let bus = Bus::in_process(4_096);
    let publisher = bus.clone();
    let options = EmbeddedOptions::new(folder.path().join("data.db"));
    let store = Store::open_embedded(options, move |commit| publisher.publish(commit))?;
    let schema = alyx_schema::parse(SCHEMA, "schema.yaml")
        .expect("the schema is right")
        .schema;
    let collection = Arc::clone(schema.collection("messages").expect("it is declared"));
    let sql = alyx_schema::create_table(&collection)
        .into_iter()
        .chain(alyx_schema::triggers(&collection));
    store
        .migrate(sql.map(|sql| Statement::new(sql, Vec::new())).collect())
        .await?;
    let (state, watched) = watch::channel(Arc::new(DesiredState {
        revision: 1,
        schema_revision: 1,
        schema: Arc::new(schema),
        functions: Arc::default(),
    }));
    let tasks = Tasks::new();
    let node = RealtimeNode::start(NodeParts {
        store: store.clone(),
        bus: bus.clone(),
        state: watched,
        tasks: tasks.clone(),
        limits: Limits::default(),
    });
    Ok(Setup {
        store,
        bus,
        node,
        tasks,
        collection,
        _state: state,
        _folder: folder,
    })
}

/// Opens the groups, then counts the transitions that arrive.
async fn follow(setup: &Setup, groups: u64, query: impl Fn(u64) -> Json) -> Result<Arc<AtomicU64>> {
    let RealtimeLink { commands, mut events } = setup.node.connect().await?;
    let collection = Arc::clone(&setup.collection);
    let queries: Vec<_> = (0..groups)
        .map(|group| parse_query_json(&collection, &query(group)).map(Arc::new))
        .collect::<Result<_>>()?;
    let sender = commands.clone();
    setup.tasks.spawn("open", OnEnd::Ignore, async move {
        for (group, query) in (0..).map(GroupId).zip(queries) {
            let open = GroupCommand::Open {
                group,
                query,
                have: None,
                trace: None,
            };
            let _ = sender.send(open).await;
        }
    });
    for _ in 0..groups {
        let _ = events.recv().await;
    }
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    setup.tasks.spawn("gateway", OnEnd::Ignore, async move {
        // Holds the link open.
        let _commands = commands;
        while let Some(event) = events.recv().await {
            if matches!(event, GroupEvent::Changed { .. }) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok(seen)
}

async fn engine_alone(name: &str, groups: u64, residual: bool) -> Result<()> {
    let setup = set_up().await?;
    let seen = follow(&setup, groups, |group| {
        if residual {
            json!({"filter": {"body": {"$like": format!("%{group}%")}}, "sort": "-created_at", "limit": 50})
        } else {
            json!({"filter": {"room": format!("room-{group}")}, "sort": "-created_at", "limit": 50})
        }
    })
    .await?;
    let commits: Vec<Commit> = (1..=CHANGES).map(|seq| message(seq, groups)).collect();
    let mut taken = Duration::ZERO;
    for some in commits.chunks(usize::try_from(AT_ONCE).expect("it is small")) {
        let last = some.last().map_or(Seq(0), |commit| commit.position);
        let began = thread_time();
        some.iter().cloned().for_each(|commit| setup.bus.publish(commit));
        let arrived =
            |stats: &Stats| stats.applied >= last && stats.transitions <= seen.load(Ordering::Relaxed);
        while !arrived(&setup.node.stats()) {
            tokio::task::yield_now().await;
        }
        taken += thread_time().saturating_sub(began);
    }
    println!(
        "  {name:<20} {groups:>6} groups  {:>6.2} µs  ({} transitions)",
        taken.as_secs_f64() * 1e6 / CHANGES as f64,
        seen.load(Ordering::Relaxed)
    );
    setup.tasks.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// One message as the trigger writes it.
fn message(seq: u64, rooms: u64) -> Commit {
    let new = json!({
        "id": seq,
        "room": format!("room-{}", seq.wrapping_mul(7_919) % rooms),
        "author": "0193e0d2-7a1c-7c3e-8f4b-1a2b3c4d5e6f",
        "body": "A message of the usual length, as people write them to each other all day long.",
        "created_at": alyx_core::format_timestamp(std::time::UNIX_EPOCH + Duration::from_millis(seq)),
    });
    let change = Change {
        seq: Seq(seq),
        collection: "messages".into(),
        op: ChangeOp::Insert,
        old: None,
        new: Some(new.to_string().into()),
    };
    Commit {
        position: Seq(seq),
        changes: Arc::new([change]),
        traces: Vec::new(),
    }
}

async fn with_the_store(rooms: u64) -> Result<()> {
    let setup = set_up().await?;
    let seen = follow(
        &setup,
        rooms,
        |group| json!({"filter": {"room": format!("room-{group}")}, "sort": "-created_at", "limit": 50}),
    )
    .await?;
    let until = Instant::now() + WRITE_FOR;
    let writers = Tasks::new();
    for writer in 0..WRITERS {
        let store = setup.store.clone();
        writers.spawn("writer", OnEnd::Ignore, async move {
            let mut turn = writer;
            while Instant::now() < until {
                turn += WRITERS;
                if let Err(error) = store.write(insert(turn, rooms)).await {
                    eprintln!("{error}");
                    return;
                }
            }
        });
    }
    let mut most_behind = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let applied = setup.node.stats().applied;
        most_behind = most_behind.max(setup.store.position().await?.0.saturating_sub(applied.0));
    }
    writers.stop(Duration::from_secs(10)).await;
    let head = setup.store.position().await?;
    let began = Instant::now();
    while setup.node.stats().applied < head {
        tokio::task::yield_now().await;
    }
    println!(
        "with the store, {rooms} live queries, {WRITERS} writers: {:.0} changes/s, {} transitions, at most {most_behind} \
         changes behind, caught up {:.1} ms after the last write; {:?}",
        head.0 as f64 / WRITE_FOR.as_secs_f64(),
        seen.load(Ordering::Relaxed),
        began.elapsed().as_secs_f64() * 1e3,
        setup.node.stats(),
    );
    setup.tasks.stop(Duration::from_secs(5)).await;
    Ok(())
}

fn insert(turn: u64, rooms: u64) -> Write {
    let room = format!("room-{}", turn.wrapping_mul(7_919) % rooms);
    Write {
        steps: vec![WriteStep {
            statement: Statement::new(
                "INSERT INTO messages (room, author, body, created_at) VALUES (?1, 'a', 'hello there', \
                 strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
                vec![room.into()],
            ),
            expect: Expect::Any,
        }],
        deadline: Instant::now() + Duration::from_secs(10),
    }
}
