//! Measures what the hop between a realtime node and a gateway costs: the time that it adds to a change, and the CPU
//! time of both ends, against a link inside one process. Run it in release mode.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_bus::Bus;
use alyx_core::{Seq, Statement};
use alyx_gateway::{RemoteRealtime, RemoteRealtimeParts};
use alyx_query::parse_query_json;
use alyx_realtime_node::{Limits, NodeParts, RealtimeNode, RealtimeRpc};
use alyx_rpc::Security;
use alyx_schema::Collection;
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::realtime::{GroupCommand, GroupEvent, GroupId, RealtimeLink, RealtimeService};
use alyx_service::state::DesiredState;
use alyx_service::tasks::Tasks;
use alyx_store::{Change, ChangeOp, Commit, EmbeddedOptions, Store};
use serde_json::json;
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
const ROOMS: u64 = 1_000;
const ALONE: u64 = 20_000;
const IN_RUNS: u64 = 200_000;
/// Changes published before all of them have arrived.
const RUN: u64 = 200;

type Failure = Box<dyn Error + Send + Sync>;

struct Setup {
    bus: Bus,
    node: Arc<RealtimeNode>,
    collection: Arc<Collection>,
    state: watch::Sender<Arc<DesiredState>>,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    println!(
        "one change after another: time until the gateway has it; in runs of {RUN}: CPU time of the process per change"
    );
    for remote in [false, true, false, true] {
        runtime.block_on(measure(remote))?;
    }
    Ok(())
}

async fn measure(remote: bool) -> Result<(), Failure> {
    let setup = set_up().await?;
    let (name, mut link) = if remote {
        ("over gRPC", setup.remote().await?)
    } else {
        ("in one process", setup.node.connect().await?)
    };
    for room in 0..ROOMS {
        let query = json!({"filter": {"room": format!("room-{room}")}, "sort": "-created_at", "limit": 50});
        let open = GroupCommand::Open {
            group: GroupId(room),
            query: Arc::new(parse_query_json(&setup.collection, &query)?),
            have: None,
            trace: None,
        };
        link.commands.send(open).await?;
    }
    for _ in 0..ROOMS {
        link.events.recv().await;
    }
    let mut times = Vec::new();
    for seq in 1..=ALONE {
        let began = Instant::now();
        setup.bus.publish(message(seq));
        changed(&mut link, 1).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1000].as_secs_f64() * 1e6;
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut seq = ALONE;
    while seq < ALONE + IN_RUNS {
        for _ in 0..RUN {
            seq += 1;
            setup.bus.publish(message(seq));
        }
        changed(&mut link, RUN).await;
    }
    let (taken, cpu) = (began.elapsed(), cpu_time().saturating_sub(cpu));
    println!(
        "  {name:<15} p50 {:>6.1} µs  p99 {:>6.1} µs  p99.9 {:>6.1} µs   CPU {:>5.2} µs   {:>7.0} changes/s",
        at(500),
        at(990),
        at(999),
        cpu.as_secs_f64() * 1e6 / IN_RUNS as f64,
        IN_RUNS as f64 / taken.as_secs_f64(),
    );
    setup.tasks.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// Waits for that many changes.
async fn changed(link: &mut RealtimeLink, count: u64) {
    let mut events = Vec::new();
    let mut seen = 0;
    while seen < count && link.events.recv_many(&mut events, 256).await > 0 {
        let changes = events
            .drain(..)
            .filter(|event| matches!(event, GroupEvent::Changed { .. }));
        seen += changes.count() as u64;
    }
}

/// CPU time of the whole process in steps of 10 ms, where the system tells it (Linux).
fn cpu_time() -> Duration {
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = told
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |place: usize| {
        fields
            .get(place)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

async fn set_up() -> Result<Setup, Failure> {
    let folder = tempfile::tempdir()?;
    let bus = Bus::in_process(4_096);
    let store = Store::open_embedded(EmbeddedOptions::new(folder.path().join("data.db")), |_| {})?;
    let schema = alyx_schema::parse(SCHEMA, "schema.yaml")
        .map_err(|_| "the schema is wrong")?
        .schema;
    let collection = Arc::clone(schema.collection("messages").ok_or("it is not declared")?);
    let sql = alyx_schema::create_table(&collection)
        .into_iter()
        .chain(alyx_schema::triggers(&collection));
    store
        .migrate(sql.map(|sql| Statement::new(sql, Vec::new())).collect())
        .await?;
    let state = watch::Sender::new(Arc::new(DesiredState {
        revision: 1,
        schema_revision: 1,
        schema: Arc::new(schema),
        functions: Arc::default(),
    }));
    let tasks = Tasks::new();
    let node = RealtimeNode::start(NodeParts {
        store,
        bus: bus.clone(),
        state: state.subscribe(),
        tasks: tasks.clone(),
        limits: Limits::default(),
    });
    Ok(Setup {
        bus,
        node,
        collection,
        state,
        tasks,
        _folder: folder,
    })
}

impl Setup {
    async fn remote(&self) -> Result<RealtimeLink, Failure> {
        let security = Security::new(Some("a token that is long enough for this"), None)?;
        let rpc = RealtimeRpc::new(Arc::clone(&self.node), self.state.subscribe(), self.tasks.clone());
        let listener = alyx_rpc::bind("127.0.0.1:0").await?;
        let server = alyx_rpc::serve(listener, &security, rpc.routes(), &self.tasks).await?;
        let node = ClusterNode {
            id: "node".to_owned(),
            role: Role::RealtimeNode,
            address: server.local_addr().to_string(),
            draining: false,
        };
        let nodes = watch::Sender::new(Arc::new(vec![node]));
        let remote = RemoteRealtime::new(RemoteRealtimeParts {
            nodes: nodes.subscribe(),
            state: self.state.subscribe(),
            security,
            tasks: self.tasks.clone(),
        });
        Ok(remote.connect().await?)
    }
}

/// One message as the trigger writes it.
fn message(seq: u64) -> Commit {
    let new = json!({
        "id": seq,
        "room": format!("room-{}", seq.wrapping_mul(7_919) % ROOMS),
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
