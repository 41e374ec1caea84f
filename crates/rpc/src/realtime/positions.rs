//! The position that each group of a stream was told last, and a digest of all of them. Both ends apply the same
//! frames in the same order, so the digests are equal unless one end has missed something.

use alyx_core::Seq;
use alyx_service::realtime::{GroupEvent, GroupId};
use rustc_hash::FxHashMap;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Positions {
    at: FxHashMap<GroupId, Seq>,
    digest: u64,
}

impl Positions {
    /// Notes what an event tells.
    pub fn note(&mut self, event: &GroupEvent) {
        match event {
            GroupEvent::Opened { group, at, .. } => self.set(*group, *at),
            GroupEvent::Changed { group, to, .. } => self.set(*group, *to),
            GroupEvent::Failed { group, .. } => self.forget(*group),
        }
    }

    fn set(&mut self, group: GroupId, at: Seq) {
        if let Some(before) = self.at.insert(group, at) {
            self.digest ^= mark(group, before);
        }
        self.digest ^= mark(group, at);
    }

    /// The group is closed.
    pub fn forget(&mut self, group: GroupId) {
        if let Some(before) = self.at.remove(&group) {
            self.digest ^= mark(group, before);
        }
    }

    /// These instead of all others.
    pub fn set_all(&mut self, positions: &[(GroupId, Seq)]) {
        *self = Self::default();
        for (group, at) in positions {
            self.set(*group, *at);
        }
    }

    /// The position that the group was told last.
    pub fn get(&self, group: GroupId) -> Option<Seq> {
        self.at.get(&group).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, Seq)> {
        self.at.iter().map(|(group, at)| (*group, *at))
    }

    /// Over all groups and positions, whatever their order.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

fn mark(group: GroupId, at: Seq) -> u64 {
    mix(mix(group.0).wrapping_add(at.0))
}

/// The output function of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
