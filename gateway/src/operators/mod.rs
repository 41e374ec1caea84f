//! API tokens and operators at the gateway: who shows one, and the news that one has ended.
//!
//! A token is looked up by its digest and remembered while nothing is heard of changes. **Invariant:** a token that
//! was revoked is not accepted a second later, by any gateway, on any surface; where changes cannot be followed,
//! nothing that is remembered is believed. As long as nobody has shown a token, nothing is asked of the database.

mod desk;
mod follow;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use alyx_auth::{TokenDigest, token_digest};
use alyx_core::{ApiToken, Caller, Clock, Error, ErrorKind, Result};
use alyx_operators::{Known, Operators};
use alyx_store::Store;
use lru::LruCache;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

pub(crate) use desk::TokenReply;
pub(crate) use follow::follow;

use crate::auth::Identity;

/// Tokens that are remembered.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// How long what is remembered is believed without news of changes.
const BELIEVED: Duration = Duration::from_millis(800);
/// How exactly the last use of a token is kept, in seconds.
const USE_EVERY: u64 = 60;
/// Uses that wait to be noted; more are left out.
const MAX_USES: usize = 256;

/// The tokens that this gateway is shown.
pub(crate) struct Tokens {
    rows: Operators,
    clock: Arc<dyn Clock>,
    remembered: Mutex<Remembered>,
    /// Ids of tokens that were used, and when, in seconds of Unix time.
    uses: Mutex<FxHashMap<String, u64>>,
    /// A token was shown, or one was changed here.
    stirred: Notify,
}

struct Remembered {
    tokens: LruCache<TokenDigest, Arc<Held>>,
    /// When all changes were last known.
    told: Option<Instant>,
    /// Counts what was forgotten: a token that was read before may be the one of before.
    generation: u64,
}

/// A token that is remembered.
struct Held {
    known: Known,
    token: Arc<ApiToken>,
    /// When its use was last noted.
    noted: AtomicU64,
}

impl Held {
    fn new(known: Known) -> Self {
        let token = ApiToken {
            id: known.id.clone(),
            scopes: known.scopes.clone(),
        };
        Self {
            token: Arc::new(token),
            known,
            noted: AtomicU64::new(0),
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            caller: match self.known.operator {
                Some(_) => Caller::Operator,
                None => Caller::Token(Arc::clone(&self.token)),
            },
            expires: self.known.expires_at,
            token: Some(Arc::clone(&self.token)),
            operator: self.known.operator.as_deref().map(Arc::from),
        }
    }
}

impl Tokens {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            rows: Operators::new(store, Arc::clone(&clock)),
            clock,
            remembered: Mutex::new(Remembered {
                tokens: LruCache::new(MAX_REMEMBERED),
                told: None,
                generation: 0,
            }),
            uses: Mutex::default(),
            stirred: Notify::new(),
        }
    }

    /// Who shows that token.
    ///
    /// Errors: `INVALID_TOKEN`, and what the store says.
    pub(crate) async fn identify(&self, token: &str, deadline: Instant) -> Result<Identity> {
        let held = self.held(token, deadline).await?;
        let now = self.now();
        let held = held.filter(|held| held.known.is_good(now)).ok_or_else(unknown)?;
        self.note_use(&held, now);
        Ok(held.identity())
    }

    async fn held(&self, token: &str, deadline: Instant) -> Result<Option<Arc<Held>>> {
        let digest = token_digest(token);
        let asked = {
            let mut remembered = self.remembered.lock();
            let believed = remembered.told.is_some_and(|told| told.elapsed() < BELIEVED);
            if let (Some(held), true) = (remembered.tokens.get(&digest), believed) {
                return Ok(Some(Arc::clone(held)));
            }
            remembered.generation
        };
        let Some(known) = self.rows.find(token, deadline).await? else {
            return Ok(None);
        };
        let held = Arc::new(Held::new(known));
        {
            let mut remembered = self.remembered.lock();
            if remembered.generation == asked {
                // What is known of its use goes on with it.
                if let Some(before) = remembered.tokens.get(&digest) {
                    held.noted
                        .store(before.noted.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                remembered.tokens.put(digest, Arc::clone(&held));
            }
        }
        self.stirred.notify_one();
        Ok(Some(held))
    }

    fn note_use(&self, held: &Held, now: u64) {
        let noted = held.noted.load(Ordering::Relaxed);
        if now < noted.saturating_add(USE_EVERY) {
            return;
        }
        held.noted.store(now, Ordering::Relaxed);
        let mut uses = self.uses.lock();
        if uses.len() < MAX_USES {
            uses.insert(held.known.id.clone(), now);
        }
    }

    fn forget(&self) {
        let mut remembered = self.remembered.lock();
        remembered.generation += 1;
        remembered.tokens.clear();
    }

    /// Everything that had changed at that time is known.
    fn is_up_to_date(&self, at: Instant) {
        self.remembered.lock().told = Some(at);
    }

    /// Seconds of Unix time.
    fn now(&self) -> u64 {
        let now = self.clock.now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// Says the same of a token that never was, has expired or was revoked.
fn unknown() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "INVALID_TOKEN",
        "this API token is not good: it was revoked, has expired, or never was one of this server's",
    )
}

#[cfg(test)]
mod tests {
    use alyx_core::{Scopes, SystemClock};
    use alyx_operators::NewToken;
    use alyx_store::EmbeddedOptions;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn what_is_remembered_is_believed_as_long_as_there_is_news_and_no_longer() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions::new(dir.path().join("a.db"));
        let store = Store::open_embedded(options, |_| {}).expect("opened");
        let tokens = Tokens::new(store, Arc::new(SystemClock));
        let new = NewToken {
            name: "a".to_owned(),
            scopes: Scopes::parse(["read:*"]).expect("a scope"),
            expires_in: None,
        };
        let made = tokens.rows.create_token(new, soon()).await.expect("made");
        let identify = async || {
            let identified = tokens.identify(&made.token, soon()).await;
            identified.map(|identity| identity.caller)
        };
        assert!(matches!(identify().await.expect("good"), Caller::Token(_)));
        tokens.rows.revoke("a", soon()).await.expect("revoked");

        tokens.is_up_to_date(Instant::now());
        identify().await.expect("nothing was heard of its end yet");
        let long_ago = Instant::now()
            .checked_sub(BELIEVED)
            .expect("the machine has run for a second");
        tokens.is_up_to_date(long_ago);
        assert_eq!(identify().await.expect_err("no news").code(), "INVALID_TOKEN");
        tokens.is_up_to_date(Instant::now());
        tokens.forget();
        assert_eq!(identify().await.expect_err("forgotten").code(), "INVALID_TOKEN");
    }

    #[tokio::test]
    async fn a_token_that_is_used_often_is_noted_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions::new(dir.path().join("a.db"));
        let store = Store::open_embedded(options, |_| {}).expect("opened");
        let tokens = Tokens::new(store, Arc::new(SystemClock));
        let known = Known {
            id: "1".to_owned(),
            scopes: Scopes::parse(["admin"]).expect("a scope"),
            operator: None,
            expires_at: None,
        };
        let held = Held::new(known);
        for (now, noted) in [(1_000, true), (1_001, false), (1_059, false), (1_060, true)] {
            tokens.note_use(&held, now);
            let uses = std::mem::take(&mut *tokens.uses.lock());
            assert_eq!(uses.get("1").copied(), noted.then_some(now), "{now}");
        }
    }
}
