//! NATS that goes away, is wiped, freezes, refuses, and says what nobody published.

use std::time::Duration;

use alyx_bus::{Bus, Delivery, NatsOptions};
use alyx_proto::bus::{Announcement, Change, Commit, Lost, Op, Part, announcement::Body};
use alyx_service::health::Status;
use alyx_service::tasks::Tasks;
use alyx_store::ChangeOp;
use prost::Message;
use rustix::process::Signal;

use crate::support::{
    Nats, Node, commit, commit_after_losses, commit_of, eventually, loss, next, next_commit,
};

#[tokio::test]
async fn nodes_hear_each_other_and_not_another_cluster() {
    let nats = Nats::start().await;
    let (writer, reader) = (Node::on(&nats.url()), Node::on(&nats.url()));
    let other = Node::with(NatsOptions::new(nats.url(), "other", "node"));
    let mut follower = reader.follow().await;
    let mut stranger = other.follow().await;
    writer.bus.publish(commit(1, 10));
    assert_eq!(next_commit(&mut follower).await.position.0, 1);
    other.bus.publish(commit(9, 10));
    assert_eq!(next_commit(&mut stranger).await.position.0, 9);
    assert!(follower.try_next().is_none());
}

#[tokio::test]
async fn a_node_starts_without_nats_and_joins_when_it_comes() {
    let mut nats = Nats::start().await;
    nats.kill().await;
    let node = Node::on(&nats.url());
    let mut follower = node.bus.follow();
    node.is(Status::Degraded).await;
    node.bus.publish(commit(1, 10));
    nats.restart().await;
    assert!(matches!(next(&mut follower).await, Delivery::Lost));
    node.is(Status::Healthy).await;
    node.bus.publish(commit(2, 10));
    assert_eq!(commit_after_losses(&mut follower).await.position.0, 2);
}

#[tokio::test]
async fn after_kill_nine_and_wiped_data_followers_are_told_and_commits_flow_again() {
    let mut nats = Nats::start().await;
    let (writer, reader) = (Node::on(&nats.url()), Node::on(&nats.url()));
    let mut follower = reader.follow().await;
    for round in 0..3 {
        // A commit that comes before the reader is subscribed again is lost, and so told.
        let mut seq = round * 1_000 + 1;
        writer.bus.publish(commit(seq, 10));
        while matches!(next(&mut follower).await, Delivery::Lost) {
            seq += 1;
            writer.bus.publish(commit(seq, 10));
        }
        while follower.try_next().is_some() {}
        nats.kill().await;
        writer.is(Status::Degraded).await;
        reader.is(Status::Degraded).await;
        for lost in 1..50 {
            writer.bus.publish(commit(seq + lost, 10));
        }
        nats.restart().await;
        loss(&mut follower).await;
        writer.is(Status::Healthy).await;
        reader.is(Status::Healthy).await;
    }
}

#[tokio::test]
async fn a_follower_whose_own_link_held_is_told_what_the_publisher_dropped() {
    let nats = Nats::start().await;
    let options = || NatsOptions::new(nats.url(), "test", "small");
    // One queue is full by its commits, the other by their bytes (44 each).
    for options in [
        NatsOptions {
            publish_queue: 2,
            ..options()
        },
        NatsOptions {
            publish_bytes: 100,
            ..options()
        },
    ] {
        let (writer, reader) = (Node::with(options), Node::on(&nats.url()));
        writer.is(Status::Healthy).await;
        let mut follower = reader.follow().await;
        // Nothing runs between these on a runtime of one thread, so the queue overflows.
        for seq in 1..=10 {
            writer.bus.publish(commit(seq, 36));
        }
        let (mut heard, mut losses) = (Vec::new(), 0);
        while heard.len() < 2 || losses == 0 {
            match next(&mut follower).await {
                Delivery::Commit(commit) => heard.push(commit.position.0),
                Delivery::Lost => losses += 1,
            }
        }
        assert_eq!(heard, [1, 2], "what found room");
        // There is room again.
        writer.bus.publish(commit(11, 36));
        assert_eq!(commit_after_losses(&mut follower).await.position.0, 11);
    }
}

#[tokio::test]
async fn a_frozen_nats_neither_blocks_the_writer_nor_goes_unnoticed() {
    let nats = Nats::start().await;
    let options = NatsOptions {
        publish_queue: 64,
        ..NatsOptions::new(nats.url(), "test", "writer")
    };
    let (writer, reader) = (Node::with(options), Node::on(&nats.url()));
    let mut follower = reader.follow().await;
    writer.is(Status::Healthy).await;
    nats.signal(Signal::STOP);
    // Far more than all queues and socket buffers on the way hold.
    for seq in 1..=2_000 {
        writer.bus.publish(commit(seq, 20_000));
        tokio::task::yield_now().await;
    }
    writer.is(Status::Degraded).await;
    nats.signal(Signal::CONT);
    loss(&mut follower).await;
    writer.is(Status::Healthy).await;
    writer.bus.publish(commit(9_000, 10));
    while commit_after_losses(&mut follower).await.position.0 != 9_000 {}
}

#[tokio::test]
async fn a_commit_too_large_for_the_bus_is_replaced_by_a_look_at_the_log() {
    let nats = Nats::start().await;
    let node = Node::on(&nats.url());
    let mut follower = node.follow().await;
    // Over the bound of a commit, and over that of everything that waits.
    for size in [100_000, 200_000] {
        node.bus.publish(commit_of(1, &[ChangeOp::Update; 100], size));
        assert!(matches!(next(&mut follower).await, Delivery::Lost));
    }
    node.bus.publish(commit(101, 10));
    assert_eq!(next_commit(&mut follower).await.position.0, 101);
}

#[tokio::test]
async fn a_commit_with_holes_in_its_numbers_is_never_announced() {
    let nats = Nats::start().await;
    let node = Node::on(&nats.url());
    let mut follower = node.follow().await;
    let mut holes = commit_of(1, &[ChangeOp::Insert; 2], 10);
    let mut changes = holes.changes.to_vec();
    changes[1].seq.0 = 5;
    holes.changes = changes.into();
    holes.position.0 = 5;
    node.bus.publish(holes);
    assert!(matches!(next(&mut follower).await, Delivery::Lost));
}

/// Something on the subject that no publisher of ours sent.
fn encoded(body: Body) -> Vec<u8> {
    Announcement { body: Some(body) }.encode_to_vec()
}

fn wire(first: u64, ops: &[(Op, Option<&str>, Option<&str>)]) -> Body {
    let change = |(op, old, new): &(Op, Option<&str>, Option<&str>)| Change {
        collection: "notes".to_owned(),
        op: (*op).into(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    Body::Commit(Commit {
        first,
        changes: ops.iter().map(change).collect(),
        traces: Vec::new(),
    })
}

#[tokio::test]
async fn messages_from_anybody_are_checked_and_the_link_lives_on() {
    let nats = Nats::start().await;
    let node = Node::on(&nats.url());
    let mut follower = node.follow().await;
    let client = async_nats::connect(nats.url()).await.expect("a plain client");
    let insert = [(Op::Insert, None, Some("{}"))];
    let sound = encoded(wire(7, &insert));
    let part = |index, count, data: &'static [u8]| {
        encoded(Body::Part(Part {
            position: 7,
            index,
            count,
            data: data.into(),
        }))
    };
    // `C` a commit, `L` a loss, nothing where the message is silently passed over.
    for (message, heard) in [
        (sound.clone(), "C"),
        (sound.clone(), "C"),
        (encoded(wire(3, &insert)), "C"),
        (Vec::new(), "L"),
        (b"\xff\xff\xff garbage".to_vec(), "L"),
        (encoded(Body::Lost(Lost {})), "L"),
        (encoded(wire(0, &insert)), "L"),
        (encoded(wire(u64::MAX, &insert)), "L"),
        (encoded(wire(1, &[])), "L"),
        (encoded(wire(1, &[(Op::Insert, Some("{}"), Some("{}"))])), "L"),
        (encoded(wire(1, &[(Op::Delete, None, None)])), "L"),
        (encoded(wire(1, &[(Op::Unspecified, None, Some("{}"))])), "L"),
        (part(1, 2, b"x"), ""),
        (part(0, 1, b"\xff"), "L"),
        (part(0, 0, b""), "L"),
        (part(0, u32::MAX, b"x"), ""),
        (part(2, u32::MAX, b"x"), "L"),
        (sound, "C"),
    ] {
        let shown = format!("{message:?}");
        client
            .publish("alyx.test.changes", message.into())
            .await
            .expect("sent");
        for expected in heard.chars() {
            let got = match next(&mut follower).await {
                Delivery::Commit(_) => 'C',
                Delivery::Lost => 'L',
            };
            assert_eq!(got, expected, "{shown}");
        }
    }
    assert!(follower.try_next().is_none());
    assert_eq!(node.health().await.0, Status::Healthy);
}

#[tokio::test]
async fn wrong_credentials_are_reported_without_being_shown_and_right_ones_work() {
    let nats = Nats::start_with(&["--user", "alyx", "--pass", "correct horse"]).await;
    let host = nats.url().replace("nats://", "");
    let wrong = Node::on(&format!("nats://alyx:guess@{host}"));
    let right = Node::on(&format!("nats://alyx:correct%20horse@{host}"));
    let mut follower = right.follow().await;
    right.bus.publish(commit(1, 10));
    assert_eq!(next_commit(&mut follower).await.position.0, 1);
    eventually("the refusal is reported", || async {
        let (status, message) = wrong.health().await;
        assert!(!message.contains("guess"), "{message}");
        if status == Status::Degraded && message.contains("authorization") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    let shown = format!("{:?}", NatsOptions::new("nats://alyx:guess@host", "test", "node"));
    assert!(!shown.contains("guess"), "{shown}");
}

#[tokio::test]
async fn what_waits_is_sent_when_the_role_stops_and_the_followers_end() {
    let nats = Nats::start().await;
    let (writer, reader) = (Node::on(&nats.url()), Node::on(&nats.url()));
    let mut follower = reader.follow().await;
    writer.is(Status::Healthy).await;
    for seq in 1..=100 {
        writer.bus.publish(commit(seq, 10));
    }
    assert!(writer.tasks.stop(Duration::from_secs(10)).await);
    for seq in 1..=100 {
        assert_eq!(next_commit(&mut follower).await.position.0, seq);
    }
    let Node { bus, tasks } = reader;
    assert!(tasks.stop(Duration::from_secs(10)).await);
    drop(bus);
    assert!(follower.next().await.is_none());
}

#[tokio::test]
async fn unusable_options_are_refused() {
    let tasks = Tasks::new();
    for (url, cluster, code) in [
        ("http://127.0.0.1", "alyx", "NATS_ADDRESS_INVALID"),
        ("nats://127.0.0.1", "a.b", "CLUSTER_NAME_INVALID"),
        ("nats://127.0.0.1", "", "CLUSTER_NAME_INVALID"),
        ("nats://127.0.0.1", "a >", "CLUSTER_NAME_INVALID"),
    ] {
        let error = Bus::nats(NatsOptions::new(url, cluster, "node"), &tasks).expect_err("refused");
        assert_eq!(error.code(), code, "{url} {cluster}");
    }
}
