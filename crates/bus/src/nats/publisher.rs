//! Sends this process's commits, in order.

use std::sync::Arc;
use std::time::Duration;

use alyx_store::Commit;
use async_nats::Client;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Waiting;
use super::status::StatusWatch;
use crate::{convert, parts};

/// Longest time for sending what still waits when the role stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) struct Publisher {
    subject: String,
    queue: mpsc::Receiver<Waiting>,
    /// Told when a commit found no room in the queue.
    overflow: Arc<Notify>,
    client: watch::Receiver<Option<Client>>,
    status: StatusWatch,
    /// Followers must be told that something was not sent.
    owed: bool,
    /// Commits that were not sent since the link was last in order.
    dropped: u64,
    /// The connection, by its number, that commits were last sent on: its end may have taken some of them with it.
    sent_on: Option<u64>,
}

impl Publisher {
    pub(super) fn new(
        subject: String,
        queue: mpsc::Receiver<Waiting>,
        overflow: Arc<Notify>,
        client: watch::Receiver<Option<Client>>,
        status: StatusWatch,
    ) -> Self {
        Self {
            subject,
            queue,
            overflow,
            client,
            status,
            owed: false,
            dropped: 0,
            sent_on: None,
        }
    }

    /// Until the role stops; then what waits is sent, as far as that goes at once.
    pub(super) async fn run(mut self, cancelled: CancellationToken) {
        cancelled.run_until_cancelled(self.serve()).await;
        self.queue.close();
        let last_words = async {
            while let Some(waiting) = self.queue.recv().await {
                self.announce(&waiting.commit).await;
            }
            self.settle().await;
            if let Some((client, _)) = self.link() {
                // What does not reach NATS any more is in the log.
                let _ = client.flush().await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    }

    async fn serve(&mut self) {
        loop {
            tokio::select! {
                changed = self.status.changed() => if changed.is_err() { return },
                () = self.overflow.notified() => self.owed = true,
                waiting = self.queue.recv() => match waiting {
                    Some(waiting) => self.announce(&waiting.commit).await,
                    None => return,
                },
            }
            self.settle().await;
        }
    }

    /// The client and the number of its connection, while there is one.
    fn link(&mut self) -> Option<(Client, u64)> {
        let status = self.status.borrow();
        let client = self.client.borrow().clone()?;
        status.connected.then_some((client, status.connects))
    }

    async fn announce(&mut self, commit: &Commit) {
        let Some((client, connection)) = self.link() else {
            self.drop_one();
            return;
        };
        let messages = convert::commit(commit)
            .and_then(|wire| parts::cut(wire, commit.position.0, client.max_payload()));
        let Some(messages) = messages else {
            // Read from the log instead, which is no trouble.
            self.owed = true;
            return;
        };
        for message in messages {
            if !self.send(&client, message).await {
                self.drop_one();
                return;
            }
        }
        self.sent_on.get_or_insert(connection);
    }

    /// Tells followers what they are owed, once NATS is there.
    async fn settle(&mut self) {
        let Some((client, connection)) = self.link() else {
            return;
        };
        if self.sent_on.is_some_and(|sent_on| sent_on != connection) {
            self.owed = true;
            self.sent_on = None;
        }
        if self.owed && self.send(&client, convert::lost()).await {
            self.owed = false;
            if self.dropped > 0 {
                tracing::info!(
                    commits = self.dropped,
                    "commits are announced again; those that were not are in the log"
                );
                self.dropped = 0;
            }
        }
    }

    async fn send(&self, client: &Client, message: Bytes) -> bool {
        client.publish(self.subject.clone(), message).await.is_ok()
    }

    fn drop_one(&mut self) {
        if self.dropped == 0 {
            tracing::warn!("NATS is away: commits are not announced, live queries follow the change log");
        }
        self.dropped += 1;
        self.owed = true;
    }
}
