use std::time::Duration;

use super::*;

const SIZE: Size = Size {
    slots: 4,
    concurrency: 2,
    queue: 2,
};

fn roster(nodes: &[&'static str]) -> (Roster<&'static str>, Vec<WorkerKey>) {
    let mut roster = Roster::new(42, Box::new(runtime_of));
    let keys = nodes
        .iter()
        .map(|node| roster.join((*node).to_owned(), *node, Sizes::of_all(SIZE)))
        .collect();
    (roster, keys)
}

/// Functions in Go have names that say so.
fn runtime_of(function: &str) -> Option<Runtime> {
    Some(if function.starts_with("go") {
        Runtime::Go
    } else {
        Runtime::Node
    })
}

#[test]
fn each_runtime_has_places_of_its_own() {
    let mut sizes = Sizes::of_all(SIZE);
    sizes.set(
        Runtime::Go,
        Size {
            slots: 8,
            concurrency: 8,
            queue: 0,
        },
    );
    let mut roster = Roster::new(42, Box::new(runtime_of));
    roster.join("a".to_owned(), "a", sizes);
    assert_eq!(
        links(&mut roster, "f", 99).len(),
        6,
        "four places and two that wait"
    );
    assert_eq!(links(&mut roster, "go", 99).len(), 8);
}

fn load(function: &str, idle: usize, in_flight: usize) -> Vec<Load> {
    vec![Load {
        function: function.to_owned(),
        idle,
        in_flight,
        queued: 0,
    }]
}

fn links(roster: &mut Roster<&'static str>, function: &str, calls: usize) -> Vec<&'static str> {
    let now = Instant::now();
    (0..calls)
        .map_while(|_| roster.grant(function, &[], now).map(|grant| grant.link))
        .collect()
}

#[test]
fn a_call_goes_where_its_function_is_warm() {
    let (mut roster, keys) = roster(&["a", "b", "c"]);
    roster.advertise(keys[1], load("f", 3, 0), BTreeMap::new(), Instant::now());
    assert_eq!(links(&mut roster, "f", 3), ["b", "b", "b"]);
    let fourth = links(&mut roster, "f", 1);
    assert_eq!(fourth.len(), 1, "it spreads when there is no free place");
}

#[test]
fn a_cold_function_starts_in_one_place_that_all_gateways_agree_on() {
    let (mut one, _) = roster(&["a", "b", "c"]);
    let (mut other, _) = roster(&["c", "a", "b"]);
    let mut homes = std::collections::BTreeSet::new();
    for number in 0..64 {
        let name = format!("f{number}");
        let home = links(&mut one, &name, SIZE.concurrency);
        assert_eq!(home, links(&mut other, &name, SIZE.concurrency), "{name}");
        assert!(
            home.iter().all(|node| *node == home[0]),
            "one process starts: {home:?}"
        );
        homes.insert(home[0]);
    }
    assert_eq!(homes.len(), 3, "functions spread over workers");
}

#[test]
fn of_two_warm_workers_the_less_busy_one_is_taken() {
    let (mut roster, keys) = roster(&["a", "b"]);
    for key in keys {
        roster.advertise(key, load("f", 4, 0), BTreeMap::new(), Instant::now());
    }
    let links = links(&mut roster, "f", 8);
    for pair in links.chunks(2) {
        assert_ne!(pair[0], pair[1], "{links:?}");
    }
}

#[test]
fn calls_of_other_gateways_count() {
    let (mut roster, keys) = roster(&["a", "b"]);
    roster.advertise(keys[0], load("f", 0, 4), BTreeMap::new(), Instant::now());
    roster.advertise(keys[1], load("f", 1, 0), BTreeMap::new(), Instant::now());
    assert_eq!(links(&mut roster, "f", 1), ["b"]);
}

#[test]
fn a_worker_gets_no_more_than_it_takes_and_none_while_it_drains_or_refuses() {
    let now = Instant::now();
    let (mut roster, keys) = roster(&["a", "b"]);
    roster.drain(keys[1]);
    let most = SIZE.slots + SIZE.queue;
    assert_eq!(links(&mut roster, "f", 20), vec!["a"; most]);
    assert!(roster.grant("g", &[keys[0]], now).is_none(), "excluded");
    roster.release(keys[0], "f", now);
    assert!(roster.block(keys[0], "f", now, now + Duration::from_secs(1)));
    assert!(
        !roster.block(keys[0], "f", now, now + Duration::from_secs(9)),
        "known"
    );
    assert!(roster.grant("f", &[], now).is_none());
    assert!(roster.grant("f", &[], now + Duration::from_secs(1)).is_some());
    roster.leave(keys[0]);
    assert_eq!(roster.takers(&[]), 0);
    roster.release(keys[0], "f", now);
}

#[test]
fn who_waits_is_served_by_deadline_and_the_expired_not_at_all() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let (mut roster, keys) = roster(&["a"]);
    let held = links(&mut roster, "f", 20).len();
    let (_, mut late) = roster.wait("f", Vec::new(), at(30), 100).expect("room");
    let (_, mut expired) = roster.wait("f", Vec::new(), at(1), 100).expect("room");
    let (_, mut early) = roster.wait("f", Vec::new(), at(20), 100).expect("room");
    let (ticket, mut left) = roster.wait("f", Vec::new(), at(10), 100).expect("room");
    roster.forget("f", ticket);
    let (_, gone) = roster.wait("f", Vec::new(), at(11), 100).expect("room");
    drop(gone);
    assert!(roster.grant("f", &[], now).is_none(), "nobody overtakes");
    roster.release(keys[0], "f", at(2));
    early.try_recv().expect("the earliest deadline first");
    assert!(late.try_recv().is_err());
    assert!(expired.try_recv().is_err() && left.try_recv().is_err());
    roster.release(keys[0], "f", at(2));
    late.try_recv().expect("then the next");
    for _ in 0..held {
        roster.release(keys[0], "f", at(2));
    }
    assert_eq!(
        links(&mut roster, "f", 20).len(),
        held,
        "every place was given back"
    );
}

#[test]
fn a_queue_is_bounded() {
    let deadline = Instant::now() + Duration::from_secs(1);
    let (mut roster, _) = roster(&[]);
    let _kept: Vec<_> = (0..7)
        .map(|_| roster.wait("f", Vec::new(), deadline, 7).expect("room"))
        .collect();
    assert_eq!(roster.wait("f", Vec::new(), deadline, 7).expect_err("full"), 7);
    roster
        .wait("g", Vec::new(), deadline, 7)
        .expect("each function has its own");
}

#[test]
fn a_waiter_that_a_worker_does_not_suit_is_passed_over() {
    let now = Instant::now();
    let deadline = now + Duration::from_secs(1);
    let (mut roster, keys) = roster(&["a"]);
    links(&mut roster, "f", 20);
    let (_, mut refused) = roster.wait("f", vec![keys[0]], deadline, 100).expect("room");
    let (_, mut other) = roster.wait("f", Vec::new(), deadline, 100).expect("room");
    roster.release(keys[0], "f", now);
    assert!(refused.try_recv().is_err());
    other.try_recv().expect("it takes any worker");
}

#[test]
fn figures_are_summed_over_workers() {
    let (mut roster, keys) = roster(&["a", "b"]);
    for key in keys {
        let pool = PoolStats {
            ready: 1,
            busy: 2,
            total: 3,
            queued: 4,
            invocations: 5,
            started: 6,
            timeouts: 7,
            crashes: 8,
            cold_starts: 9,
        };
        roster.advertise(
            key,
            Vec::new(),
            BTreeMap::from([("node".to_owned(), pool)]),
            Instant::now(),
        );
    }
    let sum = &roster.stats()["node"];
    assert_eq!([sum.ready, sum.busy, sum.total, sum.queued], [2, 4, 6, 8]);
    assert_eq!(
        [
            sum.invocations,
            sum.started,
            sum.timeouts,
            sum.crashes,
            sum.cold_starts
        ],
        [10, 12, 14, 16, 18]
    );
}

#[test]
fn figures_of_functions_are_summed_over_workers_until_they_are_gone() {
    let (mut roster, keys) = roster(&["a", "b"]);
    let mut stats = FunctionStats {
        warm: 1,
        busy: 2,
        queued: 3,
        invocations: 4,
        cold_starts: 5,
        timeouts: 6,
        crashes: 7,
        ..FunctionStats::default()
    };
    stats.durations.add(Duration::from_millis(10));
    for key in &keys {
        roster.learn(*key, vec![("f".to_owned(), stats.clone())], &[]);
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    let _waiting = roster.wait("f", keys.clone(), deadline, 9).expect("room");
    let sum = roster.function_stats()["f"].clone();
    assert_eq!([sum.warm, sum.busy, sum.queued], [2, 4, 7]);
    assert_eq!(
        [sum.invocations, sum.cold_starts, sum.timeouts, sum.crashes],
        [8, 10, 12, 14]
    );
    assert_eq!(sum.durations.steps().map(|(_, count)| count).sum::<u32>(), 2);
    roster.learn(keys[0], Vec::new(), &["f".to_owned()]);
    assert_eq!(roster.function_stats()["f"].invocations, 4);
    roster.leave(keys[1]);
    assert_eq!(
        roster.function_stats()["f"].invocations,
        0,
        "it is waited for here"
    );
}
