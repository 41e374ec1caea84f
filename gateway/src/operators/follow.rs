//! What a gateway must know of at once: tokens that have ended. And what it has to tell: tokens that were used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{ApiToken, Result};
use rustc_hash::FxHashMap;

use super::Tokens;
use crate::realtime::Hub;

/// Pauses between two looks.
const EVERY: Duration = Duration::from_millis(250);
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// Follows changes of tokens for as long as it is polled: forgets what has changed and closes the sockets of it. Begins
/// with the first token that is shown.
pub(crate) async fn follow(tokens: Arc<Tokens>, hub: Option<Arc<Hub>>) {
    tokens.stirred.notified().await;
    let mut last = None;
    let mut troubled = false;
    loop {
        let looked = look(&tokens, hub.as_deref(), &mut last).await;
        if let Err(error) = &looked
            && !troubled
        {
            tracing::warn!(
                code = error.code(),
                "changes of API tokens cannot be read: {error}"
            );
        }
        troubled = looked.is_err();
        // A change made here is heard of at once.
        let _ = tokio::time::timeout(EVERY, tokens.stirred.notified()).await;
    }
}

async fn look(tokens: &Tokens, hub: Option<&Hub>, last: &mut Option<i64>) -> Result<()> {
    let (began, deadline) = (Instant::now(), Instant::now() + LOOK_WITHIN);
    let changes = tokens.rows.changes(deadline).await?;
    if *last != Some(changes) {
        tokens.forget();
        if let Some(hub) = hub {
            let good = tokens.rows.all(deadline).await?;
            let now = tokens.now();
            let good = good.into_iter().filter(|known| known.is_good(now));
            let good: FxHashMap<_, _> = good.map(|known| (known.id, known.scopes)).collect();
            hub.end_tokens(|token: &ApiToken| good.get(&token.id) != Some(&token.scopes));
        }
        *last = Some(changes);
    }
    tokens.is_up_to_date(began);
    let uses = std::mem::take(&mut *tokens.uses.lock());
    if !uses.is_empty() {
        tokens
            .rows
            .note_uses(uses.into_iter().collect(), deadline)
            .await?;
    }
    Ok(())
}
