//! `/api/admin/logs`: the last requests that this gateway has answered.

use std::str::FromStr;

use alyx_core::{Error, ErrorKind, Result, normalize_timestamp};
use http::StatusCode;
use serde_json::json;

use super::Context;
use super::auth::private;
use crate::envelope::Reply;
use crate::request_log::{CAPACITY, Wanted};

/// Entries of a page where the request does not say.
const USUAL_LIMIT: usize = 100;

/// What a request asks for.
struct Page {
    wanted: Wanted,
    limit: usize,
    offset: usize,
}

pub(super) fn list(context: Context<'_>, query: Option<&str>) -> Result<Reply> {
    let Page {
        wanted,
        limit,
        offset,
    } = Page::read(query.unwrap_or_default())?;
    let found = context.app.requests.find(&wanted);
    let entries: Vec<_> = found
        .iter()
        .skip(offset)
        .take(limit)
        .map(|entry| &**entry)
        .collect();
    let page = json!({"entries": entries, "total": found.len(), "limit": limit, "offset": offset});
    Ok(private(StatusCode::OK, &page))
}

pub(super) fn stats(context: Context<'_>) -> Reply {
    let count = context.app.requests.count();
    private(StatusCode::OK, &json!({"capacity": CAPACITY, "count": count}))
}

pub(super) fn clear(context: Context<'_>) -> Reply {
    context.app.requests.clear();
    private(
        StatusCode::OK,
        &json!({"message": "the requests that this gateway had kept are forgotten"}),
    )
}

impl Page {
    /// Errors: `INVALID_QUERY`.
    fn read(query: &str) -> Result<Self> {
        let mut page = Self {
            wanted: Wanted {
                status: (0, u16::MAX),
                ..Wanted::default()
            },
            limit: USUAL_LIMIT,
            offset: 0,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wanted = &mut page.wanted;
            match &*name {
                "limit" => page.limit = number(&name, &value, CAPACITY)?,
                "offset" => page.offset = number(&name, &value, usize::MAX)?,
                "method" => wanted.method = Some(value.to_ascii_uppercase()),
                "path" => wanted.path = Some(value.into_owned()),
                "exclude_path_prefix" => wanted.exclude_path_prefix = Some(value.into_owned()),
                "user_id" => wanted.user_id = Some(value.into_owned()),
                "status" => {
                    let status = number(&name, &value, 999)?;
                    wanted.status = (wanted.status.0.max(status), wanted.status.1.min(status));
                }
                "min_status" => wanted.status.0 = wanted.status.0.max(number(&name, &value, 999)?),
                "max_status" => wanted.status.1 = wanted.status.1.min(number(&name, &value, 999)?),
                "since" => wanted.since = Some(time(&name, &value)?),
                "until" => wanted.until = Some(time(&name, &value)?),
                _ => {
                    let message = format!(
                        "there is no parameter `{}`; there are limit, offset, method, path, exclude_path_prefix, user_id, \
                         status, min_status, max_status, since and until",
                        name.chars().take(64).collect::<String>()
                    );
                    return Err(Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message));
                }
            }
        }
        Ok(page)
    }
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(name: &str, text: &str, most: T) -> Result<T> {
    let number = text.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| wrong(name, &format!("`{name}` is a whole number from 0 to {most}")))
}

fn time(name: &str, text: &str) -> Result<String> {
    normalize_timestamp(text)
        .ok_or_else(|| wrong(name, &format!("`{name}` is a time such as 2026-01-31T12:00:00Z")))
}

fn wrong(name: &str, message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message).with_field(name)
}
