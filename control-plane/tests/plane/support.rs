//! A project in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_config::Config;
use alyx_control_plane::{ControlPlane, Options};
use alyx_core::{Row, Statement, SystemClock, Value};
use alyx_service::health::{Report, Status};
use alyx_service::state::{DesiredState, StateWatch};
use alyx_service::tasks::Tasks;
use alyx_store::{EmbeddedOptions, Expect, Read, ReadCost, Store, Write, WriteStep};

pub(crate) struct Project {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) tasks: Tasks,
}

impl Project {
    pub(crate) fn new(schema: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store =
            Store::open_embedded(EmbeddedOptions::new(dir.path().join("alyx.db")), |_| {}).expect("opened");
        let project = Self {
            dir,
            store,
            tasks: Tasks::new(),
        };
        fs::create_dir(project.path("functions")).expect("made");
        project.write("schema.yaml", schema);
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes as editors do: another file, then a rename.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let unfinished = self.path(".unfinished");
        fs::write(&unfinished, text).expect("written");
        fs::rename(unfinished, self.path(name)).expect("renamed");
    }

    pub(crate) async fn try_start(&self, watch: bool) -> alyx_core::Result<Arc<ControlPlane>> {
        let mut functions = Config::default().functions;
        functions.path = self.path("functions");
        let options = Options {
            schema_path: self.path("schema.yaml"),
            functions: Some(functions),
            state_dir: self.path(".alyx"),
            watch,
            env: BTreeMap::new(),
        };
        ControlPlane::start(options, self.store.clone(), Arc::new(SystemClock), &self.tasks).await
    }

    pub(crate) async fn start(&self) -> Arc<ControlPlane> {
        self.try_start(true).await.expect("started")
    }

    pub(crate) async fn insert_post(&self) {
        self.execute("INSERT INTO posts (id, title) VALUES ('1', 'x')")
            .await;
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let write = Write {
            steps: vec![WriteStep {
                statement: Statement::new(sql, Vec::<Value>::new()),
                expect: Expect::Row,
            }],
            deadline: Instant::now() + Duration::from_secs(10),
        };
        if let Err(error) = self.store.write(write).await {
            panic!("{sql}: {error:?}");
        }
    }

    pub(crate) async fn count(&self, sql: &str) -> Option<i64> {
        self.rows(sql).await?[0][0].as_int()
    }

    /// The rows of a query; `None` where it fails.
    pub(crate) async fn rows(&self, sql: &str) -> Option<Vec<Row>> {
        let read = Read {
            statements: vec![Statement::new(sql, Vec::<Value>::new())],
            cost: ReadCost::Scan,
            deadline: Instant::now() + Duration::from_secs(10),
        };
        Some(self.store.read(read).await.ok()?.results.remove(0).rows)
    }

    /// The first column of a query as texts.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql).await.expect(sql);
        rows.iter()
            .map(|row| row[0].as_text().expect("text").to_owned())
            .collect()
    }

    /// Starts without following files, and says why the schema is not served, if it is not.
    pub(crate) async fn restart(&self) -> Option<String> {
        let plane = self.try_start(false).await.expect("started");
        let report = health(&plane, "schema").await;
        assert_eq!(report.status == Status::Healthy, report.message.is_none());
        report.message
    }
}

/// The first state for which `holds` is true.
pub(crate) async fn state_where(
    watch: &mut StateWatch,
    holds: impl Fn(&DesiredState) -> bool,
) -> Arc<DesiredState> {
    let found = tokio::time::timeout(Duration::from_secs(20), watch.wait_for(|state| holds(state)))
        .await
        .map(|state| Arc::clone(&state.expect("the plane lives")));
    found.unwrap_or_else(|_| panic!("the state is still {:?}", watch.borrow()))
}

pub(crate) async fn health(plane: &Arc<ControlPlane>, name: &str) -> Report {
    let check = plane
        .health_checks()
        .into_iter()
        .find(|check| check.name() == name)
        .expect("there is such a check");
    check.check().await
}

/// The first report for which `holds` is true.
pub(crate) async fn health_where(
    plane: &Arc<ControlPlane>,
    name: &str,
    holds: impl Fn(&Report) -> bool,
) -> Report {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let report = health(plane, name).await;
        if holds(&report) {
            return report;
        }
        assert!(Instant::now() < until, "the report is still {report:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
