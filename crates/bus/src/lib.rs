//! Carries commits from the writer to everybody who follows them. The fast path only: a follower that misses
//! one sees the hole in `seq` and reads it from the change log, so a bus may lose anything, and deliver anything
//! twice or late.
//!
//! Two backends behind one type: [`Bus::in_process`], and [`Bus::nats`] for roles in processes of their own.

mod convert;
mod nats;
mod parts;

use alyx_core::Result;
use alyx_service::health::SharedCheck;
use alyx_service::tasks::Tasks;
use alyx_store::Commit;
use tokio::sync::broadcast;

pub use nats::NatsOptions;

/// Where commits are published and followed.
#[derive(Debug, Clone)]
pub struct Bus {
    deliveries: broadcast::Sender<Delivery>,
    /// Commits take the way through NATS, also to the followers in this process.
    nats: Option<nats::Link>,
}

impl Bus {
    /// A bus inside this process that keeps the last `capacity` commits for a slow follower.
    pub fn in_process(capacity: usize) -> Self {
        Self {
            deliveries: broadcast::Sender::new(capacity.max(1)),
            nats: None,
        }
    }

    /// A bus over NATS. Returns at once, whether NATS can be reached or not: the link is kept by two tasks of
    /// `tasks`, for as long as they run.
    ///
    /// Errors: `NATS_ADDRESS_INVALID`, `CLUSTER_NAME_INVALID`.
    pub fn nats(options: NatsOptions, tasks: &Tasks) -> Result<Self> {
        let deliveries = broadcast::Sender::new(options.follower_buffer.max(1));
        let link = nats::Link::start(options, deliveries.clone(), tasks)?;
        Ok(Self {
            deliveries,
            nats: Some(link),
        })
    }

    /// Publishes a commit; with nobody listening it goes nowhere. Never blocks: where NATS is away or slower than
    /// the writer, commits are dropped, and followers are told so once it is back.
    pub fn publish(&self, commit: Commit) {
        match &self.nats {
            Some(link) => link.publish(commit),
            // An error means that nobody follows, which is no fault.
            None => drop(self.deliveries.send(Delivery::Commit(commit))),
        }
    }

    /// Follows the commits published from now on. Over NATS it takes a moment until the subscription stands; then,
    /// and after every interruption, the follower hears [`Delivery::Lost`].
    pub fn follow(&self) -> Follower {
        let follower = Follower {
            deliveries: self.deliveries.subscribe(),
        };
        if let Some(link) = &self.nats {
            link.follow();
        }
        follower
    }

    /// How the link to NATS is (`nats`); `None` for a bus inside the process, which cannot fail.
    pub fn health_check(&self) -> Option<SharedCheck> {
        self.nats.as_ref().map(nats::Link::health_check)
    }
}

/// What a follower hears.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The next commit.
    Commit(Commit),
    /// Some commits were lost, or may have been; read the log.
    Lost,
}

/// One follower's place on the bus.
#[derive(Debug)]
pub struct Follower {
    deliveries: broadcast::Receiver<Delivery>,
}

impl Follower {
    /// The next delivery; `None` once the bus is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.deliveries.recv().await {
            Ok(delivery) => Some(delivery),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Delivery::Lost),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next delivery that is already here.
    pub fn try_next(&mut self) -> Option<Delivery> {
        match self.deliveries.try_recv() {
            Ok(delivery) => Some(delivery),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Delivery::Lost),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}
