//! What gateways must know of at once: sessions that have ended, accounts that have changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, Result, Row, Statement, Value};
use rustc_hash::FxHashSet;

use super::{Auth, step};
use crate::realtime::Hub;

/// Pauses between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// Events read at once; where there are more, everything is taken to have changed.
const MAX_EVENTS: usize = 1_000;
/// Events that are kept, for gateways that were away for a moment.
const KEPT: i64 = 10_000;
/// Looks between two times of removing old events.
const CLEAN_EVERY: u32 = 240;

/// Sessions that have ended or whose account has changed.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    everything: bool,
    users: FxHashSet<String>,
    sessions: FxHashSet<String>,
}

impl Gone {
    /// Too much was missed to say which.
    pub(crate) fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Whether that session of that account is one of them.
    pub(crate) fn is_over(&self, user: &str, session: &str) -> bool {
        self.everything || self.users.contains(user) || self.sessions.contains(session)
    }

    fn is_empty(&self) -> bool {
        !self.everything && self.users.is_empty() && self.sessions.is_empty()
    }
}

/// Follows the events for as long as it is polled: forgets what has changed and closes the sockets of it.
pub(crate) async fn follow(auth: Arc<Auth>, hub: Option<Arc<Hub>>) {
    let mut follower = Follower {
        position: None,
        looks: 0,
        troubled: false,
    };
    loop {
        let began = Instant::now();
        match follower.look(&auth).await {
            Ok(gone) => {
                if !gone.is_empty() {
                    auth.forget(&gone);
                    if let Some(hub) = &hub {
                        hub.end_sessions(&gone);
                    }
                }
                auth.is_up_to_date(began);
                follower.troubled = false;
            }
            Err(error) => {
                if !follower.troubled {
                    tracing::warn!(code = error.code(), "changes of sessions cannot be read: {error}");
                }
                follower.troubled = true;
            }
        }
        // A change made here is heard of at once.
        let _ = tokio::time::timeout(EVERY, auth.changed.notified()).await;
    }
}

struct Follower {
    /// The last event that was read.
    position: Option<i64>,
    looks: u32,
    troubled: bool,
}

impl Follower {
    async fn look(&mut self, auth: &Auth) -> Result<Gone> {
        self.looks += 1;
        let deadline = Instant::now() + Duration::from_secs(2);
        if self.looks % CLEAN_EVERY == 1 {
            clean(auth, deadline).await?;
        }
        let Some(position) = self.position else {
            self.position = Some(head(auth, deadline).await?);
            return Ok(Gone::everything());
        };
        let sql = format!(
            "SELECT seq, user_id, session_id FROM _alyx_auth_events WHERE seq > ?1 ORDER BY seq LIMIT {}",
            MAX_EVENTS + 1
        );
        let rows = auth
            .query(Statement::new(sql, vec![Value::Int(position)]), deadline)
            .await?;
        let Some(first) = rows.rows.first() else {
            return Ok(Gone::default());
        };
        // Numbers are given without gaps: one that is missing was removed before it was read.
        if rows.rows.len() > MAX_EVENTS || number(first)? != position + 1 {
            self.position = Some(head(auth, deadline).await?);
            return Ok(Gone::everything());
        }
        let mut gone = Gone::default();
        for row in &rows.rows {
            self.position = Some(number(row)?);
            let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
            match text(2) {
                Some(session) => gone.sessions.insert(session),
                None => gone.users.insert(text(1).unwrap_or_default()),
            };
        }
        Ok(gone)
    }
}

async fn head(auth: &Auth, deadline: Instant) -> Result<i64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM _alyx_auth_events";
    let rows = auth.query(Statement::new(sql, Vec::new()), deadline).await?;
    rows.rows.first().map_or(Ok(0), number)
}

fn number(row: &Row) -> Result<i64> {
    let number = row.first().and_then(Value::as_int);
    number.ok_or_else(|| Error::internal("an event of a session has no number"))
}

/// Removes what everybody has read long ago, and accounts that nobody uses any more.
async fn clean(auth: &Auth, deadline: Instant) -> Result<()> {
    let old = Statement::new(
        "DELETE FROM _alyx_auth_events WHERE seq <= (SELECT max(seq) FROM _alyx_auth_events) - ?1",
        vec![Value::Int(KEPT)],
    );
    let mut steps = vec![step(old)];
    steps.extend(auth.remove_unused_in_time());
    auth.prepare().await?;
    let write = alyx_store::Write { steps, deadline };
    auth.store.write(write).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use alyx_config::{Config, Secret};
    use alyx_core::SystemClock;
    use alyx_store::{EmbeddedOptions, Store};

    use super::*;
    use crate::auth::{Beginning, Device};

    #[tokio::test]
    async fn accounts_that_nobody_uses_are_removed_with_nobody_asking() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions::new(dir.path().join("a.db"));
        let store = Store::open_embedded(options, |_| {}).expect("opened");
        let mut config = Config::default();
        config.auth.jwt.secret = Some(Secret::new("a secret of the test, of 32 bytes"));
        config.auth.allow_anonymous = true;
        let auth = Auth::new(&config, store, Arc::new(SystemClock), "http://localhost").expect("a key");
        let deadline = Instant::now() + Duration::from_secs(10);
        for _ in 0..2 {
            let device = Device::default();
            let made = auth.register_anonymously(Beginning::default(), &device, deadline);
            made.await.expect("made");
        }
        let old = "UPDATE _alyx_users SET updated_at = '2026-01-01T00:00:00.000Z' WHERE id IN \
                   (SELECT id FROM _alyx_users LIMIT 1)";
        let old = Statement::new(old, Vec::new());
        auth.write(vec![step(old)], deadline).await.expect("written");
        let count = async |table: &str| {
            let count = Statement::new(format!("SELECT count(*) FROM {table}"), Vec::new());
            number(&auth.query(count, deadline).await.expect("read").rows[0]).expect("a count")
        };
        let mut follower = Follower {
            position: None,
            looks: 0,
            troubled: false,
        };
        follower.look(&auth).await.expect("looked");
        assert_eq!(
            (count("_alyx_users").await, count("_alyx_sessions").await),
            (1, 1)
        );
    }
}
