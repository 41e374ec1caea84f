//! Waiting for a condition instead of for a time.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Calls `probe` until it answers `Ok`, for at most 30 s; then fails with what it saw last.
pub async fn eventually<T, E, F, Fut>(what: &str, mut probe: F) -> T
where
    E: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + LONGEST;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(last) => assert!(
                Instant::now() < deadline,
                "{what}: not within {LONGEST:?}; last seen: {last:?}"
            ),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
