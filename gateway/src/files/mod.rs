//! Files in buckets: what is known of them is a row ([`alyx_schema::files`]), what is in them lies in a folder
//! ([`alyx_storage`]).
//!
//! **Invariants:** an upload is answered once its bytes and its row are both on disk; the bytes come first, so no row is
//! without bytes, and bytes without a row are swept. A file that goes loses its row first, which leaves its id in the trash in
//! the same transaction; its bytes follow. Whoever may upload nothing is refused before the body is read.
//!
//! Knows nothing of HTTP but forms; what callers may do is said by an [`Authority`].

mod form;
mod kind;
mod list;
mod serve;
mod sign;
mod sweep;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_config::{Config, Storage};
use alyx_core::{Caller, Clock, Error, ErrorKind, Result, Row, Statement, Value};
use alyx_query::{CompareOp, Filter, delete_if, get_if, passes};
use alyx_rules::FileAction;
use alyx_schema::{Bucket, file_field, file_tables, files, files_are_there, write_json};
use alyx_service::state::DesiredState;
use alyx_storage::{FileId, Folder};
use alyx_store::{Expect, Read, ReadCost, Rows, Store, Write, WriteStep};
use bytes::Bytes;
use tokio::sync::{Notify, OnceCell};

pub(crate) use serve::{Content, Disposition};
pub(crate) use sign::{Terms, verify};
pub(crate) use sweep::follow;
pub(crate) use upload::Upload;

use crate::authority::Authority;

/// The storage that is there without anybody's doing.
const LOCAL: &str = "local";
/// Longest wait for the tables to be made.
const TABLES_WITHIN: Duration = Duration::from_secs(10);
/// Room for what is known of a file, before its size is known.
const FILE_BYTES: usize = 384;

/// The service behind `/api/files`.
pub(crate) struct Files {
    store: Store,
    clock: Arc<dyn Clock>,
    folders: HashMap<String, Folder>,
    settings: Storage,
    tables: OnceCell<()>,
    /// Told when something is in the trash.
    deleted: Notify,
    counters: Counters,
}

/// What has been done since the start.
#[derive(Debug, Default)]
struct Counters {
    uploads: AtomicU64,
    bytes: AtomicU64,
    removed: AtomicU64,
    swept: AtomicU64,
}

/// The same for `/metrics`.
pub(crate) struct FileStats {
    pub(crate) uploads: u64,
    pub(crate) bytes: u64,
    pub(crate) removed: u64,
    pub(crate) swept: u64,
}

/// The bucket of that name.
///
/// Errors: `BUCKET_NOT_FOUND`.
pub(crate) fn find<'s>(state: &'s DesiredState, name: &str) -> Result<&'s Arc<Bucket>> {
    state.schema.buckets.get(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        Error::new(
            ErrorKind::NotFound,
            "BUCKET_NOT_FOUND",
            format!("there is no bucket `{shown}`"),
        )
    })
}

/// The files of a bucket that pass a filter.
pub(crate) fn within(bucket: &Bucket, filter: Filter) -> Filter {
    let own = Filter::Compare {
        field: file_field::BUCKET,
        op: CompareOp::Eq,
        value: Value::text(bucket.name.as_str()),
    };
    Filter::And(vec![own, filter]).normalize()
}

impl Files {
    pub(crate) fn new(config: &Config, store: Store, clock: Arc<dyn Clock>) -> Self {
        let settings = config.storage.clone();
        let mut folders = HashMap::from([(LOCAL.to_owned(), Folder::new(settings.path.clone(), ""))]);
        folders.extend(settings.backends.iter().filter_map(|(name, backend)| {
            let root = backend.path.clone()?;
            Some((name.clone(), Folder::new(root, &backend.base_path)))
        }));
        Self {
            store,
            clock,
            folders,
            settings,
            tables: OnceCell::new(),
            deleted: Notify::new(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn stats(&self) -> FileStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FileStats {
            uploads: of(&self.counters.uploads),
            bytes: of(&self.counters.bytes),
            removed: of(&self.counters.removed),
            swept: of(&self.counters.swept),
        }
    }

    /// What is known of a file that the caller may see.
    ///
    /// Errors: `FORBIDDEN` where there is none, `FILE_NOT_FOUND`, and what the store says.
    pub(crate) async fn get(
        &self,
        authority: &Authority,
        (bucket, id): (&Bucket, &str),
        deadline: Instant,
    ) -> Result<Bytes> {
        let rule = authority.files(bucket, FileAction::Read)?;
        let found = self.row((bucket, id), rule, deadline).await?;
        found
            .map(|row| described(&row))
            .ok_or_else(|| not_found(bucket, id))
    }

    /// Whether the caller may download that file.
    ///
    /// Errors: as [`Self::content`].
    pub(crate) async fn may_download(
        &self,
        authority: &Authority,
        (bucket, id): (&Bucket, &str),
        deadline: Instant,
    ) -> Result<()> {
        let rule = authority.files(bucket, FileAction::Download)?;
        match self.row((bucket, id), rule, deadline).await? {
            Some(_) => Ok(()),
            None => Err(self
                .refused(authority, (bucket, id), FileAction::Download, deadline)
                .await),
        }
    }

    /// Removes a file.
    ///
    /// Errors: `FILE_NOT_FOUND`; `FORBIDDEN` where a rule refuses and the caller may know of the file; what the store says.
    pub(crate) async fn delete(
        &self,
        authority: &Authority,
        (bucket, id): (&Bucket, &str),
        deadline: Instant,
    ) -> Result<()> {
        let rule = within(bucket, authority.files(bucket, FileAction::Delete)?);
        let key = key_of(id).ok_or_else(|| not_found(bucket, id))?;
        let statement = delete_if(files(), key, &rule);
        self.prepare().await?;
        let steps = vec![WriteStep {
            statement,
            expect: Expect::Any,
        }];
        let reply = self.store.write(Write { steps, deadline }).await?;
        if reply.steps.first().is_none_or(|done| done.affected == 0) {
            return Err(self
                .refused(authority, (bucket, id), FileAction::Delete, deadline)
                .await);
        }
        self.deleted.notify_one();
        Ok(())
    }

    /// Why nothing was done to a file: it is not there for this caller, or it is and a rule refuses.
    async fn refused(
        &self,
        authority: &Authority,
        (bucket, id): (&Bucket, &str),
        action: FileAction,
        deadline: Instant,
    ) -> Error {
        let visible = authority.visible_files(bucket);
        match self.row((bucket, id), visible, deadline).await {
            Ok(Some(_)) => forbidden(bucket, action),
            Ok(None) => not_found(bucket, id),
            Err(error) => error,
        }
    }

    /// The row of a file of the bucket that passes the filter.
    async fn row(
        &self,
        (bucket, id): (&Bucket, &str),
        filter: Filter,
        deadline: Instant,
    ) -> Result<Option<Row>> {
        let Some(key) = key_of(id) else {
            return Ok(None);
        };
        let filter = within(bucket, filter);
        let cost = if filter.is_local() {
            ReadCost::Point
        } else {
            ReadCost::Scan
        };
        let mut rows = self.read(get_if(files(), key, &filter), cost, deadline).await?;
        Ok(rows.rows.pop())
    }

    async fn read(&self, statement: Statement, cost: ReadCost, deadline: Instant) -> Result<Rows> {
        self.prepare().await?;
        let read = Read {
            statements: vec![statement],
            cost,
            deadline,
        };
        let mut reply = self.store.read(read).await?;
        reply.results.pop().ok_or_else(no_result)
    }

    /// Where the files of a storage lie.
    ///
    /// Errors: `STORAGE_UNKNOWN`.
    fn folder(&self, backend: &str) -> Result<&Folder> {
        self.folders.get(backend).ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "STORAGE_UNKNOWN",
                format!("the configuration has no storage `{backend}`: set storage.backends.{backend}"),
            )
        })
    }

    /// Makes the tables where they are missing.
    async fn prepare(&self) -> Result<()> {
        let made = self.tables.get_or_try_init(|| async {
            let deadline = Instant::now() + TABLES_WITHIN;
            let read = Read {
                statements: vec![Statement::new(files_are_there(), Vec::new())],
                cost: ReadCost::Scan,
                deadline,
            };
            let reply = self.store.read(read).await?;
            if reply.results.first().is_some_and(|rows| !rows.rows.is_empty()) {
                return Ok(());
            }
            let steps = file_tables()
                .into_iter()
                .map(|sql| Statement::new(sql, Vec::new()));
            self.store.migrate(steps.collect()).await.map(|_| ())
        });
        made.await.map(|_| ())
    }
}

/// The key of a row; nothing where the text can be none.
fn key_of(id: &str) -> Option<Value> {
    FileId::parse(id).map(|id| Value::from(id.to_string()))
}

/// What is known of a file, as JSON.
fn described(row: &Row) -> Bytes {
    let mut out = Vec::with_capacity(FILE_BYTES);
    write_json(files(), row, None, &mut out);
    Bytes::from(out)
}

/// Who is noted as the uploader.
fn uploader(caller: &Caller) -> Value {
    match caller {
        Caller::Account(account) => Value::text(account.id.as_str()),
        Caller::Anonymous | Caller::Operator | Caller::Token(_) | Caller::System => Value::Null,
    }
}

fn not_found(bucket: &Bucket, id: &str) -> Error {
    let shown: String = id.chars().take(64).collect();
    Error::new(
        ErrorKind::NotFound,
        "FILE_NOT_FOUND",
        format!("`{}` has no file `{shown}`", bucket.name),
    )
}

/// The rule says no of this file, which the caller may know to be there.
fn forbidden(bucket: &Bucket, action: FileAction) -> Error {
    let what = if action == FileAction::Create {
        "such a file"
    } else {
        "this file"
    };
    let message = format!(
        "the rules of the bucket `{}` do not let you {} {what}",
        bucket.name,
        action.word()
    );
    Error::new(ErrorKind::Forbidden, "FORBIDDEN", message)
}

fn no_result() -> Error {
    Error::internal("the store gave no result for a read of files")
}

/// Whether the file with that key passes the filter, as a step of a write.
fn must_pass(id: FileId, filter: &Filter) -> WriteStep {
    WriteStep {
        statement: passes(files(), Value::from(id.to_string()), filter),
        expect: Expect::Row,
    }
}

/// Text of a column.
fn text(row: &Row, field: usize) -> &str {
    row.get(field).and_then(Value::as_text).unwrap_or_default()
}
