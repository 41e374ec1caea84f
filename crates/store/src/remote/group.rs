//! Several writes in one transaction, each of which succeeds or fails on its own: one call to the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use alyx_core::{Result, Seq, TraceContext};
use tokio::sync::oneshot;

use super::hrana::BatchReply;
use super::plan::{Fate, Plan, Style, WriteId, size_of_value};
use super::sql::Facts;
use super::transactor::{NotCommitted, Transaction, Transactor};
use crate::failure::{Failure, write_timeout};
use crate::{Commit, Expect, Rows, Write, WriteReply};

/// Times that a group starts over before what is left of it fails.
const MAX_RESTARTS: usize = 8;

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
    /// They start over together, each under a savepoint.
    Protect,
    /// They start over as they were.
    Again,
    /// Each gets a transaction of its own: one of them is at fault, for this reason.
    EachAlone(Failure),
    /// They fail.
    Fail(Failure),
}

impl Transactor {
    /// Carries out the writes and returns the commits to publish, oldest first.
    pub(super) async fn run_group(&mut self, group: &mut [Entry]) -> Vec<Commit> {
        let mut commits = Vec::new();
        let mut protect = false;
        for _ in 0..MAX_RESTARTS {
            match self.attempt(group, (protect, true), &mut commits).await {
                Next::Finish => return commits,
                Next::Protect => protect = true,
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
        let mut inline = true;
        let mut last = Failure::TransactionLost;
        for _ in 0..MAX_RESTARTS {
            match self.attempt(entry, (true, inline), commits).await {
                Next::Finish => return,
                Next::Protect | Next::Again => {}
                // What it changed may be too large to come back together with what it returns.
                Next::EachAlone(Failure::ResultTooLarge) if inline => inline = false,
                Next::EachAlone(failure) | Next::Fail(failure) => {
                    last = failure;
                    break;
                }
            }
        }
        fail_waiting(entry, &last);
    }

    /// One try to carry out the writes that wait.
    async fn attempt(
        &mut self,
        group: &mut [Entry],
        (protect, inline): (bool, bool),
        commits: &mut Vec<Commit>,
    ) -> Next {
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
        let (transaction, plans) = match self.compose(group, protect, inline) {
            Ok(composed) => composed,
            Err(next) => return next,
        };
        match self.commit(transaction).await {
            Ok((mut reply, committed)) => {
                let position = committed.position;
                commits.extend(committed.commits);
                let mut waiting = group.iter_mut().filter(|entry| entry.waits());
                for plan in &plans {
                    let Some(entry) = waiting.next() else { break };
                    match plan.fate(&mut reply, &entry.pending.write) {
                        Fate::Done(rows) => entry.outcome = Outcome::Done(rows, position),
                        Fate::Failed(failure) => entry.outcome = Outcome::Failed(failure),
                        Fate::Repeated => entry.repeat(position),
                        Fate::Skipped => entry.outcome = Outcome::Failed(Failure::TransactionLost),
                    }
                }
                Next::Finish
            }
            Err(NotCommitted::ReplyLost(committed)) => {
                commits.extend(committed.commits);
                reply_lost(group);
                Next::Again
            }
            Err(NotCommitted::Ended(mut reply)) => blame(group, &plans, &mut reply),
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

    fn compose(
        &mut self,
        group: &mut [Entry],
        protect: bool,
        inline: bool,
    ) -> Result<(Transaction, Vec<Plan>), Next> {
        let mut transaction = self.transaction(inline).map_err(Next::Fail)?;
        self.renew(&mut transaction).map_err(Next::Fail)?;
        let mut plans = Vec::with_capacity(group.len());
        for entry in group.iter_mut().filter(|entry| entry.waits()) {
            let style = Style {
                id: entry.pending.id.as_ref(),
                protect: protect || self.partial_triggers,
            };
            match Plan::add(
                &mut transaction.batch,
                &entry.pending.write,
                &entry.pending.facts,
                style,
            ) {
                Ok(plan) => plans.push(plan),
                Err(failure) => {
                    // Some of its steps are in the batch already.
                    entry.outcome = Outcome::Failed(failure);
                    return Err(Next::Again);
                }
            }
        }
        Ok((transaction, plans))
    }
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
fn blame(group: &mut [Entry], plans: &[Plan], reply: &mut BatchReply) -> Next {
    let mut waiting: Vec<&mut Entry> = group.iter_mut().filter(|entry| entry.waits()).collect();
    let culprit = plans.iter().rposition(|plan| plan.failed(reply));
    let Some((culprit, entry)) = culprit.and_then(|at| Some((at, waiting.get_mut(at)?))) else {
        return Next::Fail(Failure::TransactionLost);
    };
    match plans[culprit].fate(reply, &entry.pending.write) {
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
