//! Following the schema file, its migrations and the functions folder.
//!
//! Notifications of the file system say when to look, a look each second finds what they miss (network file
//! systems, replaced folders). What decides is a fingerprint of names, sizes and times, which must hold still for
//! a moment, so that a file that is being written is not read half.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alyx_service::tasks::{OnEnd, Tasks};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use walkdir::WalkDir;

use crate::functions::{Source, is_code};
use crate::migrations;
use crate::plane::{Changed, ControlPlane};
use crate::schema;

/// How long files must hold still.
const SETTLE: Duration = Duration::from_millis(30);
/// How often a change is waited out at most.
const MAX_SETTLE: u32 = 30;
/// How often to look without being told.
const POLL: Duration = Duration::from_secs(1);
/// Most entries that are looked at.
const MAX_ENTRIES: usize = 20_000;

/// Follows one schema file and one functions folder.
pub(crate) struct Watcher {
    paths: Paths,
    seen: Fingerprint,
    notifier: Option<RecommendedWatcher>,
    told: mpsc::Receiver<()>,
    watched: BTreeMap<PathBuf, u64>,
}

#[derive(Clone)]
struct Paths {
    schema: PathBuf,
    functions: Option<PathBuf>,
}

/// What files look like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    schema: u64,
    functions: u64,
    /// What to be told about, with its inode, since a replaced file or folder must be followed anew. The schema is
    /// followed itself, not its folder: a database there changes all the time.
    follow: BTreeMap<PathBuf, u64>,
}

impl Watcher {
    /// Takes the first fingerprint: what changes from now on is found.
    pub(crate) fn new(schema: PathBuf, functions: Option<&Source>) -> Self {
        let paths = Paths {
            schema,
            functions: functions.map(|source| source.folder.clone()),
        };
        let (tell, told) = mpsc::channel(1);
        let notifier = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let read_only = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
            if !read_only {
                // A full channel means that a look is due anyway.
                let _ = tell.try_send(());
            }
        });
        if let Err(error) = &notifier {
            tracing::warn!(%error, "no notifications of changed files; looking each second instead");
        }
        let mut watcher = Self {
            seen: fingerprint(&paths),
            paths,
            notifier: notifier.ok(),
            told,
            watched: BTreeMap::new(),
        };
        watcher.follow_all();
        watcher
    }

    /// Hands every change to `plane` until the tasks are cancelled.
    pub(crate) fn spawn(mut self, plane: Arc<ControlPlane>, tasks: &Tasks) {
        let cancelled = tasks.cancelled();
        tasks.spawn("control-plane.watch", OnEnd::StopAll, async move {
            loop {
                tokio::select! {
                    () = cancelled.cancelled() => return,
                    changed = self.changed() => plane.refresh(changed).await,
                }
            }
        });
    }

    /// The next change that has come to rest.
    async fn changed(&mut self) -> Changed {
        loop {
            // A closed channel (no notifications) must not turn the wait into a spin.
            let told = async {
                if self.told.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
            };
            let _ = tokio::time::timeout(POLL, told).await;
            let now = self.settled().await;
            let changed = Changed {
                schema: now.schema != self.seen.schema,
                functions: now.functions != self.seen.functions,
            };
            self.seen = now;
            self.follow_all();
            if changed.schema || changed.functions {
                return changed;
            }
        }
    }

    /// A fingerprint that held still, or the last one where files never do.
    async fn settled(&mut self) -> Fingerprint {
        let mut before = self.look().await;
        if before == self.seen {
            return before;
        }
        for _ in 0..MAX_SETTLE {
            tokio::time::sleep(SETTLE).await;
            while self.told.try_recv().is_ok() {}
            let now = self.look().await;
            if now == before {
                break;
            }
            before = now;
        }
        before
    }

    async fn look(&self) -> Fingerprint {
        let paths = self.paths.clone();
        tokio::task::spawn_blocking(move || fingerprint(&paths))
            .await
            .unwrap_or_else(|_| self.seen.clone())
    }

    fn follow_all(&mut self) {
        let Some(notifier) = &mut self.notifier else {
            return;
        };
        let missing = |from: &BTreeMap<PathBuf, u64>, path: &Path, inode: u64| from.get(path) != Some(&inode);
        for (path, inode) in &self.watched {
            if missing(&self.seen.follow, path, *inode) {
                // What is gone took its watch with it.
                let _ = notifier.unwatch(path);
            }
        }
        for (path, inode) in &self.seen.follow {
            if missing(&self.watched, path, *inode)
                && let Err(error) = notifier.watch(path, RecursiveMode::NonRecursive)
            {
                tracing::debug!(path = %path.display(), %error, "a path is not followed; looking each second");
            }
        }
        self.watched.clone_from(&self.seen.follow);
    }
}

fn fingerprint(paths: &Paths) -> Fingerprint {
    let mut follow = BTreeMap::new();
    let schema = schema::existing(&paths.schema);
    let mut of_schema = DefaultHasher::new();
    hash_entry(
        &schema,
        std::fs::metadata(&schema).ok(),
        &mut of_schema,
        Some(&mut follow),
    );
    let migrations = WalkDir::new(migrations::folder(&paths.schema))
        .max_depth(1)
        .sort_by_file_name();
    for entry in migrations.into_iter().filter_map(Result::ok).take(MAX_ENTRIES) {
        let metadata = entry.metadata().ok();
        if entry.depth() == 0 {
            hash_entry(
                entry.path(),
                metadata,
                &mut DefaultHasher::new(),
                Some(&mut follow),
            );
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            hash_entry(entry.path(), metadata, &mut of_schema, None);
        }
    }
    let mut of_functions = DefaultHasher::new();
    if let Some(functions) = &paths.functions {
        let walk = WalkDir::new(functions).follow_links(true).sort_by_file_name();
        let entries = walk
            .into_iter()
            .filter_entry(is_code)
            .filter_map(Result::ok)
            .take(MAX_ENTRIES);
        for entry in entries {
            let metadata = entry.metadata().ok();
            if entry.file_type().is_dir() {
                entry.path().hash(&mut of_functions);
                hash_entry(
                    entry.path(),
                    metadata,
                    &mut DefaultHasher::new(),
                    Some(&mut follow),
                );
            } else {
                hash_entry(entry.path(), metadata, &mut of_functions, None);
            }
        }
    }
    Fingerprint {
        schema: of_schema.finish(),
        functions: of_functions.finish(),
        follow,
    }
}

fn hash_entry(
    path: &Path,
    metadata: Option<Metadata>,
    hasher: &mut DefaultHasher,
    follow: Option<&mut BTreeMap<PathBuf, u64>>,
) {
    path.hash(hasher);
    let Some(metadata) = metadata else { return };
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    (
        metadata.len(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        changed,
    )
        .hash(hasher);
    if let Some(follow) = follow {
        follow.insert(path.to_owned(), metadata.ino());
    }
}
