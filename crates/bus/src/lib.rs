//! Carries commits from the writer to everybody who follows them. The fast path only: a follower that misses
//! one sees the hole in `seq` and reads it from the change log, so a bus may lose anything.

use alyx_store::Commit;
use tokio::sync::broadcast;

/// Where commits are published and followed.
#[derive(Debug, Clone)]
pub struct Bus {
    commits: broadcast::Sender<Commit>,
}

impl Bus {
    /// A bus inside this process that keeps the last `capacity` commits for a slow follower.
    pub fn in_process(capacity: usize) -> Self {
        Self {
            commits: broadcast::Sender::new(capacity.max(1)),
        }
    }

    /// Publishes a commit; with nobody listening it goes nowhere.
    pub fn publish(&self, commit: Commit) {
        // An error means that nobody follows, which is no fault.
        let _ = self.commits.send(commit);
    }

    /// Follows the commits published from now on.
    pub fn follow(&self) -> Follower {
        Follower {
            commits: self.commits.subscribe(),
        }
    }
}

/// What a follower hears.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The next commit.
    Commit(Commit),
    /// Some commits were lost; read the log.
    Lost,
}

/// One follower's place on the bus.
#[derive(Debug)]
pub struct Follower {
    commits: broadcast::Receiver<Commit>,
}

impl Follower {
    /// The next delivery; `None` once the bus is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.commits.recv().await {
            Ok(commit) => Some(Delivery::Commit(commit)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Delivery::Lost),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next delivery that is already here.
    pub fn try_next(&mut self) -> Option<Delivery> {
        match self.commits.try_recv() {
            Ok(commit) => Some(Delivery::Commit(commit)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Delivery::Lost),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}
