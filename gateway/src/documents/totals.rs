//! Totals of lists, kept exact without counting again.
//!
//! A total is remembered with the log position of the state that it was counted in. The next list with the same
//! filter reads, beside its page and in the same state, what the change log holds since that position, and adds
//! it up. **Invariant:** a total is used only where that stretch of the log was seen whole: `seq` has no gaps,
//! so the stretch must begin right after the old position and end at the new one.

use std::num::NonZeroUsize;

use alyx_core::{Row, Seq, Statement, Value};
use alyx_query::Query;
use alyx_schema::{Collection, row_from_image};
use lru::LruCache;
use parking_lot::Mutex;

/// Totals that are remembered.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Longest filter, in bytes of its canonical form, whose total is remembered.
const MAX_QUESTION: usize = 2048;
/// Changes that are added up where there is no filter; with more, counting is as cheap.
const MAX_PLAIN_CHANGES: usize = 256;
/// The same with a filter, which must be evaluated on every row before and after.
const MAX_FILTERED_CHANGES: usize = 48;

const INSERT: i64 = 1;
const UPDATE: i64 = 2;
const DELETE: i64 = 3;

/// What a total is an answer to: a filter over a collection, within one revision of the schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    schema_revision: u64,
    canonical: Box<[u8]>,
}

impl Question {
    pub(super) fn new(schema_revision: u64, query: &Query) -> Self {
        let bare = Query {
            collection: query.collection.clone(),
            filter: query.filter.clone(),
            sort: Vec::new(),
            limit: 0,
            offset: 0,
            fields: Some(Vec::new()),
        };
        Self {
            schema_revision,
            canonical: bare.canonical().into(),
        }
    }
}

/// A total and the position of the state that it holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    total: u64,
    position: Seq,
}

impl Known {
    /// Reads what the log holds since the known position, one row more than may be added up.
    pub(super) fn changes_since(&self, query: &Query) -> Statement {
        const PLAIN: &str =
            "SELECT seq, collection, op FROM _alyx_changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        const FILTERED: &str = "SELECT seq, collection, op, \
             CASE collection WHEN ?3 THEN old END, CASE collection WHEN ?3 THEN new END \
             FROM _alyx_changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let after = Value::Int(i64::try_from(self.position.0).unwrap_or(i64::MAX));
        let limit = |most: usize| Value::Int(i64::try_from(most + 1).unwrap_or(i64::MAX));
        if query.filter.is_true() {
            Statement::new(PLAIN, vec![after, limit(MAX_PLAIN_CHANGES)])
        } else {
            let name = Value::from(query.collection.name.as_str());
            Statement::new(FILTERED, vec![after, limit(MAX_FILTERED_CHANGES), name])
        }
    }

    /// The total at `position`, from the rows of [`Self::changes_since`]; `None` where they do not reach from
    /// the known position to that one.
    pub(super) fn advance(&self, query: &Query, changes: &[Row], position: Seq) -> Option<u64> {
        let mut seen = self.position;
        let mut total = i64::try_from(self.total).ok()?;
        for change in changes {
            let [seq, collection, op, images @ ..] = change.as_slice() else {
                return None;
            };
            seen = Seq(seen.0 + 1);
            if seq.as_int().and_then(|seq| u64::try_from(seq).ok()) != Some(seen.0) {
                return None;
            }
            if collection.as_text() == Some(&query.collection.name) {
                total += effect(query, op.as_int()?, images)?;
            }
        }
        if seen != position {
            return None;
        }
        u64::try_from(total).ok()
    }
}

/// How one change of the collection moves the total.
fn effect(query: &Query, op: i64, images: &[Value]) -> Option<i64> {
    let before = || counts(query, images.first());
    let after = || counts(query, images.get(1));
    match op {
        INSERT => after(),
        UPDATE if query.filter.is_true() => Some(0),
        UPDATE => Some(after()? - before()?),
        DELETE => Some(-before()?),
        _ => None,
    }
}

/// 1 where the row passes the filter, else 0.
fn counts(query: &Query, image: Option<&Value>) -> Option<i64> {
    if query.filter.is_true() {
        return Some(1);
    }
    let collection: &Collection = &query.collection;
    let row = row_from_image(collection, image?.as_text()?).ok()?;
    Some(i64::from(query.filter.matches(&row)))
}

/// The totals that are remembered, the least recently used forgotten first.
#[derive(Debug)]
pub(super) struct Totals {
    known: Mutex<LruCache<Question, Known>>,
}

impl Totals {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::new(LruCache::new(CAPACITY)),
        }
    }

    pub(super) fn known(&self, question: &Question) -> Option<Known> {
        self.known.lock().get(question).copied()
    }

    /// Remembers a total, unless a later one is known already.
    pub(super) fn learn(&self, question: Question, total: u64, position: Seq) {
        if question.canonical.len() > MAX_QUESTION {
            return;
        }
        let mut known = self.known.lock();
        if known.peek(&question).is_none_or(|old| old.position <= position) {
            known.put(question, Known { total, position });
        }
    }
}
