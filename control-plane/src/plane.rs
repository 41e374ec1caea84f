//! The control plane of one database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alyx_core::{Clock, Error, ErrorKind, Result, with_causes};
use alyx_proto::admin::{ExplainRulesRequest, RulesExplanation};
use alyx_schema::Schema;
use alyx_service::health::SharedCheck;
use alyx_service::state::{self, DesiredState, Function, StateWatch};
use alyx_service::tasks::Tasks;
use alyx_store::Store;
use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, oneshot, watch};

use crate::apply::{Served, apply, first_schema, read_schema};
use crate::explain::explain;
use crate::functions::{Notice, Scan, Severity, Source};
use crate::health::{FunctionCheck, SchemaCheck};
use crate::options::Options;
use crate::proposal::{self, Proposal};
use crate::revision::{self, Kept, Revision};
use crate::schema::{Candidate, Refusal};
use crate::watch::Watcher;

/// Owner of the desired state. See the crate's documentation for its invariants.
pub struct ControlPlane {
    options: Options,
    functions: Option<Source>,
    store: Store,
    clock: Arc<dyn Clock>,
    state: watch::Sender<Arc<DesiredState>>,
    /// The same with the schema's text, for those who read it themselves.
    published: watch::Sender<Published>,
    /// The revision whose tables exist; held while a change is carried out, so that changes follow one another.
    applied: AsyncMutex<Revision>,
    /// What must not end half-way because whoever asked for it goes away.
    tasks: Tasks,
    /// What the functions folder held when it was last read, whether it fits the schema or not.
    scanned: Mutex<Arc<Scan>>,
    trouble: Mutex<Trouble>,
}

/// The desired state, and the text of its schema.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) state: Arc<DesiredState>,
    pub(crate) source: Arc<str>,
}

/// What is wrong at the moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble {
    /// Why the schema file is not what is served.
    pub(crate) schema: Option<String>,
    /// What is wrong with function files.
    pub(crate) functions: Vec<Notice>,
}

/// What changed on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The schema file or a migration.
    pub(crate) schema: bool,
    /// The functions folder.
    pub(crate) functions: bool,
}

impl ControlPlane {
    /// Brings the database to the schema, reads the functions and, where asked to, follows both.
    ///
    /// A schema that is broken or would lose data is refused; the last applied one is then served, and the health
    /// report says so. Function files with errors are left out and reported.
    ///
    /// # Errors
    /// `SCHEMA_INVALID` with every problem where there is no applied schema to go on with, `SCHEMA_HISTORY_BROKEN`,
    /// `FUNCTIONS_UNREADABLE`, and those of the store.
    pub async fn start(
        options: Options,
        store: Store,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>> {
        // Before anything is read, so that no change between reading and following is lost.
        let functions = options.function_source();
        let watcher = options
            .watch
            .then(|| Watcher::new(options.schema_path.clone(), functions.as_ref()));
        let mut trouble = Trouble::default();
        let (applied, served) = first_schema(&options, &store, &*clock, &mut trouble).await?;
        let scan = match &functions {
            Some(source) => scan(source.clone()).await?,
            None => Scan::default(),
        };
        let (fitting, notices) = scan.fitted(&served.schema);
        report(&notices);
        trouble.functions = notices;
        let state = DesiredState {
            revision: 1,
            schema_revision: applied.id.unsigned_abs(),
            schema: served.schema,
            functions: Arc::new(fitting),
        };
        let state = Arc::new(state);
        let plane = Arc::new(Self {
            options,
            functions,
            store,
            clock,
            state: watch::Sender::new(Arc::clone(&state)),
            published: watch::Sender::new(Published {
                state,
                source: served.source,
            }),
            applied: AsyncMutex::new(applied),
            tasks: tasks.clone(),
            scanned: Mutex::new(Arc::new(scan)),
            trouble: Mutex::new(trouble),
        });
        if let Some(watcher) = watcher {
            watcher.spawn(Arc::clone(&plane), tasks);
        }
        Ok(plane)
    }

    /// The parts whose health the control plane knows: `schema` and `function_sources`.
    pub fn health_checks(self: &Arc<Self>) -> Vec<SharedCheck> {
        vec![
            Arc::new(SchemaCheck(Arc::clone(self))),
            Arc::new(FunctionCheck(Arc::clone(self))),
        ]
    }

    /// What is wrong at the moment.
    pub(crate) fn trouble(&self) -> Trouble {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Applies what changed on disk and publishes it as one new state. What cannot be applied is logged and leaves
    /// the old in force.
    pub(crate) async fn refresh(&self, changed: Changed) {
        let mut applied = self.applied.lock().await;
        let schema = if changed.schema {
            self.refresh_schema(&mut applied).await
        } else {
            None
        };
        if changed.functions
            && let Err(error) = self.rescan().await
        {
            tracing::error!(error = %with_causes(&error), "the functions were not read again; the old ones are served");
        }
        self.publish(applied.id, schema);
    }

    /// The schema of the file, if it is another one and its tables exist now.
    async fn refresh_schema(&self, applied: &mut Revision) -> Option<Served> {
        let outcome = match read_schema(&self.options.schema_path).await {
            Ok(candidate) => self.apply(applied, candidate).await,
            Err(refusal) => Err(refusal),
        };
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(schema) => {
                if trouble.schema.take().is_some() && schema.is_none() {
                    tracing::info!("the schema file is what is served again");
                }
                schema
            }
            Err(refusal) => {
                tracing::error!("{refusal}\nthe old schema goes on being served");
                trouble.schema = Some(refusal.to_string());
                None
            }
        }
    }

    /// What is to be served now, if the candidate is another schema; its tables exist then.
    async fn apply(&self, applied: &mut Revision, candidate: Candidate) -> Result<Option<Served>, Refusal> {
        let served = Arc::clone(&self.state.borrow().schema);
        let next = Served::of(&candidate);
        apply(&self.store, &*self.clock, applied, &served, candidate)
            .await
            .map(|changed| changed.then_some(next))
    }

    /// Reads the functions folder again. Where that fails, the functions stay, and it is the one thing that is wrong.
    async fn rescan(&self) -> Result<()> {
        let Some(source) = &self.functions else {
            return Ok(());
        };
        let outcome = scan(source.clone()).await;
        let mut scanned = self.scanned.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(scan) => {
                *scanned = Arc::new(scan);
                Ok(())
            }
            Err(error) => {
                let folder = source.folder.display().to_string();
                let notices = vec![Notice::error(folder, error.message())];
                let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                trouble.functions.clone_from(&notices);
                Arc::make_mut(&mut *scanned).notices = notices;
                Err(error)
            }
        }
    }

    /// The functions of the folder that fit the schema, if they are others than those that are served.
    fn fitting(&self, schema: &Schema) -> Option<BTreeMap<String, Arc<Function>>> {
        let scanned = Arc::clone(&self.scanned.lock().unwrap_or_else(PoisonError::into_inner));
        let (functions, notices) = scanned.fitted(schema);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.functions != notices {
            report(&notices);
            trouble.functions = notices;
        }
        drop(trouble);
        // A version covers code and manifests; nothing else can change while the process runs.
        let same = {
            let old = &self.state.borrow().functions;
            old.len() == functions.len()
                && functions
                    .iter()
                    .all(|(name, function)| old.get(name).is_some_and(|old| old.version == function.version))
        };
        (!same).then_some(functions)
    }

    /// Makes what has changed the desired state: the schema, and the functions that fit it.
    fn publish(&self, schema_revision: i64, schema: Option<Served>) {
        let functions = match &schema {
            Some(served) => self.fitting(&served.schema),
            None => self.fitting(&Arc::clone(&self.state.borrow().schema)),
        };
        if schema.is_none() && functions.is_none() {
            return;
        }
        if schema.is_some() {
            tracing::info!(schema_revision, "the schema changed and is served");
        }
        if let Some(functions) = &functions {
            tracing::info!(
                functions = functions.len(),
                "the functions changed and are served"
            );
        }
        let Published { state: old, source } = self.published.borrow().clone();
        let schema = schema.unwrap_or_else(|| Served {
            schema: Arc::clone(&old.schema),
            source,
        });
        let state = Arc::new(DesiredState {
            revision: old.revision + 1,
            schema_revision: schema_revision.unsigned_abs(),
            schema: schema.schema,
            functions: functions.map_or_else(|| Arc::clone(&old.functions), Arc::new),
        });
        self.state.send_replace(Arc::clone(&state));
        self.published.send_replace(Published {
            state,
            source: schema.source,
        });
    }

    /// Tells what a schema would change, and applies it where asked to and nothing would be lost. It stays in force over
    /// restarts, until the schema file says something new.
    pub(crate) async fn propose(self: &Arc<Self>, source: String, apply: bool) -> Result<Proposal> {
        let (plane, (told, proposal)) = (Arc::clone(self), oneshot::channel());
        // Whoever asked may go away between the tables' change and its publication.
        self.tasks.spawn_detached(async move {
            let _ = told.send(plane.propose_to_the_end(source, apply).await);
        });
        proposal.await.unwrap_or_else(|error| Err(Error::internal(error)))
    }

    async fn propose_to_the_end(&self, source: String, apply: bool) -> Result<Proposal> {
        let candidate = proposal::read(source, &self.options).await?;
        let mut applied = self.applied.lock().await;
        let served = Arc::clone(&self.state.borrow().schema);
        let mut proposal = proposal::plan(&served, &candidate, &self.store, &applied).await?;
        if apply {
            match self.apply(&mut applied, candidate).await {
                Ok(served) => {
                    self.publish(applied.id, served);
                    proposal.applied = true;
                }
                // The steps say why.
                Err(Refusal::Unsafe(_)) => {}
                Err(refusal) => return Err(proposal::refused(refusal)),
            }
        }
        proposal.schema_revision = applied.id.unsigned_abs();
        Ok(proposal)
    }

    /// The revisions that were applied, newest first.
    pub(crate) async fn history(&self) -> Result<Vec<Kept>> {
        revision::list(&self.store).await
    }

    /// One applied revision, the one in force where none is named.
    ///
    /// # Errors
    /// `REVISION_NOT_FOUND`, and those of the store.
    pub(crate) async fn revision(&self, id: Option<u64>) -> Result<Kept> {
        let id = id.unwrap_or_else(|| self.state.borrow().schema_revision);
        let kept = revision::get(&self.store, i64::try_from(id).unwrap_or(i64::MAX)).await?;
        kept.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "REVISION_NOT_FOUND",
                format!("schema revision {id} is not kept; `alyx schema history` lists those that are"),
            )
        })
    }

    /// What the rules in force let somebody do with a document, and why.
    ///
    /// # Errors
    /// As for [`crate::explain_rules`].
    pub(crate) async fn explain(&self, request: ExplainRulesRequest) -> Result<RulesExplanation> {
        let schema = Arc::clone(&self.state.borrow().schema);
        explain(&self.store, &schema, self.clock.now(), request).await
    }

    /// Follows the desired state with the text of its schema.
    pub(crate) fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }
}

#[async_trait]
impl state::ControlPlane for ControlPlane {
    fn watch(&self) -> StateWatch {
        self.state.subscribe()
    }

    async fn reload_functions(&self) -> Result<usize> {
        tracing::debug!("the functions are to be read again");
        let applied = self.applied.lock().await;
        self.rescan().await?;
        self.publish(applied.id, None);
        Ok(self.state.borrow().functions.len())
    }
}

async fn scan(source: Source) -> Result<Scan> {
    let unreadable = |message: String| Error::new(ErrorKind::Internal, "FUNCTIONS_UNREADABLE", message);
    tokio::task::spawn_blocking(move || source.scan())
        .await
        .map_err(|error| unreadable(error.to_string()))?
        .map_err(|error| unreadable(with_causes(&error)))
}

fn report(notices: &[Notice]) {
    for notice in notices {
        match notice.severity {
            Severity::Warning => tracing::warn!("{notice}"),
            Severity::Error => tracing::error!("{notice}; the function is not served"),
            Severity::Broken => tracing::error!("{notice}; functions that load it cannot run"),
        }
    }
}
