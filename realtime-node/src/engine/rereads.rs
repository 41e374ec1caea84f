//! Windows that cannot tell by themselves what they hold, and are read again: see [`crate::joins`].

use std::time::Instant;

use alyx_core::Error;

use super::Engine;
use super::reads::{Reading, Wanted, retry_delay};
use crate::group::{Answer, Phase, events_after_flush, window_change};
use crate::router::GroupIndex;

impl Engine {
    /// Asks for the read that the group's window needs, now or after its pause.
    pub(super) fn plan_reread(&mut self, index: GroupIndex, now: Instant) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        let (Phase::Live(window), Some(joins)) = (&mut group.phase, &mut group.joins) else {
            return;
        };
        match joins.wants_read(window, now) {
            Some(due) if due <= now => self.ask_again(index, now),
            Some(due) => {
                joins.plan();
                self.planned.entry(due).or_default().push(index);
            }
            None => {}
        }
    }

    /// Asks for the reads whose pause has ended.
    pub(super) fn ask_planned(&mut self, now: Instant) {
        while let Some(due) = self.planned.first_entry().filter(|due| *due.key() <= now) {
            for index in due.remove() {
                let group = self.groups.get(index);
                if group.is_some_and(|group| group.joins.as_ref().is_some_and(|joins| joins.is_planned())) {
                    self.ask_again(index, now);
                }
            }
        }
    }

    fn ask_again(&mut self, index: GroupIndex, now: Instant) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        let Some(joins) = &mut group.joins else {
            return;
        };
        let verdicts = joins.ask(self.tail.applied(), now);
        self.last_ticket += 1;
        group.ticket = self.last_ticket;
        self.wanted_again
            .push_back(Wanted::now(index, group.ticket, Reading::Again(verdicts)));
    }

    /// A window could not be read again: its members keep what they have until it can be, however long that takes.
    pub(super) fn reread_failed(&mut self, index: GroupIndex, error: &Error) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        let Some(joins) = &mut group.joins else {
            return;
        };
        group.failures = group.failures.saturating_add(1);
        tracing::warn!(collection = group.query.collection.name, failures = group.failures, %error, cause = ?std::error::Error::source(error),
            "the rows of a live query cannot be read again");
        joins.read_failed(Instant::now() + retry_delay(group.failures));
    }

    /// A window has been read again: its members are told what it is as of then, before what was heard since.
    pub(super) fn read_again(&mut self, index: GroupIndex, answer: Answer) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        let (Phase::Live(window), Some(joins)) = (&mut group.phase, &mut group.joins) else {
            return;
        };
        let at = answer.at;
        let Some(heard) = joins.answered(window, answer, Instant::now()) else {
            let error = Error::internal("a window was read at a position before the one that it had come to");
            return self.read_failed(index, error);
        };
        self.rereads += 1;
        group.failures = 0;
        let step = window.flush(at).map(|step| {
            self.transitions += 1;
            (step.to, window_change(window.shape(), step))
        });
        let links = &mut self.links;
        events_after_flush(&mut group.members, window, step, at, |link, event| {
            links.send(link, event);
        });
        joins.go_on(window, heard);
        // The node may have to come as far as the read first.
        self.gated.entry(at).or_default().push(index);
    }
}
