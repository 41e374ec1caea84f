//! Several writes in one transaction, each of which succeeds or fails on its own.
//!
//! A write of one statement relies on the statement's own atomicity; one of several runs under a savepoint. The rare
//! statement that leaves something behind when it fails, or that ends the whole transaction, makes the group start
//! over without it, now with a savepoint around every write.

use alyx_core::{Result, Seq};
use tokio::sync::oneshot;

use super::change_log::{self, ChangeReader};
use super::connection::{Budget, Connection, size_of_value};
use crate::failure::Failure;
use crate::{Commit, Expect, Rows, Write, WriteReply};

/// Times that a group starts over before what is left of it fails.
const MAX_RESTARTS: usize = 8;

/// A write and whoever waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<WriteReply>>,
}

impl Pending {
    /// About how many bytes it writes.
    pub(super) fn weight(&self) -> usize {
        self.write
            .steps
            .iter()
            .flat_map(|step| &step.statement.params)
            .map(size_of_value)
            .sum()
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
    Done(Vec<Rows>),
    Failed(Failure),
}

impl Entry {
    fn new(pending: Pending) -> Self {
        Self {
            pending,
            outcome: Outcome::Waiting,
        }
    }

    /// Why it failed, where that is not the caller's doing.
    pub(super) fn storage_failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Failed(failure) if !failure.is_callers_fault() => Some(failure),
            Outcome::Failed(_) | Outcome::Waiting | Outcome::Done(_) => None,
        }
    }

    /// Tells the caller. One that is gone is no fault.
    pub(super) fn answer(self, position: Seq) -> bool {
        let (answer, done) = match self.outcome {
            Outcome::Done(steps) => (Ok(WriteReply { steps, position }), true),
            Outcome::Failed(failure) => (Err(failure.into_error()), false),
            Outcome::Waiting => (Err(Failure::TransactionLost.into_error()), false),
        };
        let _ = self.pending.reply.send(answer);
        done
    }
}

/// Why a group's transaction was given up.
#[derive(Debug)]
enum Undone {
    /// One write spoilt it and is marked; the others can have another try.
    StartOver,
    /// It cannot be carried out.
    Failed(Failure),
}

/// Why a write takes the whole transaction with it.
#[derive(Debug)]
enum Lost {
    /// Through its own fault.
    Culprit(Failure),
    /// The database's.
    Undone(Undone),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        Self::Undone(Undone::Failed(failure))
    }
}

fn fail_all(group: &mut [Entry], failure: &Failure) {
    for entry in group {
        if !matches!(entry.outcome, Outcome::Failed(_)) {
            entry.outcome = Outcome::Failed(failure.clone());
        }
    }
}

/// What a committed transaction means for the followers of the log.
#[derive(Debug)]
pub(super) struct Committed {
    /// The log's head now.
    pub(super) position: Seq,
    /// Commits to publish, oldest first: what a foreign process wrote since the last one, then our own.
    pub(super) commits: Vec<Commit>,
}

/// The writer's side of the database.
pub(super) struct Transactor {
    pub(super) connection: Connection,
    changes: ChangeReader,
    /// The log's head after the last transaction.
    head: Seq,
}

/// An open transaction's news.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// What a foreign process committed since our last transaction.
    foreign: Option<Commit>,
}

impl Transactor {
    pub(super) fn new(mut connection: Connection) -> Result<Self, Failure> {
        let head = change_log::head(&mut connection)?;
        Ok(Self {
            connection,
            changes: ChangeReader::default(),
            head,
        })
    }

    /// The log's head after the last transaction.
    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// Takes the write lock, and reads what a foreign process has written to the log meanwhile.
    pub(super) fn begin(&mut self) -> Result<Opened, Failure> {
        self.connection.own("BEGIN IMMEDIATE", Vec::new())?;
        match self.foreign_commit() {
            Ok(foreign) => Ok(Opened { foreign }),
            Err(failure) => {
                self.connection.rollback();
                Err(failure)
            }
        }
    }

    fn foreign_commit(&mut self) -> Result<Option<Commit>, Failure> {
        let head = change_log::head(&mut self.connection)?;
        if head <= self.head {
            return Ok(None);
        }
        let changes = self.changes.read(&mut self.connection, self.head, head)?;
        change_log::record_commit(&mut self.connection, head)?;
        Ok((!changes.is_empty()).then(|| Commit {
            position: head,
            changes: changes.into(),
            traces: Vec::new(),
        }))
    }

    /// Records the new changes as one commit and commits.
    pub(super) fn commit(&mut self, opened: Opened) -> Result<Committed, Failure> {
        let before = opened
            .foreign
            .as_ref()
            .map_or(self.head, |foreign| foreign.position);
        let finish = |this: &mut Self| -> Result<Option<Commit>, Failure> {
            let changes = this
                .changes
                .read(&mut this.connection, before, Seq(i64::MAX as u64))?;
            let own = changes.last().map(|last| last.seq);
            if let Some(position) = own {
                change_log::record_commit(&mut this.connection, position)?;
            }
            this.connection.own("COMMIT", Vec::new())?;
            Ok(own.map(|position| Commit {
                position,
                changes: changes.into(),
                traces: Vec::new(),
            }))
        };
        match finish(self) {
            Ok(own) => {
                let commits: Vec<Commit> = opened.foreign.into_iter().chain(own).collect();
                self.head = commits.last().map_or(before, |commit| commit.position);
                Ok(Committed {
                    position: self.head,
                    commits,
                })
            }
            Err(failure) => {
                self.connection.rollback();
                Err(failure)
            }
        }
    }

    /// Carries out `first` and whatever `more` hands over until it has nothing left, in one transaction.
    ///
    /// Where the transaction cannot be begun or committed, every write of the group has failed and nothing is to be
    /// published; the group is returned either way, to be answered.
    pub(super) fn run_group(
        &mut self,
        first: Vec<Pending>,
        mut more: impl FnMut() -> Option<Pending>,
    ) -> (Vec<Entry>, Option<Committed>) {
        let mut group: Vec<Entry> = first.into_iter().map(Entry::new).collect();
        let mut protect = false;
        for _ in 0..MAX_RESTARTS {
            let undone = match self.attempt(&mut group, protect, &mut more) {
                Ok(committed) => return (group, Some(committed)),
                Err(undone) => undone,
            };
            self.connection.rollback();
            match undone {
                Undone::StartOver => protect = true,
                Undone::Failed(failure) if failure.is_callers_fault() && group.len() > 1 => {
                    return self.run_each_alone(group);
                }
                Undone::Failed(failure) if failure.is_callers_fault() => {
                    fail_all(&mut group, &failure);
                    return (group, Some(self.nothing()));
                }
                Undone::Failed(failure) => {
                    fail_all(&mut group, &failure);
                    return (group, None);
                }
            }
        }
        fail_all(&mut group, &Failure::TransactionLost);
        (group, None)
    }

    /// Nothing was to be committed.
    fn nothing(&self) -> Committed {
        Committed {
            position: self.head,
            commits: Vec::new(),
        }
    }

    fn attempt(
        &mut self,
        group: &mut Vec<Entry>,
        protect: bool,
        more: &mut impl FnMut() -> Option<Pending>,
    ) -> Result<Committed, Undone> {
        for entry in group.iter_mut() {
            if let Outcome::Done(_) = entry.outcome {
                entry.outcome = Outcome::Waiting;
            }
        }
        let opened = self.begin().map_err(Undone::Failed)?;
        let mut next = 0;
        loop {
            while let Some(entry) = group.get_mut(next) {
                next += 1;
                if let Outcome::Waiting = entry.outcome {
                    entry.outcome = match self.apply(&entry.pending.write, protect) {
                        Ok(outcome) => outcome,
                        Err(Lost::Undone(undone)) => return Err(undone),
                        Err(Lost::Culprit(failure)) => {
                            entry.outcome = Outcome::Failed(failure);
                            return Err(Undone::StartOver);
                        }
                    };
                }
            }
            match more() {
                Some(pending) => group.push(Entry::new(pending)),
                None => break,
            }
        }
        if !group
            .iter()
            .any(|entry| matches!(entry.outcome, Outcome::Done(_)))
            && opened.foreign.is_none()
        {
            self.connection.rollback();
            return Ok(self.nothing());
        }
        self.commit(opened).map_err(Undone::Failed)
    }

    /// One of the group made the commit fail, by a constraint that is checked there (a deferred foreign key) or by a
    /// change that cannot be read: each write gets a transaction of its own, so that only that one fails.
    fn run_each_alone(&mut self, group: Vec<Entry>) -> (Vec<Entry>, Option<Committed>) {
        let mut answered = Vec::with_capacity(group.len());
        let mut commits = Vec::new();
        for entry in group {
            if let Outcome::Failed(_) = entry.outcome {
                answered.push(entry);
                continue;
            }
            let (mut own, committed) = self.run_group(vec![entry.pending], || None);
            answered.append(&mut own);
            commits.extend(committed.into_iter().flat_map(|committed| committed.commits));
        }
        let position = self.head;
        (answered, Some(Committed { position, commits }))
    }

    /// One write. `Err` where the whole transaction is no longer what it should be.
    fn apply(&mut self, write: &Write, protect: bool) -> Result<Outcome, Lost> {
        let savepoint = protect || write.steps.len() > 1;
        let before = self.connection.total_changes();
        if savepoint {
            self.connection.own("SAVEPOINT step", Vec::new())?;
        }
        let outcome = self.steps(write);
        if self.connection.is_autocommit() {
            // The statement ended the transaction: a full disk, or a trigger that raises ROLLBACK.
            return Err(match outcome {
                Err(failure) if !failure.is_callers_fault() => Lost::Undone(Undone::Failed(failure)),
                Err(failure) => Lost::Culprit(failure),
                Ok(_) => Lost::Culprit(Failure::TransactionLost),
            });
        }
        match outcome {
            Ok(rows) => {
                if savepoint {
                    self.connection.own("RELEASE step", Vec::new())?;
                }
                Ok(Outcome::Done(rows))
            }
            Err(failure) => {
                if savepoint {
                    self.connection.own("ROLLBACK TO step", Vec::new())?;
                    self.connection.own("RELEASE step", Vec::new())?;
                } else if self.connection.total_changes() != before {
                    // It left something behind (`OR FAIL`, or more rows than a reply may have).
                    return Err(Lost::Culprit(failure));
                }
                Ok(Outcome::Failed(failure))
            }
        }
    }

    fn steps(&mut self, write: &Write) -> Result<Vec<Rows>, Failure> {
        let mut budget = Budget::of_request();
        let mut replies = Vec::with_capacity(write.steps.len());
        for (number, step) in write.steps.iter().enumerate() {
            let rows = self.connection.run(&step.statement, &mut budget);
            let met = rows.and_then(|rows| {
                let nothing = rows.affected == 0 && rows.rows.is_empty();
                match step.expect {
                    Expect::Row if nothing => Err(Failure::NoRow),
                    Expect::Holds(condition) if nothing => Err(Failure::Unmet(condition)),
                    Expect::Any | Expect::Row | Expect::Holds(_) => Ok(rows),
                }
            });
            replies.push(met.map_err(|failure| failure.at_step(number, write.steps.len()))?);
        }
        Ok(replies)
    }
}
