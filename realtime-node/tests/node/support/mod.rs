//! A node on a real database, and gateways that check what it tells them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alyx_bus::Bus;
use alyx_core::{Seq, Statement, Value};
use alyx_query::{Query, Reach, Scope, parse_query_json};
use alyx_realtime_node::{Limits, NodeParts, RealtimeNode, Stats};
use alyx_schema::{Collection, Schema, write_json};
use alyx_service::realtime::{
    Document, GroupCommand, GroupEvent, GroupId, RealtimeLink, RealtimeService, WindowChange,
};
use alyx_service::state::DesiredState;
use alyx_service::tasks::Tasks;
use alyx_store::{EmbeddedOptions, Expect, Read, ReadCost, Store, Write, WriteStep};
use serde_json::Value as Json;
use tokio::sync::watch;

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const SCHEMA: &str = "
collections:
  tasks:
    fields:
      id: {type: int, primary: true, default: auto}
      room: {type: string}
      rank: {type: int, nullable: true}
      done: {type: bool, default: false}
      title: {type: text, default: ''}
";

pub(crate) fn schema(source: &str) -> Arc<Schema> {
    Arc::new(
        alyx_schema::parse(source, "schema.yaml")
            .expect("the schema is right")
            .schema,
    )
}

/// A node with everything around it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) node: Arc<RealtimeNode>,
    pub(crate) tasks: Tasks,
    pub(crate) collection: Arc<Collection>,
    state: watch::Sender<Arc<DesiredState>>,
    silent: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(limits: Limits) -> Self {
        Self::with_schema(limits, SCHEMA, "tasks").await
    }

    /// A world of that schema, whose queries are over that collection.
    pub(crate) async fn with_schema(limits: Limits, source: &str, collection: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        let bus = Bus::in_process(1024);
        let silent = Arc::new(AtomicBool::new(false));
        let store = {
            let (bus, silent) = (bus.clone(), Arc::clone(&silent));
            let path: PathBuf = folder.path().join("data.db");
            Store::open_embedded(EmbeddedOptions::new(path), move |commit| {
                if !silent.load(Ordering::SeqCst) {
                    bus.publish(commit);
                }
            })
            .expect("a database opens")
        };
        let schema = schema(source);
        let collection = Arc::clone(schema.collection(collection).expect("it is declared"));
        for collection in schema.collections.values() {
            let tables = alyx_schema::create_table(collection);
            let sql = tables.into_iter().chain(alyx_schema::triggers(collection));
            migrate(&store, sql).await;
        }
        let (state, watched) = watch::channel(Arc::new(desired(1, schema)));
        let tasks = Tasks::new();
        let node = RealtimeNode::start(NodeParts {
            store: store.clone(),
            bus,
            state: watched,
            tasks: tasks.clone(),
            limits,
        });
        Self {
            store,
            node,
            tasks,
            collection,
            state,
            silent,
            _folder: folder,
        }
    }

    /// From now on the bus loses everything, or no longer.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// The control plane has migrated to another schema.
    pub(crate) fn serve(&self, revision: u64, schema: Arc<Schema>) {
        self.state.send_replace(Arc::new(desired(revision, schema)));
    }

    pub(crate) fn query(&self, json: &Json) -> Arc<Query> {
        Arc::new(parse_query_json(&self.collection, json).expect("the query is right"))
    }

    pub(crate) async fn gateway(&self) -> Gateway {
        Gateway {
            link: self.node.connect().await.expect("the node is there"),
            mirrors: HashMap::new(),
        }
    }

    /// One commit (perhaps together with others that are waiting).
    pub(crate) async fn write(&self, statements: Vec<Statement>) {
        let steps = statements.into_iter().map(|statement| WriteStep {
            statement,
            expect: Expect::Any,
        });
        let write = Write {
            steps: steps.collect(),
            deadline: Instant::now() + PATIENCE,
        };
        self.store.write(write).await.expect("the write is right");
    }

    /// A query that may look into other documents.
    pub(crate) fn query_across(&self, json: &Json) -> Arc<Query> {
        let state = self.state.borrow().clone();
        let scope = Scope::new(&state.schema, &self.collection, Reach::Caller);
        Arc::new(parse_query_json(scope, json).expect("the query is right"))
    }

    /// What the query returns now.
    pub(crate) async fn result(&self, query: &Query) -> (Vec<String>, u64) {
        let (docs, total, _) = self.result_at(query).await;
        (docs, total)
    }

    /// What the query returns now, and at which position.
    pub(crate) async fn result_at(&self, query: &Query) -> (Vec<String>, u64, Seq) {
        let read = Read {
            statements: vec![query.select(), query.count()],
            cost: ReadCost::Scan,
            deadline: Instant::now() + PATIENCE,
        };
        let reply = self.store.read(read).await.expect("the query runs");
        let shown = query.fields.as_deref();
        let json = |row: &Vec<Value>| {
            let mut out = Vec::new();
            write_json(&query.collection, row, shown, &mut out);
            String::from_utf8(out).expect("JSON is text")
        };
        let docs = reply.results[0].rows.iter().map(json).collect();
        let total = reply.results[1].rows[0][0].as_int().expect("a count");
        (docs, u64::try_from(total).expect("a count"), reply.position)
    }

    /// Waits until the node's figures are as wanted.
    pub(crate) async fn stats_become(&self, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        let until = Instant::now() + PATIENCE;
        loop {
            looks.tick().await;
            let stats = self.node.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(Instant::now() < until, "the node stays at {stats:?}");
        }
    }
}

pub(crate) async fn migrate(store: &Store, sql: impl Iterator<Item = String>) {
    let steps = sql.map(|sql| Statement::new(sql, Vec::new())).collect();
    store.migrate(steps).await.expect("the migration is right");
}

fn desired(revision: u64, schema: Arc<Schema>) -> DesiredState {
    DesiredState {
        revision,
        schema_revision: revision,
        schema,
        functions: Arc::default(),
    }
}

pub(crate) fn insert(id: i64, room: &str, rank: Option<i64>) -> Statement {
    Statement::new(
        "INSERT INTO tasks (id, room, rank, done, title) VALUES (?1, ?2, ?3, 0, 'new')",
        vec![id.into(), room.into(), rank.into()],
    )
}

pub(crate) fn set_rank(id: i64, rank: Option<i64>) -> Statement {
    Statement::new(
        "UPDATE tasks SET rank = ?1 WHERE id = ?2",
        vec![rank.into(), id.into()],
    )
}

pub(crate) fn delete(id: i64) -> Statement {
    Statement::new("DELETE FROM tasks WHERE id = ?1", vec![id.into()])
}

/// One group as its gateway sees it.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    pub(crate) docs: Vec<(Value, String)>,
    pub(crate) total: u64,
    pub(crate) at: Seq,
    /// How often it was told to start afresh.
    pub(crate) opened: usize,
    pub(crate) failed: Option<String>,
}

fn text(document: &Document) -> (Value, String) {
    let json = String::from_utf8(document.json.to_vec()).expect("JSON is text");
    (document.id.clone(), json)
}

impl Mirror {
    pub(crate) fn json(&self) -> Vec<String> {
        self.docs.iter().map(|(_, json)| json.clone()).collect()
    }

    fn take(&mut self, id: &Value) {
        let place = self.docs.iter().position(|(known, _)| known == id);
        self.docs
            .remove(place.unwrap_or_else(|| panic!("{id:?} leaves and is not there: {self:?}")));
    }

    fn apply(&mut self, change: &WindowChange) {
        change.deletes.iter().for_each(|id| self.take(id));
        change
            .updates
            .iter()
            .for_each(|(_, document)| self.take(&document.id));
        let mut entering: Vec<&(usize, Document)> = change.inserts.iter().chain(&change.updates).collect();
        entering.sort_by_key(|(place, _)| *place);
        for (place, document) in entering {
            self.docs.insert(*place, text(document));
        }
        self.total = change.total;
    }
}

/// A link and what it has been told.
pub(crate) struct Gateway {
    pub(crate) link: RealtimeLink,
    pub(crate) mirrors: HashMap<GroupId, Mirror>,
}

impl Gateway {
    pub(crate) async fn open(&mut self, group: u64, query: Arc<Query>) {
        self.open_from(group, query, None).await;
    }

    /// Opens a group whose window must not be older than `have`.
    pub(crate) async fn open_from(&mut self, group: u64, query: Arc<Query>, have: Option<u64>) {
        let group = GroupId(group);
        self.mirrors.insert(group, Mirror::default());
        let command = GroupCommand::Open {
            group,
            query,
            have: have.map(Seq),
            trace: None,
        };
        self.link.commands.send(command).await.expect("the node listens");
    }

    pub(crate) async fn close(&mut self, group: u64) {
        let group = GroupId(group);
        self.mirrors.remove(&group);
        self.link
            .commands
            .send(GroupCommand::Close { group })
            .await
            .expect("the node listens");
    }

    /// The next event, applied to its mirror; `None` where none comes in time.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<GroupEvent> {
        let event = tokio::time::timeout(time, self.link.events.recv()).await.ok()?;
        let event = event.expect("the node is there");
        match &event {
            GroupEvent::Opened {
                group,
                at,
                docs,
                total,
            } => {
                if let Some(mirror) = self.mirrors.get_mut(group) {
                    mirror.docs = docs.iter().map(text).collect();
                    (mirror.total, mirror.at) = (*total, *at);
                    mirror.opened += 1;
                }
            }
            GroupEvent::Changed {
                group,
                from,
                to,
                change,
            } => {
                if let Some(mirror) = self.mirrors.get_mut(group) {
                    assert_eq!(mirror.at, *from, "the chain of {group:?} is broken");
                    assert!(from < to);
                    mirror.apply(change);
                    mirror.at = *to;
                }
            }
            GroupEvent::Failed { group, error } => {
                if let Some(mirror) = self.mirrors.get_mut(group) {
                    mirror.failed = Some(error.code().to_owned());
                }
            }
        }
        Some(event)
    }

    pub(crate) async fn next(&mut self) -> GroupEvent {
        self.next_within(PATIENCE).await.expect("an event comes in time")
    }

    pub(crate) fn mirror(&self, group: u64) -> &Mirror {
        &self.mirrors[&GroupId(group)]
    }

    /// Takes events until the mirror is as wanted.
    pub(crate) async fn until(&mut self, group: u64, wanted: impl Fn(&Mirror) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !wanted(self.mirror(group)) {
            let patience = until.saturating_duration_since(Instant::now());
            let event = self.next_within(patience).await;
            assert!(
                event.is_some(),
                "nothing more comes, and {:?}",
                self.mirror(group)
            );
        }
    }

    /// Takes events until the mirror is what the query returns.
    pub(crate) async fn settles(&mut self, world: &World, group: u64, query: &Query) {
        let (docs, total) = world.result(query).await;
        self.until(group, |mirror| {
            mirror.opened > 0 && mirror.total == total && mirror.json() == docs
        })
        .await;
    }
}
