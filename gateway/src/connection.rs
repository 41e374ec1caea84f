//! One connection: watched for callers that stall, at the cost of a few flags per read and write.
//!
//! A ticker looks at the flags a few times per time-out instead of setting a timer for every request, so the
//! time-outs are exact to about a quarter. It ends connections that idle, whose head does not arrive, or that
//! do not take what is sent to them; it never ends one while a request is being answered.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use alyx_config::Server;
use hyper::rt::{Read, ReadBufCursor, Write};

/// How often the ticker looks per time-out.
const TICKS: u32 = 4;
/// Least time between two looks.
const MIN_TICK: Duration = Duration::from_millis(20);
/// Time between looks where nothing has a limit.
const LAZY_TICK: Duration = Duration::from_secs(3600);

/// What a connection has done since the ticker looked last.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    moved: AtomicBool,
    head_open: AtomicBool,
    send_blocked: AtomicBool,
    in_flight: AtomicU32,
}

impl Activity {
    /// A request's head is complete.
    pub(crate) fn request_started(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_open.store(false, Ordering::Relaxed);
    }

    /// Its reply is on its way.
    pub(crate) fn request_ended(&self) {
        // What was read meanwhile was its body.
        self.head_open.store(false, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time-outs of a connection, in ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time between two looks.
    pub(crate) tick: Duration,
    head: Option<u32>,
    send: Option<u32>,
    idle: Option<u32>,
}

impl Limits {
    /// From `server.read_timeout`, `write_timeout` and `idle_timeout`; zero means none.
    pub(crate) fn new(server: &Server) -> Self {
        let all = [server.read_timeout, server.write_timeout, server.idle_timeout];
        let shortest = all.into_iter().filter(|limit| !limit.is_zero()).min();
        let tick = shortest.map_or(LAZY_TICK, |limit| (limit / TICKS).max(MIN_TICK));
        let ticks = |limit: Duration| {
            let ticks = limit.as_millis().div_ceil(tick.as_millis().max(1));
            (!limit.is_zero()).then(|| u32::try_from(ticks).unwrap_or(u32::MAX))
        };
        Self {
            tick,
            head: ticks(server.read_timeout),
            send: ticks(server.write_timeout),
            idle: ticks(server.idle_timeout),
        }
    }
}

/// How long each kind of standstill has lasted, in ticks.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    head: u32,
    send: u32,
    idle: u32,
}

impl Standstill {
    /// Looks; `true` where the connection has used up one of its limits.
    pub(crate) fn tick(&mut self, activity: &Activity, limits: &Limits) -> bool {
        let moved = activity.moved.swap(false, Ordering::Relaxed);
        let busy = activity.in_flight.load(Ordering::Relaxed) > 0;
        let count = |counter: &mut u32, standing: bool| {
            *counter = if standing { *counter + 1 } else { 0 };
        };
        count(
            &mut self.head,
            !busy && activity.head_open.load(Ordering::Relaxed),
        );
        count(
            &mut self.send,
            !moved && activity.send_blocked.load(Ordering::Relaxed),
        );
        count(&mut self.idle, !busy && !moved);
        let over = |counter: u32, limit: Option<u32>| limit.is_some_and(|limit| counter >= limit);
        over(self.head, limits.head) || over(self.send, limits.send) || over(self.idle, limits.idle)
    }
}

/// A stream that notes what happens on it.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: T,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    pub(crate) fn new(inner: T, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }

    fn sent(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(_) => {
                self.activity.moved.store(true, Ordering::Relaxed);
                self.activity.send_blocked.store(false, Ordering::Relaxed);
            }
            Poll::Pending => self.activity.send_blocked.store(true, Ordering::Relaxed),
        }
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if result.is_ready() {
            self.activity.moved.store(true, Ordering::Relaxed);
            self.activity.head_open.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.sent(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.sent(&result);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            tick: MIN_TICK,
            head: Some(2),
            send: Some(3),
            idle: Some(5),
        }
    }

    /// Ticks until the connection is ended, at most 20; `each` runs before every look.
    fn ticks_until_end(activity: &Activity, each: impl Fn(&Activity)) -> Option<u32> {
        let mut standstill = Standstill::default();
        (1..=20).find(|_| {
            each(activity);
            standstill.tick(activity, &limits())
        })
    }

    #[test]
    fn an_idle_connection_ends_after_the_idle_limit() {
        assert_eq!(ticks_until_end(&Activity::default(), |_| {}), Some(5));
    }

    #[test]
    fn a_head_that_trickles_in_ends_after_the_read_limit() {
        let trickle = |activity: &Activity| {
            activity.moved.store(true, Ordering::Relaxed);
            activity.head_open.store(true, Ordering::Relaxed);
        };
        assert_eq!(ticks_until_end(&Activity::default(), trickle), Some(2));
    }

    #[test]
    fn a_reader_that_stalls_ends_after_the_write_limit() {
        let activity = Activity::default();
        activity.send_blocked.store(true, Ordering::Relaxed);
        assert_eq!(ticks_until_end(&activity, |_| {}), Some(3));
    }

    #[test]
    fn a_request_being_answered_is_never_cut() {
        let activity = Activity::default();
        activity.request_started();
        assert_eq!(ticks_until_end(&activity, |_| {}), None);
        activity.request_ended();
        assert_eq!(ticks_until_end(&activity, |_| {}), Some(5));
    }

    #[test]
    fn a_connection_that_moves_stays() {
        let moves = |activity: &Activity| activity.moved.store(true, Ordering::Relaxed);
        assert_eq!(ticks_until_end(&Activity::default(), moves), None);
    }

    #[test]
    fn zero_means_no_limit() {
        let server = Server {
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            idle_timeout: Duration::from_secs(8),
            ..alyx_config::Config::default().server
        };
        let limits = Limits::new(&server);
        assert_eq!((limits.head, limits.send, limits.idle), (None, None, Some(4)));
        assert_eq!(limits.tick, Duration::from_secs(2));
    }
}
