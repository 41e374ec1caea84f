//! Several writes in one transaction, each of which succeeds or fails on its own: one call to the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use alyx_core::{Result, Seq, Statement, TraceContext};
use tokio::sync::oneshot;

use super::hrana::{Batch, BatchReply};
use super::merge::{self, Insert, Merged};
use super::plan::{Fate, Plan, Style, WriteId, size_of_value};
use super::sql::Facts;
use super::transactor::{NotCommitted, Transaction, Transactor};
use crate::failure::{Failure, write_timeout};
use crate::{Commit, Expect, Rows, Write, WriteReply};

/// Times that a group starts over before what is left of it fails.
const MAX_RESTARTS: usize = 8;
/// Groups that are carried out write by write after one of merged writes has failed: where values are often refused,
/// doing it twice each time would cost more than merging saves.
const GROUPS_APART: u32 = 16;

/// A write and whoever waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) write: Write,
    pub(super) facts: Vec<Facts>,
    pub(super) id: Option<WriteId>,
    /// The trace that it belongs to, where somebody may be recording that.
    pub(super) trace: Option<TraceContext>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) reply: oneshot::Sender<Result<WriteReply>>,
}

impl Pending {
    /// About how many bytes it writes.
    pub(super) fn weight(&self) -> usize {
        let values = self.write.steps.iter().flat_map(|step| &step.statement.params);
        values.map(size_of_value).sum()
    }
}

/// Whether a write still waits: between its caller, who may give up, and the writer, who takes it.
#[derive(Debug, Default)]
pub(super) struct Ticket(AtomicU8);

impl Ticket {
    const WAITS: u8 = 0;
    const TAKEN: u8 = 1;
    const ABANDONED: u8 = 2;

    /// The writer takes it, unless the caller has given up.
    pub(super) fn take(&self) -> bool {
        self.turn(Self::TAKEN)
    }

    /// The caller gives up, unless the writer has taken it.
    pub(super) fn abandon(&self) -> bool {
        self.turn(Self::ABANDONED)
    }

    fn turn(&self, into: u8) -> bool {
        self.0
            .compare_exchange(Self::WAITS, into, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// A write in a group, with what has become of it so far.
#[derive(Debug)]
pub(super) struct Entry {
    pending: Pending,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Waiting,
    Done(Vec<Rows>, Seq),
    Failed(Failure),
    /// Its deadline passed, and it is certain that it was not carried out.
    Late,
}

impl Entry {
    pub(super) fn new(pending: Pending) -> Self {
        Self {
            pending,
            outcome: Outcome::Waiting,
        }
    }

    fn waits(&self) -> bool {
        matches!(self.outcome, Outcome::Waiting)
    }

    /// Tells the commit that carried it out which trace it belongs to.
    pub(super) fn note_trace(&self, commits: &mut [Commit]) {
        let (Some(trace), Outcome::Done(_, position)) = (self.pending.trace, &self.outcome) else {
            return;
        };
        let own = commits
            .iter_mut()
            .find(|commit| (commit.first()..=commit.position).contains(position));
        if let Some(commit) = own
            && commit.traces.len() < Commit::MAX_TRACES
            && !commit.traces.contains(&trace)
        {
            commit.traces.push(trace);
        }
    }

    /// Why it failed, where that is not the caller's doing.
    pub(super) fn storage_failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Failed(failure) if !failure.is_callers_fault() => Some(failure),
            Outcome::Failed(_) | Outcome::Waiting | Outcome::Done(..) | Outcome::Late => None,
        }
    }

    /// Tells the caller. One that is gone is no fault.
    pub(super) fn answer(self) -> bool {
        let (answer, done) = match self.outcome {
            Outcome::Done(steps, position) => (Ok(WriteReply { steps, position }), true),
            Outcome::Failed(failure) => (Err(failure.into_error()), false),
            Outcome::Waiting => (Err(Failure::TransactionLost.into_error()), false),
            Outcome::Late => (Err(write_timeout()), false),
        };
        let _ = self.pending.reply.send(answer);
        done
    }

    /// It was carried out before: by its steps' effects, as if now.
    fn repeat(&mut self, position: Seq) {
        let returns = self
            .pending
            .write
            .steps
            .iter()
            .zip(&self.pending.facts)
            .any(|(step, facts)| facts.returns && !matches!(step.expect, Expect::Holds(_)));
        self.outcome = if returns {
            Outcome::Failed(Failure::ReplyLost)
        } else {
            let rows = |_: &_| Rows {
                rows: Vec::new(),
                affected: 1,
            };
            Outcome::Done(self.pending.write.steps.iter().map(rows).collect(), position)
        };
    }
}

/// What is to be done with the writes that still wait.
enum Next {
    /// All is settled.
    Finish,
    /// They start over together, each as a statement of its own.
    Apart,
    /// They start over together, each under a savepoint.
    Protect,
    /// They start over as they were.
    Again,
    /// Each gets a transaction of its own: one of them is at fault, for this reason.
    EachAlone(Failure),
    /// They fail.
    Fail(Failure),
}

/// How the writes of a group are put into a batch.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// Each under a savepoint.
    protect: bool,
    /// What they change is read back in the same call.
    inline: bool,
    /// Inserts that differ only in their values become one statement.
    merge: bool,
}

/// Where one write, or several that are one statement, are in the batch.
#[derive(Debug)]
enum Placed {
    Alone(Plan),
    Merged(Merged),
}

impl Transactor {
    /// Carries out the writes and returns the commits to publish, oldest first.
    pub(super) async fn run_group(&mut self, group: &mut [Entry]) -> Vec<Commit> {
        let mut commits = Vec::new();
        let mut manner = Manner {
            protect: false,
            inline: true,
            merge: self.apart == 0,
        };
        self.apart = self.apart.saturating_sub(1);
        for _ in 0..MAX_RESTARTS {
            match self.attempt(group, manner, &mut commits).await {
                Next::Finish => return commits,
                Next::Apart => {
                    self.apart = GROUPS_APART;
                    manner.merge = false;
                }
                Next::Protect => manner.protect = true,
                Next::Again => {}
                Next::EachAlone(_) => break,
                Next::Fail(failure) => {
                    fail_waiting(group, &failure);
                    return commits;
                }
            }
        }
        for entry in group.iter_mut().filter(|entry| entry.waits()) {
            self.alone(std::slice::from_mut(entry), &mut commits).await;
        }
        commits
    }

    /// One write in a transaction of its own.
    async fn alone(&mut self, entry: &mut [Entry], commits: &mut Vec<Commit>) {
        let mut manner = Manner {
            protect: true,
            inline: true,
            merge: false,
        };
        let mut last = Failure::TransactionLost;
        for _ in 0..MAX_RESTARTS {
            match self.attempt(entry, manner, commits).await {
                Next::Finish => return,
                Next::Apart | Next::Protect | Next::Again => {}
                // What it changed may be too large to come back together with what it returns.
                Next::EachAlone(Failure::ResultTooLarge) if manner.inline => manner.inline = false,
                Next::EachAlone(failure) | Next::Fail(failure) => {
                    last = failure;
                    break;
                }
            }
        }
        fail_waiting(entry, &last);
    }

    /// One try to carry out the writes that wait.
    async fn attempt(&mut self, group: &mut [Entry], manner: Manner, commits: &mut Vec<Commit>) -> Next {
        let now = Instant::now();
        for entry in group.iter_mut().filter(|entry| entry.waits()) {
            if entry.pending.write.deadline <= now {
                entry.outcome = Outcome::Late;
            }
        }
        if !group.is_empty() && !group.iter().any(Entry::waits) {
            return Next::Finish;
        }
        if let Err(failure) = self.ready().await {
            return Next::Fail(failure);
        }
        let (transaction, places) = match self.compose(group, manner) {
            Ok(composed) => composed,
            Err(next) => return next,
        };
        let merged = places.iter().any(|place| matches!(place, Placed::Merged(_)));
        match self.commit(transaction).await {
            Ok((mut reply, committed)) => {
                let position = committed.position;
                commits.extend(committed.commits);
                if tell(group, &places, &mut reply, position) {
                    Next::Finish
                } else {
                    Next::Apart
                }
            }
            Err(NotCommitted::ReplyLost(committed)) => {
                commits.extend(committed.commits);
                reply_lost(group);
                Next::Again
            }
            Err(NotCommitted::Ended(_)) if merged => Next::Apart,
            Err(NotCommitted::Ended(mut reply)) => blame(group, &places, &mut reply),
            Err(NotCommitted::TryAgain(failure)) => {
                tracing::debug!(error = %failure, "a group of writes starts over");
                Next::Again
            }
            Err(NotCommitted::Failed(failure))
                if failure.is_callers_fault() || matches!(failure, Failure::Driver(_)) =>
            {
                Next::EachAlone(failure)
            }
            Err(NotCommitted::Failed(failure)) => Next::Fail(failure),
        }
    }

    fn compose(&mut self, group: &mut [Entry], manner: Manner) -> Result<(Transaction, Vec<Placed>), Next> {
        let mut transaction = self.transaction(manner.inline).map_err(Next::Fail)?;
        self.renew(&mut transaction).map_err(Next::Fail)?;
        let protect = manner.protect || self.partial_triggers;
        let mut waiting: Vec<&mut Entry> = group.iter_mut().filter(|entry| entry.waits()).collect();
        let mut places = Vec::with_capacity(waiting.len());
        let mut rest = waiting.as_mut_slice();
        while !rest.is_empty() {
            if manner.merge
                && !protect
                && let Some(merged) = merge_first(&mut transaction.batch, rest).map_err(|_| Next::Apart)?
            {
                rest = &mut rest[merged.writes..];
                places.push(Placed::Merged(merged));
                continue;
            }
            let Some((entry, others)) = rest.split_first_mut() else {
                break;
            };
            let pending = &entry.pending;
            let style = Style {
                id: pending.id.as_ref(),
                protect,
            };
            match Plan::add(&mut transaction.batch, &pending.write, &pending.facts, style) {
                Ok(plan) => places.push(Placed::Alone(plan)),
                Err(failure) => {
                    // Some of its steps are in the batch already.
                    entry.outcome = Outcome::Failed(failure);
                    return Err(Next::Again);
                }
            }
            rest = others;
        }
        Ok((transaction, places))
    }
}

/// Adds the first writes as one statement, where there are at least two that can be one.
fn merge_first(batch: &mut Batch, entries: &[&mut Entry]) -> Result<Option<Merged>, Failure> {
    fn statement(entry: &Entry) -> Option<&Statement> {
        merge::statement(&entry.pending.write, &entry.pending.facts)
    }
    let Some(first) = entries.first().and_then(|entry| statement(entry)) else {
        return Ok(None);
    };
    let same = |entry: &&&mut Entry| {
        statement(entry)
            .is_some_and(|other| other.sql == first.sql && other.params.len() == first.params.len())
    };
    if entries.get(1).filter(same).is_none() {
        return Ok(None);
    }
    let Some(insert) = Insert::of(first) else {
        return Ok(None);
    };
    let alike = || entries.iter().take(insert.most()).take_while(same);
    let statements: Vec<&Statement> = alike().filter_map(|entry| statement(entry)).collect();
    let ids: Vec<&WriteId> = alike().filter_map(|entry| entry.pending.id.as_ref()).collect();
    if statements.len() < 2 {
        return Ok(None);
    }
    Merged::add(batch, &insert, &statements, &ids).map(Some)
}

/// Tells each write what has become of it; `false` where merged writes failed, which go on waiting.
fn tell(group: &mut [Entry], places: &[Placed], reply: &mut BatchReply, position: Seq) -> bool {
    let mut all = true;
    let mut waiting = group.iter_mut().filter(|entry| entry.waits());
    for place in places {
        match place {
            Placed::Alone(plan) => {
                let Some(entry) = waiting.next() else { break };
                match plan.fate(reply, &entry.pending.write) {
                    Fate::Done(rows) => entry.outcome = Outcome::Done(rows, position),
                    Fate::Failed(failure) => entry.outcome = Outcome::Failed(failure),
                    Fate::Repeated => entry.repeat(position),
                    Fate::Skipped => entry.outcome = Outcome::Failed(Failure::TransactionLost),
                }
            }
            Placed::Merged(merged) => {
                let done = merged.done(reply);
                all &= done;
                for entry in waiting.by_ref().take(merged.writes) {
                    if done {
                        entry.outcome = Outcome::Done(Merged::rows(), position);
                    }
                }
            }
        }
    }
    all
}

/// The group was committed, and its reply is lost. A write with an id is tried again, which tells what became of it;
/// of the others nobody knows what each one did.
fn reply_lost(group: &mut [Entry]) {
    for entry in group.iter_mut().filter(|entry| entry.waits()) {
        if entry.pending.id.is_none() {
            entry.outcome = Outcome::Failed(Failure::OutcomeUnknown);
        }
    }
}

/// The transaction was ended by one of its own statements: the last one that failed before nothing was run any more.
fn blame(group: &mut [Entry], places: &[Placed], reply: &mut BatchReply) -> Next {
    let mut waiting: Vec<&mut Entry> = group.iter_mut().filter(|entry| entry.waits()).collect();
    let culprit = places
        .iter()
        .zip(&mut waiting)
        .rev()
        .find_map(|(place, entry)| match place {
            Placed::Alone(plan) => plan.failed(reply).then_some((plan, entry)),
            Placed::Merged(_) => None,
        });
    let Some((plan, entry)) = culprit else {
        return Next::Fail(Failure::TransactionLost);
    };
    match plan.fate(reply, &entry.pending.write) {
        Fate::Failed(failure) if failure.is_callers_fault() => {
            entry.outcome = Outcome::Failed(failure);
            Next::Protect
        }
        Fate::Failed(failure) => Next::Fail(failure),
        Fate::Done(_) | Fate::Repeated | Fate::Skipped => Next::Fail(Failure::TransactionLost),
    }
}

fn fail_waiting(group: &mut [Entry], failure: &Failure) {
    for entry in group.iter_mut().filter(|entry| entry.waits()) {
        entry.outcome = Outcome::Failed(failure.clone());
    }
}
