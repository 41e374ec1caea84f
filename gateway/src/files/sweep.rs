//! What takes bytes away: of files that were deleted, at once; of uploads that broke off, once they are old.
//!
//! **Invariant:** a folder is searched for what no row knows of only where its mark is in this database. Beside another
//! database, or an empty one, everything would look forgotten.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alyx_core::{Result, Row, Statement, Value, new_secret_id};
use alyx_service::state::StateWatch;
use alyx_storage::{FileId, Folder, Stray};
use alyx_store::{Expect, ReadCost, Write, WriteStep};

use super::Files;

/// Pauses between two looks at the trash, which others fill too.
const TRASH_EVERY: Duration = Duration::from_secs(2);
/// Files that are looked at together.
const BATCH: usize = 200;
/// Longest wait for the database.
const WITHIN: Duration = Duration::from_secs(10);

/// Takes away what is to go, for as long as it is polled; nothing while the schema has no bucket.
pub(crate) async fn follow(files: Arc<Files>, mut state: StateWatch) {
    let mut swept: Option<Instant> = None;
    let mut troubled = false;
    loop {
        if state.borrow_and_update().schema.buckets.is_empty() {
            if state.changed().await.is_err() {
                // Nobody changes the schema any more.
                return std::future::pending().await;
            }
            continue;
        }
        let due = swept.is_none_or(|at| at.elapsed() >= files.settings.sweep_interval);
        let done = files.take_away(due).await;
        if due {
            swept = Some(Instant::now());
        }
        if let Err(error) = &done
            && !troubled
        {
            tracing::warn!(
                code = error.code(),
                "files that are to go cannot be removed now: {error}"
            );
        }
        troubled = done.is_err();
        // One that was deleted here goes at once.
        let _ = tokio::time::timeout(TRASH_EVERY, files.deleted.notified()).await;
    }
}

impl Files {
    async fn take_away(&self, sweep: bool) -> Result<()> {
        self.empty_trash().await?;
        if sweep {
            for (name, folder) in &self.folders {
                if folder.is_there().await {
                    self.sweep(name, folder).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes the bytes of files whose rows have gone.
    async fn empty_trash(&self) -> Result<()> {
        loop {
            let sql = "SELECT id, bucket, backend FROM _alyx_file_trash LIMIT ?1";
            let rows = self.look(sql, vec![Value::Int(BATCH as i64)]).await?;
            let mut gone = Vec::new();
            for row in &rows {
                // What is in a storage that is not configured stays until it is.
                if let Some(id) = self.remove_bytes(row).await? {
                    gone.push(id);
                }
            }
            if gone.is_empty() {
                return Ok(());
            }
            let count = gone.len();
            let marks = numbered(count);
            let sql = format!("DELETE FROM _alyx_file_trash WHERE id IN ({marks})");
            self.change(Statement::new(sql, gone)).await?;
            self.counters.removed.fetch_add(count as u64, Ordering::Relaxed);
            if count < BATCH {
                return Ok(());
            }
        }
    }

    async fn remove_bytes(&self, row: &Row) -> Result<Option<Value>> {
        let text = |at: usize| row.get(at).and_then(Value::as_text).unwrap_or_default();
        let (Some(id), Some(folder)) = (FileId::parse(text(0)), self.folders.get(text(2))) else {
            return Ok(None);
        };
        folder.remove(text(1), id).await?;
        Ok(row.first().cloned())
    }

    /// Removes what broken uploads left in a folder.
    async fn sweep(&self, name: &str, folder: &Folder) -> Result<()> {
        let age = self.settings.orphan_age;
        let mut swept = folder.sweep_incoming(age).await?;
        let mark = self.mark(name).await?;
        if !folder.is_of(&mark).await? {
            tracing::warn!(
                storage = name,
                folder = %folder.root().display(),
                "the folder of files belongs to another database, so nothing is swept in it; see docs/files.md"
            );
            return Ok(());
        }
        let mut walk = Some(folder.scan());
        while let Some(scan) = walk {
            let (found, rest) = scan.next(BATCH, age).await?;
            for stray in self.unknown(found).await? {
                swept += u64::from(folder.remove(&stray.bucket, stray.id).await?);
            }
            walk = rest;
        }
        if swept > 0 {
            tracing::info!(
                storage = name,
                files = swept,
                "removed what broken uploads left behind"
            );
            self.counters.swept.fetch_add(swept, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Those that neither a row nor the trash knows of.
    async fn unknown(&self, found: Vec<Stray>) -> Result<Vec<Stray>> {
        if found.is_empty() {
            return Ok(found);
        }
        let ids: Vec<Value> = found
            .iter()
            .map(|stray| Value::from(stray.id.to_string()))
            .collect();
        let marks = numbered(ids.len());
        let sql = format!(
            "SELECT id FROM _alyx_files WHERE id IN ({marks}) UNION ALL \
             SELECT id FROM _alyx_file_trash WHERE id IN ({marks})"
        );
        let rows = self.look(&sql, ids).await?;
        let known: HashSet<FileId> = rows
            .iter()
            .filter_map(|row| FileId::parse(row.first()?.as_text()?))
            .collect();
        Ok(found
            .into_iter()
            .filter(|stray| !known.contains(&stray.id))
            .collect())
    }

    /// The mark of a storage's folder in this database.
    async fn mark(&self, backend: &str) -> Result<String> {
        let sql = "INSERT OR IGNORE INTO _alyx_file_marks (backend, mark) VALUES (?1, ?2)";
        let fresh = vec![Value::text(backend), Value::from(new_secret_id())];
        let known = "SELECT mark FROM _alyx_file_marks WHERE backend = ?1";
        let mut rows = self.look(known, vec![Value::text(backend)]).await?;
        if rows.is_empty() {
            self.change(Statement::new(sql, fresh)).await?;
            rows = self.look(known, vec![Value::text(backend)]).await?;
        }
        let mark = rows.first().and_then(|row| row.first()).and_then(Value::as_text);
        mark.map(str::to_owned).ok_or_else(super::no_result)
    }

    async fn look(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>> {
        let deadline = Instant::now() + WITHIN;
        let rows = self
            .read(Statement::new(sql, params), ReadCost::Scan, deadline)
            .await?;
        Ok(rows.rows)
    }

    async fn change(&self, statement: Statement) -> Result<()> {
        self.prepare().await?;
        let steps = vec![WriteStep {
            statement,
            expect: Expect::Any,
        }];
        let deadline = Instant::now() + WITHIN;
        self.store.write(Write { steps, deadline }).await.map(|_| ())
    }
}

/// `?1,?2,?3`
fn numbered(count: usize) -> String {
    let marks: Vec<String> = (1..=count).map(|number| format!("?{number}")).collect();
    marks.join(",")
}
