//! The bus over NATS: one subject per cluster, core publish and subscribe. Nothing is kept by NATS; the change log
//! is the truth, and a follower that was cut off is told to read it.
//!
//! **Invariant:** a follower hears [`Delivery::Lost`] after every moment in which it may have missed a commit that
//! no later one reveals: once its subscription stands (again), after its buffer overflowed, and after the publisher
//! had to drop something.

mod address;
mod publisher;
mod receiver;
mod status;

use std::fmt;
use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result, new_uuid_v7};
use alyx_service::health::SharedCheck;
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_store::Commit;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};

use self::address::Address;
use self::publisher::Publisher;
use self::receiver::Receiver;
use self::status::{NatsCheck, StatusWatch};
use crate::Delivery;

/// Where NATS is, and how much is kept in memory.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://host[:4222]`, also `tls://`, several separated by commas; with `user:password@` or `token@` before
    /// the host.
    pub url: String,
    /// The cluster's name, `[A-Za-z0-9_-]+`; its subjects begin with `alyx.<name>`.
    pub cluster: String,
    /// What NATS shows as this connection's name.
    pub node_id: String,
    /// Commits that wait to be sent; more are dropped.
    pub publish_queue: usize,
    /// Bytes of these commits' rows; what would go beyond is dropped.
    pub publish_bytes: usize,
    /// Commits that are kept for a slow follower.
    pub follower_buffer: usize,
}

impl NatsOptions {
    /// With the usual bounds: 4,096 commits each way, and 32 MiB of them to be sent.
    pub fn new(url: impl Into<String>, cluster: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cluster: cluster.into(),
            node_id: node_id.into(),
            publish_queue: 4_096,
            publish_bytes: 32 << 20,
            follower_buffer: 4_096,
        }
    }
}

/// Without the address, which may hold a password.
impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("cluster", &self.cluster)
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}

/// A commit in the publisher's queue, with the room that it takes there.
#[derive(Debug)]
struct Waiting {
    commit: Commit,
    _room: OwnedSemaphorePermit,
}

/// This process's link to NATS.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    queue: mpsc::Sender<Waiting>,
    /// Room for rows that wait, in bytes.
    room: Arc<Semaphore>,
    overflow: Arc<Notify>,
    joined: Arc<Notify>,
    status: StatusWatch,
}

impl Link {
    /// Starts the link's two tasks.
    pub(crate) fn start(
        options: NatsOptions,
        deliveries: broadcast::Sender<Delivery>,
        tasks: &Tasks,
    ) -> Result<Self> {
        let subjects = Subjects::of(&options.cluster)?;
        let address = Address::parse(&options.url)?;
        let (queue, waiting) = mpsc::channel(options.publish_queue.max(1));
        let (clients, client) = watch::channel(None);
        let (status_sender, status) = status::channel();
        let link = Self {
            queue,
            room: Arc::new(Semaphore::new(options.publish_bytes.min(Semaphore::MAX_PERMITS))),
            overflow: Arc::new(Notify::new()),
            joined: Arc::new(Notify::new()),
            status: status.clone(),
        };
        let publisher = Publisher::new(
            subjects.changes.clone(),
            waiting,
            Arc::clone(&link.overflow),
            client,
            status,
        );
        let receiver = Receiver {
            address,
            node_id: options.node_id,
            subjects,
            buffer: options.follower_buffer.max(1),
            clients,
            status: status_sender,
            joined: Arc::clone(&link.joined),
            deliveries,
        };
        tasks.spawn("NATS receiver", OnEnd::StopAll, receiver.run(tasks.cancelled()));
        tasks.spawn("NATS publisher", OnEnd::StopAll, publisher.run(tasks.cancelled()));
        Ok(link)
    }

    /// Hands a commit to the publisher, or drops it where too many wait.
    pub(crate) fn publish(&self, commit: Commit) {
        let waiting = self
            .make_room(&commit)
            .map(|room| Waiting { commit, _room: room });
        if waiting.is_none_or(|waiting| self.queue.try_send(waiting).is_err()) {
            // With the role stopped there is nobody left to care.
            self.overflow.notify_one();
        }
    }

    fn make_room(&self, commit: &Commit) -> Option<OwnedSemaphorePermit> {
        let images = commit
            .changes
            .iter()
            .flat_map(|change| [&change.old, &change.new]);
        let bytes: usize = images.flatten().map(|image| image.len()).sum();
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()
    }

    /// Makes sure that the subscription stands, and has every follower told once it does.
    pub(crate) fn follow(&self) {
        self.joined.notify_one();
    }

    pub(crate) fn health_check(&self) -> SharedCheck {
        Arc::new(NatsCheck::new(self.status.clone()))
    }
}

/// Subjects of one cluster.
#[derive(Debug)]
struct Subjects {
    /// Where commits are announced.
    changes: String,
    /// This process alone, for learning that its subscription stands.
    echo: String,
}

impl Subjects {
    fn of(cluster: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if cluster.is_empty() || !cluster.bytes().all(plain) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "CLUSTER_NAME_INVALID",
                format!("cluster.name is `{cluster}`; use letters, digits, `_` and `-`"),
            ));
        }
        Ok(Self {
            changes: format!("alyx.{cluster}.changes"),
            echo: format!("alyx.{cluster}.echo.{}", new_uuid_v7()),
        })
    }
}
