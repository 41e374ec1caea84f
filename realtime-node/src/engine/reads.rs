//! Reads that groups and the log need, as tasks of their own, at most so many at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, Result, Value};
use alyx_query::Query;
use alyx_store::{Read, ReadCost, Store};

use super::{Engine, Message};
use crate::group::{Answer, Group};
use crate::record::Record;
use crate::router::GroupIndex;
use crate::window::Refill;

/// The longest that a read for a group may take.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// Changes that one read of the log brings.
const LOG_PAGE: usize = 2_048;

/// Queued reads that no group waits for any more.
const MAX_FORSAKEN: usize = 1_024;

/// A read that a group waits for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) group: GroupIndex,
    pub(super) ticket: u64,
    /// How long to wait before it.
    pub(super) delay: Duration,
    pub(super) reading: Reading,
}

/// What to read.
#[derive(Debug)]
pub(super) enum Reading {
    /// The first rows and how many there are.
    Snapshot,
    /// More rows.
    Refill(Refill<Record>),
}

impl Wanted {
    pub(super) fn now(group: GroupIndex, ticket: u64, reading: Reading) -> Self {
        Self {
            group,
            ticket,
            delay: Duration::ZERO,
            reading,
        }
    }
}

/// How long to wait after that many failures in a row: 0.1 s, doubled each time, at most 5 s.
pub(super) fn retry_delay(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(5))
}

impl Engine {
    /// Starts as many reads as may run.
    pub(super) fn start_reads(&mut self) {
        // Groups that close or start afresh leave reads behind that nobody waits for; these have a bound too.
        if self.wanted.len() > 2 * self.groups.len() + MAX_FORSAKEN {
            let groups = &self.groups;
            let awaited = |wanted: &Wanted| {
                let group = groups.get(wanted.group);
                group.is_some_and(|group| group.ticket == wanted.ticket)
            };
            self.wanted.retain(awaited);
        }
        while self.reads_under_way < self.limits.reads {
            let Some(wanted) = self.wanted.pop_front() else {
                return;
            };
            let Some(group) = self
                .groups
                .get(wanted.group)
                .filter(|group| group.ticket == wanted.ticket)
            else {
                continue;
            };
            let (query, store, answers) = (group.query.clone(), self.store.clone(), self.answers.clone());
            self.reads_under_way += 1;
            self.tasks.spawn_detached(async move {
                if !wanted.delay.is_zero() {
                    tokio::time::sleep(wanted.delay).await;
                }
                let message = Message::Answered {
                    group: wanted.group,
                    ticket: wanted.ticket,
                    answer: read(&store, &query, &wanted.reading).await,
                };
                // An engine that has ended needs no answer.
                let _ = answers.send(message).await;
            });
        }
    }

    /// Reads the log where commits are missing; with `look` also where nothing is known to be.
    pub(super) fn read_log_where_needed(&mut self, look: bool) {
        if self.log_failed {
            return;
        }
        let Some(after) = self.tail.wants_read(look) else {
            return;
        };
        let (store, answers) = (self.store.clone(), self.answers.clone());
        self.tasks.spawn_detached(async move {
            let batch = store.read_log(after, LOG_PAGE).await;
            let _ = answers.send(Message::Log(batch)).await;
        });
    }
}

async fn read(store: &Store, query: &Query, reading: &Reading) -> Result<Answer> {
    let rows = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let statements = match reading {
        Reading::Snapshot => {
            let count = rows(Group::extent(query).snapshot_rows());
            vec![query.select_after(None, count), query.count()]
        }
        Reading::Refill(refill) => {
            let after = query.key(refill.after.row());
            vec![query.select_after(Some(&after), rows(refill.count))]
        }
    };
    let reply = store
        .read(Read {
            statements,
            cost: ReadCost::Scan,
            deadline: Instant::now() + READ_DEADLINE,
        })
        .await?;
    let mut results = reply.results.into_iter();
    let rows = results
        .next()
        .ok_or_else(|| Error::internal("a read without its result"))?;
    let total = results
        .next()
        .and_then(|result| {
            result
                .rows
                .first()
                .and_then(|row| row.first().and_then(Value::as_int))
        })
        .and_then(|total| u64::try_from(total).ok())
        .unwrap_or(0);
    Ok(Answer {
        at: reply.position,
        rows: rows
            .rows
            .into_iter()
            .map(|row| Arc::new(Record::new(row)))
            .collect(),
        total,
    })
}
