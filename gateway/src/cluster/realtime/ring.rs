//! Which node a query belongs to: rendezvous hashing (Thaler, Ravishankar: "A name-based mapping scheme for
//! rendezvous", 1996). Every gateway that knows the same nodes finds the same owner, and when a node comes or goes
//! only the queries that it gains or had change theirs.

use std::sync::Arc;

use alyx_query::Query;

/// A node that may own queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: Arc<str>,
    seed: u64,
}

impl Candidate {
    pub(super) fn new(id: Arc<str>) -> Self {
        let seed = fnv1a(id.as_bytes());
        Self { id, seed }
    }
}

/// What a query is placed by: equal queries have equal keys.
pub(super) fn key(query: &Query) -> u64 {
    fnv1a(&query.canonical())
}

/// The owner of that key; `None` where there is nobody.
pub(super) fn owner(candidates: &[Candidate], key: u64) -> Option<&Arc<str>> {
    let score = |candidate: &&Candidate| mix(candidate.seed ^ mix(key));
    candidates.iter().max_by_key(score).map(|candidate| &candidate.id)
}

/// FNV-1a with 64 bits: the same on every gateway whatever its version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finalizer of MurmurHash3, which spreads what FNV leaves close together.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn candidates(names: &[&str]) -> Vec<Candidate> {
        names
            .iter()
            .map(|name| Candidate::new(Arc::from(*name)))
            .collect()
    }

    fn owners(names: &[&str]) -> Vec<String> {
        let candidates = candidates(names);
        let keys = (0..10_000_u64).map(|number| fnv1a(&number.to_be_bytes()));
        keys.map(|key| owner(&candidates, key).expect("somebody is there").to_string())
            .collect()
    }

    #[test]
    fn nodes_own_about_as_much_as_each_other() {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for owner in owners(&["node-1", "node-2", "node-3", "node-4"]) {
            *count.entry(owner).or_default() += 1;
        }
        assert_eq!(count.len(), 4);
        assert!(
            count.values().all(|count| (2_300..2_700).contains(count)),
            "{count:?}"
        );
    }

    #[test]
    fn only_what_a_node_gains_or_had_moves() {
        let (three, four) = (owners(&["a", "b", "c"]), owners(&["d", "c", "a", "b"]));
        let moved: Vec<_> = three.iter().zip(&four).filter(|(old, new)| old != new).collect();
        assert!(moved.iter().all(|(_, new)| *new == "d"));
        assert!((2_300..2_700).contains(&moved.len()), "{}", moved.len());
        assert_eq!(owner(&[], 1), None);
    }
}
