//! Reads that groups and the log need, as tasks of their own, at most so many at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, Result, Statement, Value};
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
    /// As a snapshot, and what these statements return.
    Again(Vec<Statement>),
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
        let groups = &self.groups;
        for queue in [&mut self.wanted, &mut self.wanted_again] {
            if queue.len() > 2 * groups.len() + MAX_FORSAKEN {
                queue.retain(|wanted| {
                    let group = groups.get(wanted.group);
                    group.is_some_and(|group| group.ticket == wanted.ticket)
                });
            }
        }
        while self.reads_under_way < self.limits.reads {
            let Some(wanted) = self.wanted.pop_front() else {
                break;
            };
            self.reads_under_way += usize::from(self.start_read(wanted));
        }
        // At most half as many at a time, so that new groups are opened however many windows are read again.
        while self.rereads_under_way < (self.limits.reads / 2).max(1) {
            let Some(wanted) = self.wanted_again.pop_front() else {
                break;
            };
            self.rereads_under_way += usize::from(self.start_read(wanted));
        }
    }

    /// Whether the read was started: some are forsaken.
    fn start_read(&mut self, wanted: Wanted) -> bool {
        let group = self.groups.get(wanted.group);
        let Some(group) = group.filter(|group| group.ticket == wanted.ticket) else {
            return false;
        };
        let (query, store, answers) = (group.query.clone(), self.store.clone(), self.answers.clone());
        self.tasks.spawn_detached(async move {
            if !wanted.delay.is_zero() {
                tokio::time::sleep(wanted.delay).await;
            }
            let again = matches!(wanted.reading, Reading::Again(_));
            let message = Message::Answered {
                group: wanted.group,
                ticket: wanted.ticket,
                again,
                answer: read(&store, &query, wanted.reading).await,
            };
            // An engine that has ended needs no answer.
            let _ = answers.send(message).await;
        });
        true
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

async fn read(store: &Store, query: &Query, reading: Reading) -> Result<Answer> {
    let rows = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let snapshot = || {
        let count = rows(Group::extent(query).snapshot_rows());
        vec![query.select_after(None, count), query.count()]
    };
    let statements = match reading {
        Reading::Snapshot => snapshot(),
        Reading::Again(verdicts) => snapshot().into_iter().chain(verdicts).collect(),
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
        verdicts: results.map(|result| result.rows).collect(),
    })
}
