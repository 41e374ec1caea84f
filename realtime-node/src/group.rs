//! A live query with everybody who follows it.

use std::sync::Arc;

use alyx_core::{Row, Seq};
use alyx_query::Query;
use alyx_service::realtime::{Document, GroupEvent, GroupId, WindowChange};

use crate::joins::Joins;
use crate::link::LinkId;
use crate::record::{QueryShape, Record};
use crate::router::{GroupIndex, Route};
use crate::window::{Change, Extent, MAX_PENDING, Snapshot, Transition, Window};

/// One group: a query, its window, and its members on the links.
#[derive(Debug)]
pub(crate) struct Group {
    /// The query in canonical form; equal queries share a group.
    pub(crate) key: Vec<u8>,
    pub(crate) query: Arc<Query>,
    /// Where it is registered: under its own collection first.
    pub(crate) routes: Vec<(String, Route)>,
    /// What it needs where its filter looks into other documents.
    pub(crate) joins: Option<Box<Joins>>,
    pub(crate) members: Vec<Member>,
    pub(crate) phase: Phase,
    /// The read whose answer counts.
    pub(crate) ticket: u64,
    /// Reads that failed in a row.
    pub(crate) failures: u32,
    /// The change looked at last: the router may find a group twice.
    pub(crate) looked_at: Seq,
    /// Whether it waits to be flushed.
    pub(crate) dirty: bool,
}

/// One gateway's interest in a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) link: LinkId,
    pub(crate) id: GroupId,
    pub(crate) told: Told,
}

/// What a member has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing yet; its first window must not be older than this.
    Nothing(Seq),
    /// The window as of there.
    At(Seq),
}

impl Member {
    pub(crate) fn is(&self, link: LinkId, id: GroupId) -> bool {
        self.link == link && self.id == id
    }

    /// Notes that the member is told the window as of `at`, if that is far enough for it.
    fn may_open(&mut self, at: Seq) -> bool {
        let may = match self.told {
            Told::Nothing(have) => have <= at,
            Told::At(_) => true,
        };
        if may {
            self.told = Told::At(at);
        }
        may
    }
}

/// How far a group is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its snapshot is being read.
    Opening(Opening),
    /// Its window follows the log.
    Live(Box<Window<QueryShape>>),
}

/// What a group hears while its snapshot is read.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The snapshot must not be older than this.
    asked_at: Seq,
    heard: Vec<Heard>,
    overflowed: bool,
}

/// A change as it reaches a group.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Whose document it is about.
    pub(crate) collection: Arc<str>,
    pub(crate) change: Change<Record>,
}

/// The answer to a group's read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Position of the read.
    pub(crate) at: Seq,
    pub(crate) rows: Vec<Arc<Record>>,
    /// All rows that match; only where it was asked for.
    pub(crate) total: u64,
    /// What else was asked for: see [`Joins::ask`].
    pub(crate) verdicts: Vec<Vec<Row>>,
}

impl Opening {
    pub(crate) fn new(asked_at: Seq) -> Self {
        Self {
            asked_at,
            heard: Vec::new(),
            overflowed: false,
        }
    }

    pub(crate) fn hear(&mut self, heard: &Heard) {
        if self.heard.len() < MAX_PENDING {
            self.heard.push(heard.clone());
        } else {
            self.overflowed = true;
        }
    }

    /// Whether a snapshot at that position and the changes heard make a window.
    pub(crate) fn can_use(&self, at: Seq) -> bool {
        self.is_late_enough(at) && !self.overflowed
    }

    /// Whether a snapshot at that position is not older than was asked for.
    pub(crate) fn is_late_enough(&self, at: Seq) -> bool {
        at >= self.asked_at
    }

    /// Whether there was more to hear than is kept.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(crate) fn heard(&self) -> &[Heard] {
        &self.heard
    }

    pub(crate) fn into_heard(self) -> Vec<Heard> {
        self.heard
    }
}

impl Group {
    /// A group without members, whose window is to be read at `applied` or later. `key` is the query's canonical form.
    pub(crate) fn new(key: Vec<u8>, query: Arc<Query>, applied: Seq) -> Self {
        let (routes, joins) = Self::outfit(&query);
        Self {
            key,
            query,
            routes,
            joins,
            members: Vec::new(),
            phase: Phase::Opening(Opening::new(applied)),
            ticket: 0,
            failures: 0,
            looked_at: Seq(0),
            dirty: false,
        }
    }

    /// Where a query's group hears of changes, and what it needs besides its window.
    pub(crate) fn outfit(query: &Query) -> (Vec<(String, Route)>, Option<Box<Joins>>) {
        let collection = &query.collection;
        let mut routes = vec![(collection.name.clone(), Route::of(&query.filter, collection))];
        let joins = Joins::of(query);
        if let Some(joins) = &joins {
            routes.extend(joins.routes());
        }
        (routes, joins)
    }

    /// Whether the query looks at documents of that collection.
    pub(crate) fn looks_at(&self, collection: &str) -> bool {
        self.routes.iter().any(|(known, _)| known == collection)
    }

    /// A change that may concern the group.
    pub(crate) fn hear(&mut self, heard: &Heard) {
        match (&mut self.phase, &mut self.joins) {
            (Phase::Opening(opening), _) => opening.hear(heard),
            (Phase::Live(window), None) => window.apply(&heard.change),
            (Phase::Live(window), Some(joins)) => joins.take(window, heard),
        }
    }

    /// The snapshot has been read: the window as of it, and what was heard meanwhile, which goes to
    /// [`Group::go_on`] once the members have the window.
    pub(crate) fn open_with(&mut self, answer: Answer) -> Option<Opening> {
        let snapshot = Snapshot {
            at: answer.at,
            rows: answer.rows,
            total: answer.total,
        };
        let shape = QueryShape::new(self.query.clone());
        let window = Window::open(shape, Self::extent(&self.query), snapshot);
        match std::mem::replace(&mut self.phase, Phase::Live(Box::new(window))) {
            Phase::Opening(opening) => Some(opening),
            Phase::Live(_) => None,
        }
    }

    /// Applies what was heard while the window was read.
    pub(crate) fn go_on(&mut self, heard: Opening) {
        match (&mut self.phase, &mut self.joins) {
            (Phase::Opening(_), _) => {}
            (Phase::Live(window), None) => {
                for heard in heard.heard() {
                    window.apply(&heard.change);
                }
                window.settle();
            }
            (Phase::Live(window), Some(joins)) => joins.go_on(window, heard),
        }
    }

    /// The extent of a query's window.
    pub(crate) fn extent(query: &Query) -> Extent {
        let size = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX / 4);
        Extent::new(size(query.offset), size(u64::from(query.limit)))
    }

    /// Adds a member; its first event, where the window is far enough for it. `applied` is the last commit applied.
    pub(crate) fn join(&mut self, mut member: Member, applied: Seq) -> Option<GroupEvent> {
        let event = match &self.phase {
            Phase::Opening(_) => None,
            Phase::Live(window) => {
                let at = self.position(window, applied);
                member.may_open(at).then(|| opened(window, member.id, at))
            }
        };
        self.members.push(member);
        event
    }

    /// The window once more, for a member that has missed something; `None` where it is told by itself later.
    pub(crate) fn tell_again(&mut self, link: LinkId, id: GroupId, applied: Seq) -> Option<GroupEvent> {
        let Phase::Live(window) = &self.phase else {
            return None;
        };
        let at = self.position(window, applied);
        let member = self.members.iter_mut().find(|member| member.is(link, id))?;
        member.may_open(at).then(|| opened(window, id, at))
    }

    /// The window for every member that it is far enough for, as it was emitted last.
    pub(crate) fn open_all(&mut self) -> Vec<(LinkId, GroupEvent)> {
        let Phase::Live(window) = &self.phase else {
            return Vec::new();
        };
        let (_, _, at) = window.emitted();
        let members = self.members.iter_mut();
        members
            .filter_map(|member| {
                let may = member.may_open(at);
                may.then(|| (member.link, opened(window, member.id, at)))
            })
            .collect()
    }

    /// Members that wait for a window take any from now on.
    pub(crate) fn forget_what_members_have(&mut self) {
        for member in &mut self.members {
            if let Told::Nothing(have) = &mut member.told {
                *have = Seq(0);
            }
        }
    }

    /// How far what was emitted last is the result.
    fn position(&self, window: &Window<QueryShape>, applied: Seq) -> Seq {
        if self.dirty {
            window.emitted().2
        } else {
            window.emitted_through(applied)
        }
    }
}

/// The window as it was emitted last, which is also the window as of `at`.
fn opened(window: &Window<QueryShape>, id: GroupId, at: Seq) -> GroupEvent {
    let (rows, total, _) = window.emitted();
    GroupEvent::Opened {
        group: id,
        at,
        docs: rows.iter().map(|row| window.shape().document(row)).collect(),
        total,
    }
}

/// Events for the members after a flush: the step for those who follow, the window for those who have waited for
/// it. `applied` is the last commit applied.
pub(crate) fn events_after_flush(
    members: &mut [Member],
    window: &Window<QueryShape>,
    step: Option<(Seq, Arc<WindowChange>)>,
    applied: Seq,
    mut send: impl FnMut(LinkId, GroupEvent),
) {
    for member in members {
        match (&mut member.told, &step) {
            (Told::At(at), Some((to, change))) => {
                let event = GroupEvent::Changed {
                    group: member.id,
                    from: std::mem::replace(at, *to),
                    to: *to,
                    change: change.clone(),
                };
                send(member.link, event);
            }
            (Told::At(_), None) => {}
            (Told::Nothing(_), _) => {
                let at = window.emitted_through(applied);
                if member.may_open(at) {
                    send(member.link, opened(window, member.id, at));
                }
            }
        }
    }
}

/// A transition as gateways get it; all members share it.
pub(crate) fn window_change(shape: &QueryShape, step: Transition<QueryShape>) -> Arc<WindowChange> {
    let documents = |rows: Vec<(usize, Arc<Record>)>| -> Vec<(usize, Document)> {
        rows.iter()
            .map(|(place, row)| (*place, shape.document(row)))
            .collect()
    };
    Arc::new(WindowChange {
        inserts: documents(step.inserts),
        updates: documents(step.updates),
        deletes: step.deletes.into_iter().map(|id| id.0).collect(),
        total: step.total,
    })
}

/// All groups, by place.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    places: Vec<Option<Group>>,
    free: Vec<GroupIndex>,
}

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn get(&self, index: GroupIndex) -> Option<&Group> {
        self.places.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: GroupIndex) -> Option<&mut Group> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    /// Adds a group; `None` where there are four thousand million already.
    pub(crate) fn insert(&mut self, group: Group) -> Option<GroupIndex> {
        if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(group);
            return Some(index);
        }
        let index = GroupIndex::try_from(self.places.len()).ok()?;
        self.places.push(Some(group));
        Some(index)
    }

    pub(crate) fn remove(&mut self, index: GroupIndex) -> Option<Group> {
        let group = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(group)
    }

    /// Every place that is taken.
    pub(crate) fn indexes(&self) -> Vec<GroupIndex> {
        let places = (0..).zip(&self.places);
        places
            .filter(|(_, place)| place.is_some())
            .map(|(index, _)| index)
            .collect()
    }
}
