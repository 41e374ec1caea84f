//! The last requests that this gateway has answered, in memory, for operators who look what is going on.
//!
//! Bounded in number and, since each text of an entry is, in bytes: 1,000 entries of 1.5 KiB at most. A request costs two
//! small allocations and one short lock. **Invariant:** nothing that opens anything and nothing of a document is in it:
//! no header but `User-Agent`, no body, and of the query the values of those parameters alone that shape a page.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alyx_core::{Caller, format_timestamp};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use parking_lot::Mutex;
use serde::Serialize;

use crate::auth::Identity;
use crate::route::Route;

/// Entries that are kept.
pub(crate) const CAPACITY: usize = 1_000;
/// Longest path, and longest query, in bytes.
const MAX_TEXT: usize = 512;
/// Longest of the other texts, in bytes.
const MAX_WORD: usize = 128;
/// Parameters that only shape a page: their values are kept, those of all others may be anybody's secret.
const PLAIN_PARAMETERS: [&str; 10] = [
    "limit", "offset", "page", "perPage", "sort", "fields", "expand", "count", "select", "groupBy",
];

/// The log. Its order is that in which requests ended.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    entries: Mutex<VecDeque<Arc<Entry>>>,
}

/// A request as it came in, until it is answered.
#[derive(Debug)]
pub(crate) struct Noted {
    at: SystemTime,
    method: Method,
    uri: Uri,
    agent: Option<HeaderValue>,
    bytes_in: u64,
    client: IpAddr,
}

/// How a request was answered.
#[derive(Debug)]
pub(crate) struct Answered<'a> {
    pub(crate) id: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) duration: Duration,
    /// Of the body; none where it is not known in advance.
    pub(crate) bytes_out: Option<u64>,
    /// Who asked, where somebody is known.
    pub(crate) who: Option<&'a Who>,
    pub(crate) error_code: Option<&'a str>,
}

/// Somebody who is known.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    kind: &'static str,
    caller: Caller,
    operator: Option<Arc<str>>,
}

/// A request that was answered, as operators see it.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    /// That of the `X-Request-ID` header.
    id: Box<str>,
    #[serde(serialize_with = "as_text")]
    timestamp: SystemTime,
    #[serde(serialize_with = "as_word")]
    method: Method,
    path: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<Box<str>>,
    status: u16,
    /// Nanoseconds.
    duration: u64,
    duration_ms: f64,
    bytes_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_out: Option<u64>,
    client_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Box<str>>,
    /// What `user_id` is the id of: `account`, `operator` or `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<Box<str>>,
}

/// Which entries are wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// In upper case.
    pub(crate) method: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) exclude_path_prefix: Option<String>,
    pub(crate) user_id: Option<String>,
    /// Least and greatest status.
    pub(crate) status: (u16, u16),
    /// The earliest and the latest time, in the product's form.
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
}

impl Noted {
    /// What is to be kept of a request; none where requests of the route are not, being many and alike.
    pub(crate) fn of<B>(route: Route, request: &Request<B>, at: SystemTime, client: IpAddr) -> Option<Self> {
        if matches!(route, Route::Health | Route::Live | Route::Ready | Route::Metrics) {
            return None;
        }
        let headers = request.headers();
        Some(Self {
            at,
            method: request.method().clone(),
            uri: request.uri().clone(),
            agent: headers.get(USER_AGENT).cloned(),
            bytes_in: length(headers),
            client,
        })
    }
}

impl Who {
    /// None of who has not signed in.
    pub(crate) fn of(identity: &Identity) -> Option<Self> {
        let kind = match identity.caller {
            Caller::Account(_) => "account",
            Caller::Operator => "operator",
            Caller::Token(_) => "token",
            Caller::Anonymous | Caller::System => return None,
        };
        Some(Self {
            kind,
            caller: identity.caller.clone(),
            operator: identity.operator.clone(),
        })
    }

    fn id(&self) -> Option<&str> {
        match &self.caller {
            Caller::Account(account) => Some(&account.id),
            Caller::Token(token) => Some(&token.id),
            Caller::Operator => self.operator.as_deref(),
            Caller::Anonymous | Caller::System => None,
        }
    }
}

impl RequestLog {
    /// Keeps a request; the oldest one goes where there are 1,000.
    pub(crate) fn push(&self, noted: Noted, answered: &Answered<'_>) {
        let nanos = u64::try_from(answered.duration.as_nanos()).unwrap_or(u64::MAX);
        let agent = noted.agent.as_ref().and_then(|agent| agent.to_str().ok());
        let entry = Arc::new(Entry {
            id: cut(answered.id, MAX_WORD),
            timestamp: noted.at,
            path: cut(noted.uri.path(), MAX_TEXT),
            query: noted.uri.query().map(shown_query),
            method: noted.method,
            status: answered.status.as_u16(),
            duration: nanos,
            duration_ms: answered.duration.as_secs_f64() * 1_000.0,
            bytes_in: noted.bytes_in,
            bytes_out: answered.bytes_out,
            client_ip: noted.client,
            user_agent: agent.map(|agent| cut(agent, MAX_WORD)),
            user_kind: answered.who.map(|who| who.kind),
            user_id: answered.who.and_then(Who::id).map(|id| cut(id, MAX_WORD)),
            error_code: answered.error_code.map(|code| cut(code, MAX_WORD)),
        });
        let mut entries = self.entries.lock();
        let oldest = if entries.len() == CAPACITY {
            entries.pop_front()
        } else {
            None
        };
        entries.push_back(entry);
        drop(entries);
        // It is freed where nobody waits for it.
        drop(oldest);
    }

    /// Those that are wanted, newest first.
    pub(crate) fn find(&self, wanted: &Wanted) -> Vec<Arc<Entry>> {
        let entries: Vec<Arc<Entry>> = self.entries.lock().iter().rev().cloned().collect();
        entries.into_iter().filter(|entry| wanted.fits(entry)).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.lock().len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        let entries = std::mem::take(&mut *self.entries.lock());
        drop(entries);
    }
}

impl Wanted {
    fn fits(&self, entry: &Entry) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let excluded = self.exclude_path_prefix.as_deref();
        is(&self.method, entry.method.as_str())
            && is(&self.path, &entry.path)
            && excluded.is_none_or(|prefix| !entry.path.starts_with(prefix))
            && is(&self.user_id, entry.user_id.as_deref().unwrap_or_default())
            && (self.status.0..=self.status.1).contains(&entry.status)
            && self.is_in_time(entry)
    }

    fn is_in_time(&self, entry: &Entry) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        // Times of one form have the order of their texts.
        let at = format_timestamp(entry.timestamp);
        self.since.as_ref().is_none_or(|since| at >= *since)
            && self.until.as_ref().is_none_or(|until| at <= *until)
    }
}

/// The query with the values of all parameters left out that do not only shape a page.
fn shown_query(query: &str) -> Box<str> {
    let mut shown = String::with_capacity(query.len().min(MAX_TEXT));
    for pair in query.split('&') {
        if shown.len() > MAX_TEXT {
            break;
        }
        if !shown.is_empty() {
            shown.push('&');
        }
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) if PLAIN_PARAMETERS.contains(&name) => (name, value),
            Some((name, _)) => (name, "***"),
            // It may be a value as a whole.
            None => ("***", ""),
        };
        shown.push_str(name);
        if !value.is_empty() {
            shown.push('=');
            shown.push_str(value);
        }
    }
    cut(&shown, MAX_TEXT)
}

fn cut(text: &str, longest: usize) -> Box<str> {
    let text = if text.len() <= longest {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(longest)]))
    };
    text.into()
}

fn length(headers: &HeaderMap) -> u64 {
    let told = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    told.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn as_text<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_timestamp(*at))
}

fn as_word<S: serde::Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&method.as_str()[..method.as_str().len().min(MAX_WORD)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(uri: &str) -> Noted {
        let request = Request::builder()
            .uri(uri)
            .header("user-agent", "x".repeat(5_000))
            .body(())
            .expect("a request");
        let client = std::net::Ipv4Addr::LOCALHOST.into();
        Noted::of(Route::Collection, &request, SystemTime::UNIX_EPOCH, client).expect("it is kept")
    }

    fn push(log: &RequestLog, uri: &str) {
        let answered = Answered {
            id: "1",
            status: StatusCode::OK,
            duration: Duration::from_millis(2),
            bytes_out: Some(3),
            who: None,
            error_code: None,
        };
        log.push(note(uri), &answered);
    }

    fn any() -> Wanted {
        Wanted {
            status: (0, 999),
            ..Wanted::default()
        }
    }

    #[test]
    fn the_last_thousand_are_kept_newest_first_and_each_is_bounded() {
        let log = RequestLog::default();
        let long = "p".repeat(10_000);
        for number in 0..CAPACITY + 5 {
            push(&log, &format!("/{number}/{long}?{long}={long}"));
        }
        let found = log.find(&any());
        assert_eq!((found.len(), log.count()), (CAPACITY, CAPACITY));
        assert!(found[0].path.starts_with("/1004/") && found[CAPACITY - 1].path.starts_with("/5/"));
        let size = serde_json::to_vec(&found[0]).expect("JSON").len();
        assert!(size < 1_900, "{size} bytes");
        log.clear();
        assert_eq!(log.count(), 0);
    }

    #[test]
    fn only_what_shapes_a_page_is_kept_of_a_query() {
        let check = |query: &str, expected: &str| assert_eq!(&*shown_query(query), expected, "{query}");
        check("limit=5&sort=-a", "limit=5&sort=-a");
        check("token=alyx_abc&page=2", "token=***&page=2");
        check(
            "filter=code:eq:4711&search=ada&tx_id=7",
            "filter=***&search=***&tx_id=***",
        );
        check("Limit=5", "Limit=***");
        check("limi%74=5", "limi%74=***");
        check("alyx_abc", "***");
        check("", "***");
    }

    #[test]
    fn health_and_figures_are_left_out() {
        let request = Request::builder().uri("/health").body(()).expect("a request");
        let client: IpAddr = std::net::Ipv4Addr::LOCALHOST.into();
        for route in [Route::Health, Route::Live, Route::Ready, Route::Metrics] {
            assert!(Noted::of(route, &request, SystemTime::UNIX_EPOCH, client).is_none());
        }
        assert!(Noted::of(Route::Frontend, &request, SystemTime::UNIX_EPOCH, client).is_some());
    }
}
