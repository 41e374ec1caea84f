//! Who holds the lease: looks, and takes it when nobody has it, or somebody whom this node cannot reach.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::WriterStatus;
use super::silence::Silence;
use crate::remote::{LeaseRow, Remote, Terms};

/// How often a node that does not hold the lease looks who does.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Least pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What the keeper found last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) status: WriterStatus,
}

impl Default for View {
    fn default() -> Self {
        Self {
            status: WriterStatus::Nobody,
        }
    }
}

/// The background task that keeps the view.
pub(super) struct Keeper {
    pub(super) remote: Arc<Remote>,
    pub(super) terms: Terms,
    /// Whether this node may have the lease at the moment.
    pub(super) may_hold: watch::Receiver<bool>,
    pub(super) view: watch::Sender<View>,
    pub(super) look: Arc<Notify>,
    pub(super) silence: Arc<Silence>,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut may_hold = self.may_hold.clone();
        let mut holding = self.remote.holding();
        loop {
            let held = *holding.borrow_and_update();
            if let Some(epoch) = held {
                if !*may_hold.borrow_and_update() {
                    self.give_up().await;
                    continue;
                }
                self.tell(WriterStatus::Here { epoch });
                // An error means that the writer has ended: the store is being closed.
                tokio::select! {
                    changed = holding.changed() => if changed.is_err() {
                        self.tell(WriterStatus::Nobody);
                        return;
                    },
                    // Its sender goes with the store, and that ends this task.
                    Ok(()) = may_hold.changed() => {}
                }
                continue;
            }
            let pause = self.look().await;
            if tokio::time::timeout(LOOK_PAUSE, holding.changed()).await.is_ok() {
                continue;
            }
            tokio::select! {
                () = self.look.notified() => {}
                () = tokio::time::sleep(pause.saturating_sub(LOOK_PAUSE)) => {}
                ended = holding.changed() => {
                    if ended.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Looks once, and takes the lease where nobody has it. Returns when to look again.
    async fn look(&self) -> Duration {
        match self.remote.lease().await {
            Ok(Some(row)) if row.left > Duration::ZERO && row.holder != self.terms.holder => {
                if *self.may_hold.borrow() && self.silence.is_too_long(row.epoch, Instant::now()) {
                    self.take(Some(row.epoch)).await;
                    return LOOK_PAUSE;
                }
                let left = row.left;
                self.tell(elsewhere(row));
                left.min(LOOK_EVERY)
            }
            Ok(_) => {
                self.tell(WriterStatus::Nobody);
                if *self.may_hold.borrow() {
                    self.take(None).await;
                }
                LOOK_PAUSE
            }
            Err(error) => {
                tracing::debug!(%error, "the lease could not be looked at");
                LOOK_EVERY
            }
        }
    }

    async fn give_up(&self) {
        match self.remote.release().await {
            Ok(()) => tracing::info!("this node is the writer no longer: another one may be"),
            Err(error) => {
                tracing::warn!(%error, "the lease could not be given up");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        self.tell(WriterStatus::Nobody);
    }

    /// Takes it, `from` the holder of that epoch although it has not run out.
    async fn take(&self, from: Option<i64>) {
        let terms = Terms {
            from,
            ..self.terms.clone()
        };
        match self.remote.acquire(terms).await {
            Ok(true) if from.is_some() => {
                self.silence.took_over(Instant::now());
                tracing::warn!("the writer could not be reached from here: this node has taken its place");
            }
            Ok(true) => tracing::debug!("the lease is ours"),
            Ok(false) => tracing::debug!("another node was first to take the lease"),
            Err(error) => tracing::debug!(%error, "the lease could not be taken"),
        }
    }

    fn tell(&self, status: WriterStatus) {
        self.view.send_if_modified(|view| {
            let changed = view.status != status;
            if changed {
                tracing::debug!(?status, "the writer has changed");
            }
            view.status = status;
            changed
        });
    }
}

fn elsewhere(row: LeaseRow) -> WriterStatus {
    WriterStatus::Elsewhere {
        address: row.address,
        epoch: row.epoch,
    }
}
