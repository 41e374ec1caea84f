//! A live query whose filter asks about other documents than its rows: those that they refer to (`author.team_id = …`),
//! and, where access rules ask, whether there are some (`exists`).
//!
//! Whether a row is in the result depends on other documents too, so the group hears the changes of those as well.
//! What a part of the filter says about other documents is kept as a *verdict* by the value of the row that they have,
//! or by null where the row plays no part; with the verdicts at hand, a change of a row is judged in memory like any other. Where one is missing, or a change
//! of a document may have turned one, the window says nothing more, and is read again as a whole, at a later position
//! that its members are taken to in one step. The same read brings the verdicts that were missing.
//!
//! **Invariants:** a verdict that is kept is true of the last change heard. A window that is not stale is what the
//! query returns there.
//!
//! Bounds: [`MAX_VERDICTS`] in memory, [`MAX_MISSING`] in one read, one read at a time, and a pause between two of
//! them that is at least [`PAUSE`] and keeps a slow query from taking more than a fifth of a reader's time.

#[cfg(test)]
mod simulation;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Row, Seq, Statement, Value};
use alyx_query::{Elsewhere, Filter, Query, referring};
use alyx_schema::Collection;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::group::{Answer, Heard, Opening};
use crate::record::{QueryShape, Record, RowId};
use crate::router::Route;
use crate::window::{Change, Snapshot, Window};

/// Verdicts kept for one group, of some 100 bytes each. With more of them all are forgotten.
const MAX_VERDICTS: usize = 4_096;

/// Verdicts that one read of a window also brings.
const MAX_MISSING: usize = 256;

/// The shortest time from the beginning of one read of a window to that of the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Times the duration of a read that pass before the next begins.
const PAUSES_PER_READ: u32 = 5;

/// What such a group has besides its window.
#[derive(Debug)]
pub(crate) struct Joins {
    /// The query's filter in normal form.
    filter: Filter,
    collection: Arc<Collection>,
    /// The parts about other documents in it, each once.
    tops: Vec<Filter>,
    hops: Vec<Hop>,
    /// By place in `tops` and value of the part's field.
    verdicts: FxHashMap<(usize, RowId), bool>,
    missing: FxHashSet<(usize, RowId)>,
    /// The read under way, and what was heard since it was asked for.
    reading: Option<Reading>,
    /// The earliest time of the next read, where it has been.
    pause_until: Option<Instant>,
    /// A read waits for the pause to end.
    planned: bool,
}

/// One step to other documents, which the group follows.
#[derive(Debug)]
struct Hop {
    /// The part at the top that it is within.
    top: usize,
    /// Whether it is that one itself.
    direct: bool,
    /// Name of the collection of the documents.
    collection: String,
    /// The field of a document that has the row's value; none where the row plays no part.
    target: Option<usize>,
    /// What a document passes.
    filter: Filter,
    /// What the part says where no document has the value.
    of_nothing: bool,
    /// The fields of a document that decide: those that the filter looks at, and the target.
    fields: Vec<usize>,
    /// Where the group hears of such documents.
    route: Route,
}

#[derive(Debug)]
struct Reading {
    began: Instant,
    heard: Opening,
    /// The values that verdicts are asked for, by place in `tops`.
    asked: Vec<(usize, Vec<Value>)>,
}

impl Joins {
    /// What the query needs; `None` where a row alone decides.
    pub(crate) fn of(query: &Query) -> Option<Box<Self>> {
        if query.filter.is_local() {
            return None;
        }
        let filter = query.filter.clone().normalize();
        let mut tops: Vec<Filter> = Vec::new();
        let mut hops = Vec::new();
        for part in filter.elsewhere() {
            let top = part.to_filter();
            if !tops.contains(&top) {
                hops_of(part, tops.len(), true, &mut hops);
                tops.push(top);
            }
        }
        Some(Box::new(Self {
            filter,
            collection: query.collection.clone(),
            tops,
            hops,
            verdicts: FxHashMap::default(),
            missing: FxHashSet::default(),
            reading: None,
            pause_until: None,
            planned: false,
        }))
    }

    /// Where the group hears of other documents.
    pub(crate) fn routes(&self) -> Vec<(String, Route)> {
        let routes = self.hops.iter();
        routes
            .map(|hop| (hop.collection.clone(), hop.route.clone()))
            .collect()
    }

    /// Takes one change of a collection that the query looks at.
    pub(crate) fn take(&mut self, window: &mut Window<QueryShape>, heard: &Heard) {
        let Heard { collection, change } = heard;
        // Also while a read is under way: what it brings is not older than what is forgotten here.
        let turned = self.forget_turned(collection, change);
        if let Some(reading) = &mut self.reading {
            reading.heard.hear(heard);
            return;
        }
        if change.seq <= window.read_at() {
            return;
        }
        if turned {
            window.distrust();
        }
        if **collection != *self.collection.name {
            return;
        }
        // Also where the window is stale: the read to come then brings the verdicts that are missing.
        let before = self.judge(change.old.as_deref());
        let after = self.judge(change.new.as_deref());
        match (before, after) {
            (Some(before), Some(after)) if !window.is_stale() => window.apply_known(change, before, after),
            (Some(_), Some(_)) => {}
            _ => window.distrust(),
        }
    }

    /// When the window should be read again: `None` where it is sound, or the read is under way or planned already.
    pub(crate) fn wants_read(&mut self, window: &mut Window<QueryShape>, now: Instant) -> Option<Instant> {
        if window.is_short() {
            // Rows are missing that only a read can bring.
            window.distrust();
        }
        if !window.is_stale() || self.reading.is_some() || self.planned {
            return None;
        }
        Some(self.pause_until.map_or(now, |until| until.max(now)))
    }

    /// A read waits for the time that [`Joins::wants_read`] said.
    pub(crate) fn plan(&mut self) {
        self.planned = true;
    }

    /// Whether a read waits for its time.
    pub(crate) fn is_planned(&self) -> bool {
        self.planned
    }

    /// A read begins, at a position not before `applied`. The statements bring the verdicts that are missing; their
    /// results belong into the answer.
    pub(crate) fn ask(&mut self, applied: Seq, now: Instant) -> Vec<Statement> {
        self.planned = false;
        let mut asked: Vec<(usize, Vec<Value>)> = Vec::new();
        for (top, value) in std::mem::take(&mut self.missing) {
            match asked.iter_mut().find(|(known, _)| *known == top) {
                Some((_, values)) => values.push(value.0),
                None => asked.push((top, vec![value.0])),
            }
        }
        let statement = |(top, values): &(usize, Vec<Value>)| {
            let part = Elsewhere::of(self.tops.get(*top)?)?;
            Some(referring(&self.collection, part, values))
        };
        // Every top is such a part, so none is left out.
        let statements = asked.iter().filter_map(statement).collect();
        self.reading = Some(Reading {
            began: now,
            heard: Opening::new(applied),
            asked,
        });
        statements
    }

    /// The read has ended: the window is what it found, whose position may be let out at once; what was heard
    /// meanwhile is applied by [`Joins::go_on`]. `None` where it is older than was asked for.
    #[must_use]
    pub(crate) fn answered(
        &mut self,
        window: &mut Window<QueryShape>,
        answer: Answer,
        now: Instant,
    ) -> Option<Opening> {
        let reading = self.reading.take()?;
        let took = now.saturating_duration_since(reading.began);
        self.pause_until = Some(reading.began + PAUSE.max(took * PAUSES_PER_READ));
        if !reading.heard.is_late_enough(answer.at) {
            return None;
        }
        self.learn(reading.asked, &answer.verdicts);
        window.replace(Snapshot {
            at: answer.at,
            rows: answer.rows,
            total: answer.total,
        });
        Some(reading.heard)
    }

    /// Applies what was heard while the window was read.
    pub(crate) fn go_on(&mut self, window: &mut Window<QueryShape>, heard: Opening) {
        if heard.overflowed() {
            window.distrust();
        }
        for heard in heard.into_heard() {
            if heard.change.seq > window.read_at() {
                self.take(window, &heard);
            }
        }
        window.settle();
    }

    /// The read has failed, and is not asked for again before `until`. What was heard meanwhile is not missed: the window is
    /// as stale as it was, and verdicts were forgotten as their changes came.
    pub(crate) fn read_failed(&mut self, until: Instant) {
        self.reading = None;
        self.pause_until = Some(until);
    }

    /// Nothing is known any more: the window is opened anew.
    pub(crate) fn reset(&mut self) {
        self.verdicts.clear();
        self.missing.clear();
        self.reading = None;
        self.planned = false;
    }

    /// Keeps the verdicts that a read has brought.
    fn learn(&mut self, asked: Vec<(usize, Vec<Value>)>, found: &[Vec<Row>]) {
        let coming: usize = asked.iter().map(|(_, values)| values.len()).sum();
        if self.verdicts.len() + coming > MAX_VERDICTS {
            self.verdicts.clear();
        }
        for ((top, values), rows) in asked.into_iter().zip(found) {
            let hold: FxHashSet<RowId> = rows
                .iter()
                .filter_map(|row| row.first().cloned().map(RowId))
                .collect();
            for value in values.into_iter().map(RowId) {
                let holds = hold.contains(&value);
                self.verdicts.insert((top, value), holds);
            }
        }
    }

    /// Forgets the verdicts that the change may have turned; whether there may be any, known or not.
    fn forget_turned(&mut self, collection: &str, change: &Change<Record>) -> bool {
        let mut turned = false;
        for hop in &self.hops {
            if hop.collection != collection {
                continue;
            }
            let values = hop.turned(change);
            if values.is_empty() {
                continue;
            }
            turned = true;
            if hop.direct {
                for value in values {
                    self.verdicts.remove(&(hop.top, RowId(value)));
                }
            } else {
                // Which documents further up refer to it is not known.
                self.verdicts.retain(|(top, _), _| *top != hop.top);
            }
        }
        turned
    }

    /// Whether the row is in the result; `None` where a verdict is missing, which is noted.
    fn judge(&mut self, row: Option<&Record>) -> Option<bool> {
        let Some(row) = row.map(Record::row) else {
            return Some(false);
        };
        let mut missing = Vec::new();
        let known = |part: Elsewhere<'_>, value: &Value| {
            let mut tops = self.tops.iter();
            let top = tops.position(|top| Elsewhere::of(top) == Some(part))?;
            let key = (top, RowId(value.clone()));
            let found = self.verdicts.get(&key).copied();
            if found.is_none() {
                missing.push(key);
            }
            found
        };
        let verdict = self.filter.judge(row, known);
        if verdict.is_some() {
            return verdict;
        }
        for key in missing {
            if self.missing.len() < MAX_MISSING {
                self.missing.insert(key);
            }
        }
        None
    }
}

/// The hop of a part about other documents, and those within it.
fn hops_of(part: Elsewhere<'_>, top: usize, direct: bool, hops: &mut Vec<Hop>) {
    let (collection, filter) = (part.collection(), part.filter());
    let target = part.field().map(|_| part.target());
    let mut fields = filter.fields();
    fields.extend(target);
    let of_nothing = part.of_nothing();
    hops.push(Hop {
        top,
        direct,
        collection: collection.name.clone(),
        target,
        of_nothing,
        fields,
        // A document that neither passes nor passed can change nothing, unless its absence counts too.
        route: if of_nothing {
            Route::Residual
        } else {
            Route::of(filter, collection)
        },
        filter: filter.clone(),
    });
    for inner in filter.elsewhere() {
        hops_of(inner, top, false, hops);
    }
}

impl Hop {
    /// The values about which the part may say something else after the change than before. Of several documents with one
    /// value, one that says what it said before turns nothing.
    fn turned(&self, change: &Change<Record>) -> Vec<Value> {
        let (old, new) = (
            change.old.as_deref().map(Record::row),
            change.new.as_deref().map(Record::row),
        );
        if let (Some(old), Some(new)) = (old, new)
            && self.fields.iter().all(|&field| old.get(field) == new.get(field))
        {
            return Vec::new();
        }
        let target = |row: Option<&Row>| match self.target {
            // One verdict for all rows.
            None => row.map(|_| Value::Null),
            Some(target) => {
                let value = row.and_then(|row| row.get(target));
                value.filter(|value| !value.is_null()).cloned()
            }
        };
        let (before, after) = (target(old), target(new));
        let mut values: Vec<Value> = before.iter().chain(&after).cloned().collect();
        values.dedup();
        let says = |row: Option<&Row>, key: &Option<Value>, value: &Value| match row {
            Some(row) if key.as_ref() == Some(value) => self.says(row),
            _ => Some(self.of_nothing),
        };
        values.retain(|value| {
            let (was, is) = (says(old, &before, value), says(new, &after, value));
            was.is_none() || was != is
        });
        values
    }

    /// Whether the document passes; `None` where that depends on others.
    fn says(&self, row: &Row) -> Option<bool> {
        self.filter.judge(row, |_, _| None)
    }
}
