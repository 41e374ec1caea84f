//! The life of a group: opened, joined, started afresh, failed, closed.

use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result, Seq};
use alyx_query::Query;
use alyx_service::realtime::GroupId;

use super::Engine;
use super::reads::{Reading, Wanted, retry_delay};
use crate::group::{Answer, Group, Member, Opening, Phase, Told};
use crate::link::LinkId;
use crate::rebind::{rebind, same_in};
use crate::router::GroupIndex;

/// Reads for one group that may fail in a row before it is given up.
const MAX_FAILURES: u32 = 5;

impl Engine {
    /// A link asks for a group, whose window must not be older than `have`.
    pub(super) fn open(&mut self, link: LinkId, id: GroupId, query: Arc<Query>, have: Option<Seq>) {
        if self.state.has_changed().unwrap_or(false) {
            self.follow_schema();
        }
        if let Some(index) = self.links.leave(link, id) {
            self.forget_member(index, link, id);
        }
        let opened = self.checked(query).and_then(|query| self.group_for(query));
        match opened {
            Ok(index) => {
                if self.links.join(link, id, index) {
                    let told = Told::Nothing(have.unwrap_or_default());
                    self.add_member(index, Member { link, id, told });
                } else {
                    self.close_if_unused(index);
                }
            }
            Err(error) => self.links.fail(link, id, Arc::new(error)),
        }
    }

    /// The query over the collection as it is now.
    fn checked(&self, query: Arc<Query>) -> Result<Arc<Query>> {
        if self.links.members() >= self.limits.max_subscriptions {
            return Err(Error::new(
                ErrorKind::TooManyRequests,
                "TOO_MANY_LIVE_QUERIES",
                "the server follows as many live queries as it can; try again later",
            )
            .with_retry_after(Duration::from_secs(5)));
        }
        let most = self.limits.max_window_rows;
        if query.offset.saturating_add(u64::from(query.limit)) > most {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "WINDOW_TOO_LARGE",
                format!("a live query reaches at most {most} rows deep: offset and limit together are more"),
            ));
        }
        self.bound(&query)
    }

    fn bound(&self, query: &Arc<Query>) -> Result<Arc<Query>> {
        let name = &query.collection.name;
        match self.schema.collection(name) {
            Some(_) if same_in(query, &self.schema) => Ok(query.clone()),
            Some(collection) => rebind(query, collection, &self.schema).map(Arc::new),
            None => Err(Error::new(
                ErrorKind::NotFound,
                "COLLECTION_NOT_FOUND",
                format!("there is no collection `{name}` any more"),
            )),
        }
    }

    /// The group of that query, a new one where there is none.
    fn group_for(&mut self, query: Arc<Query>) -> Result<GroupIndex> {
        let key = query.canonical();
        if let Some(&index) = self.by_key.get(&key) {
            return Ok(index);
        }
        let group = Group::new(key.clone(), query.clone(), self.tail.applied());
        if group.routes.iter().any(|(_, route)| route.is_residual()) {
            tracing::debug!(
                collection = query.collection.name,
                "a live query looks at every change of a collection"
            );
        }
        let routes = group.routes.clone();
        let index = self
            .groups
            .insert(group)
            .ok_or_else(|| Error::internal("the table of groups is full"))?;
        for (collection, route) in &routes {
            self.router.add(collection, route, index);
        }
        self.by_key.insert(key, index);
        self.reopen(index, Duration::ZERO);
        Ok(index)
    }

    fn add_member(&mut self, index: GroupIndex, member: Member) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        let applied = self.tail.applied();
        if let Some(event) = group.join(member, applied) {
            self.links.send(member.link, event);
        }
        if let Told::Nothing(have) = member.told
            && have > applied
        {
            self.gated.entry(have).or_default().push(index);
        }
    }

    /// The link no longer follows the group.
    pub(super) fn forget_member(&mut self, index: GroupIndex, link: LinkId, id: GroupId) {
        if let Some(group) = self.groups.get_mut(index) {
            group.members.retain(|member| !member.is(link, id));
        }
        self.close_if_unused(index);
    }

    fn close_if_unused(&mut self, index: GroupIndex) {
        if self
            .groups
            .get(index)
            .is_some_and(|group| group.members.is_empty())
        {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: GroupIndex) -> Option<Group> {
        let group = self.groups.remove(index)?;
        for (collection, route) in &group.routes {
            self.router.remove(collection, route, index);
        }
        if self.by_key.get(&group.key) == Some(&index) {
            self.by_key.remove(&group.key);
        }
        Some(group)
    }

    /// Reads the group's snapshot, from scratch; its members get `Opened` when it is there.
    fn reopen(&mut self, index: GroupIndex, delay: Duration) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        self.last_ticket += 1;
        group.ticket = self.last_ticket;
        group.looked_at = Seq(0);
        group.phase = Phase::Opening(Opening::new(self.tail.applied()));
        if let Some(joins) = &mut group.joins {
            joins.reset();
        }
        self.wanted.push_back(Wanted {
            group: index,
            ticket: group.ticket,
            delay,
            reading: Reading::Snapshot,
        });
    }

    /// Starts every group afresh that looks at documents of the collection.
    pub(super) fn reopen_collection(&mut self, name: &str) {
        for index in self.groups.indexes() {
            if self.groups.get(index).is_some_and(|group| group.looks_at(name)) {
                self.reopen(index, Duration::ZERO);
            }
        }
    }

    /// Starts every group afresh, from the present place in the log. What gateways hold is of another past: any
    /// window will do for them.
    pub(super) fn start_afresh(&mut self) {
        self.gated.clear();
        for index in self.groups.indexes() {
            if let Some(group) = self.groups.get_mut(index) {
                group.forget_what_members_have();
            }
            self.reopen(index, Duration::ZERO);
        }
    }

    /// A read for the group has ended.
    pub(super) fn answered(&mut self, index: GroupIndex, ticket: u64, answer: Result<Answer>) {
        let Some(group) = self.groups.get_mut(index).filter(|group| group.ticket == ticket) else {
            return;
        };
        match (answer, &mut group.phase) {
            (Ok(answer), Phase::Live(_)) if group.joins.is_some() => self.read_again(index, answer),
            (Ok(answer), Phase::Live(window)) => {
                self.refills += 1;
                group.failures = 0;
                window.refilled(answer.at, answer.rows);
                let gate = window.gate();
                self.gated.entry(gate).or_default().push(index);
            }
            (Ok(answer), Phase::Opening(opening)) if opening.can_use(answer.at) => {
                self.snapshots += 1;
                group.failures = 0;
                let heard = group.open_with(answer);
                for (link, event) in group.open_all() {
                    self.links.send(link, event);
                }
                if let Some(heard) = heard {
                    group.go_on(heard);
                }
            }
            (Ok(_), Phase::Opening(_)) => {
                self.read_failed(
                    index,
                    Error::internal("the snapshot does not join up with the change log"),
                );
            }
            (Err(error), Phase::Live(_)) if group.joins.is_some() && !is_hopeless(&error) => {
                self.reread_failed(index, &error);
            }
            (Err(error), _) => self.read_failed(index, error),
        }
        self.mark_dirty(index);
    }

    /// Tries again a little later, or gives the group up.
    pub(super) fn read_failed(&mut self, index: GroupIndex, error: Error) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        group.failures += 1;
        let failures = group.failures;
        tracing::warn!(collection = group.query.collection.name, failures, %error, cause = ?std::error::Error::source(&error),
            "the rows of a live query cannot be read");
        if is_hopeless(&error) || failures >= MAX_FAILURES {
            self.fail(index, error);
        } else {
            self.reopen(index, retry_delay(failures));
        }
    }

    /// Ends a group and tells its members why.
    fn fail(&mut self, index: GroupIndex, error: Error) {
        let Some(group) = self.remove(index) else {
            return;
        };
        let error = Arc::new(error);
        for member in group.members {
            self.links.fail(member.link, member.id, error.clone());
        }
    }

    /// Takes up the schema that is served now. Groups of collections whose rows look different start afresh, or
    /// fail where their query no longer fits.
    pub(super) fn follow_schema(&mut self) {
        self.schema = self.state.borrow_and_update().schema.clone();
        for index in self.groups.indexes() {
            let Some(group) = self.groups.get(index) else {
                continue;
            };
            let old = group.query.clone();
            match self.bound(&old) {
                Ok(query) if Arc::ptr_eq(&query, &old) => {}
                Ok(query) => self.rebound(index, query),
                Err(error) => self.fail(index, error),
            }
        }
    }

    /// Gives the group its query over the new revision of the collection.
    fn rebound(&mut self, index: GroupIndex, query: Arc<Query>) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        for (collection, route) in &group.routes {
            self.router.remove(collection, route, index);
        }
        if self.by_key.get(&group.key) == Some(&index) {
            self.by_key.remove(&group.key);
        }
        (group.routes, group.joins) = Group::outfit(&query);
        group.key = query.canonical();
        group.query = query;
        for (collection, route) in &group.routes {
            self.router.add(collection, route, index);
        }
        self.by_key.entry(group.key.clone()).or_insert(index);
        self.reopen(index, Duration::ZERO);
    }
}

/// Whether the same read will fail again.
fn is_hopeless(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidInput
}
