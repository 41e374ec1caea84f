//! Pages of files, and several files at once.

use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result, Statement, Value};
use alyx_query::{CompareOp, Filter, ListParams, prefix_end};
use alyx_rules::FileAction;
use alyx_schema::{Bucket, file_field, files, write_json};
use alyx_store::{Read, ReadCost};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{FILE_BYTES, Files, no_result, within};
use crate::authority::Authority;

/// Newest first: ids sort by time.
const NEWEST_FIRST: &str = "sort=-id";
/// Most files of one request to delete them.
const MAX_BATCH: usize = 1000;

impl Files {
    /// A page of the files that the caller may see: `{files, total?, limit, offset, next?}`.
    ///
    /// Errors: `FORBIDDEN`, `INVALID_QUERY`, `INVALID_FILTER`, and what the store says.
    pub(crate) async fn list(
        &self,
        authority: &Authority,
        (bucket, query): (&Bucket, &str),
        deadline: Instant,
    ) -> Result<Bytes> {
        let rule = authority.files(bucket, FileAction::Read)?;
        let mut params = read_params(query)?;
        let asked = std::mem::replace(&mut params.query.filter, Filter::TRUE);
        params.query.filter = within(bucket, Filter::And(vec![rule, asked]));
        let mut statements = vec![params.select()];
        statements.extend(params.count.then(|| params.query.count()));
        let (rows, total) = self.page(statements, deadline).await?;

        let query = &params.query;
        let mut out = Vec::with_capacity(64 + rows.len() * FILE_BYTES);
        out.extend_from_slice(b"{\"files\":[");
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_json(files(), row, query.fields.as_deref(), &mut out);
        }
        let mut rest = format!("],\"limit\":{},\"offset\":{}", query.limit, query.offset);
        if let Some(total) = total {
            rest.push_str(&format!(",\"total\":{total}"));
        }
        let full = u32::try_from(rows.len()).is_ok_and(|count| count >= query.limit);
        let last = rows.last().filter(|_| full && query.limit > 0);
        // Base64 needs no escapes.
        if let Some(next) = last.and_then(|last| query.cursor(last)) {
            rest.push_str(&format!(",\"next\":\"{next}\""));
        }
        out.extend_from_slice(rest.as_bytes());
        out.push(b'}');
        Ok(Bytes::from(out))
    }

    async fn page(
        &self,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Result<(Vec<alyx_core::Row>, Option<i64>)> {
        self.prepare().await?;
        let read = Read {
            statements,
            cost: ReadCost::Scan,
            deadline,
        };
        let mut results = self.store.read(read).await?.results.into_iter();
        let rows = results.next().ok_or_else(no_result)?.rows;
        let total = results
            .next()
            .and_then(|count| count.rows.first()?.first()?.as_int());
        Ok((rows, total))
    }

    /// Deletes several files, each for itself: `{deleted, failed: [{id, error}]}`.
    ///
    /// Errors: `FORBIDDEN` where the caller may delete none, `INVALID_JSON`, `IDS_REQUIRED`, `TOO_MANY_IDS`, and what the store
    /// says where it cannot be used.
    pub(crate) async fn delete_all(
        &self,
        authority: &Authority,
        (bucket, body): (&Bucket, &[u8]),
        deadline: Instant,
    ) -> Result<Bytes> {
        authority.files(bucket, FileAction::Delete)?;
        let mut deleted = 0;
        let mut failed = Vec::new();
        for id in read_ids(body)? {
            match self.delete(authority, (bucket, &id), deadline).await {
                Ok(()) => deleted += 1,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Forbidden) => {
                    failed.push(json!({"id": id, "error": error.code()}));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(json!({"deleted": deleted, "failed": failed}).to_string().into())
    }
}

#[derive(Deserialize)]
struct Ids {
    ids: Option<Vec<String>>,
}

fn read_ids(body: &[u8]) -> Result<Vec<String>> {
    let refused = |code: &'static str, message: String| Error::new(ErrorKind::InvalidInput, code, message);
    let read: Ids = serde_json::from_slice(body).map_err(|error| {
        refused(
            "INVALID_JSON",
            format!("the body is not {{\"ids\": [\"…\"]}}: {error}"),
        )
    })?;
    let mut ids = read.ids.unwrap_or_default();
    if ids.is_empty() {
        let message = "`ids` names no file: write {\"ids\": [\"…\"]}".to_owned();
        return Err(refused("IDS_REQUIRED", message).with_field("ids"));
    }
    if ids.len() > MAX_BATCH {
        let message = format!(
            "`ids` names {} files, and one request deletes at most {MAX_BATCH}",
            ids.len()
        );
        return Err(refused("TOO_MANY_IDS", message).with_field("ids"));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The parameters of a list of documents, and `search` and `mime_type` in the sense of files.
fn read_params(query: &str) -> Result<ListParams> {
    let mut filters = Vec::new();
    let mut rest = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        if !matches!(name, "search" | "mime_type") {
            rest.push('&');
            rest.push_str(pair);
            continue;
        }
        let value = form_urlencoded::parse(pair.as_bytes())
            .next()
            .map(|(_, value)| value);
        let value = value.unwrap_or_default();
        match name {
            _ if value.is_empty() => {}
            "search" => filters.push(Filter::Mentions {
                fields: vec![file_field::NAME],
                text: value.as_ref().into(),
            }),
            _ => filters.push(begins(&value.to_ascii_lowercase())),
        }
    }
    if !rest
        .split('&')
        .any(|pair| pair.starts_with("sort=") && pair.len() > "sort=".len())
    {
        rest.push('&');
        rest.push_str(NEWEST_FIRST);
    }
    let mut params = ListParams::parse(files(), &rest)?;
    filters.push(std::mem::replace(&mut params.query.filter, Filter::TRUE));
    params.query.filter = Filter::And(filters).normalize();
    Ok(params)
}

/// Media types that begin so: `image/`, or all of one. The `*` of `image/*` may be there.
fn begins(start: &str) -> Filter {
    let start = start.strip_suffix('*').unwrap_or(start);
    let compare = |op, text: &str| Filter::Compare {
        field: file_field::MIME_TYPE,
        op,
        value: Value::text(text),
    };
    let mut parts = vec![compare(CompareOp::Gte, start)];
    parts.extend(prefix_end(start).map(|end| compare(CompareOp::Lt, &end)));
    Filter::And(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_and_mime_type_mean_parts_of_names_and_beginnings_of_types() {
        let filter = |query: &str| read_params(query).expect(query).query.filter;
        let file = |name: &str, kind: &str| {
            let mut row = vec![Value::Null; files().fields.len()];
            row[file_field::NAME] = Value::text(name);
            row[file_field::MIME_TYPE] = Value::text(kind);
            row[file_field::SIZE] = Value::Int(5);
            row
        };
        for (query, expected) in [
            ("", true),
            ("search=PHOTO", true),
            ("search=other", false),
            ("search=a%20p", true),
            ("search=%25", false),
            ("mime_type=image/", true),
            ("mime_type=image/*", true),
            ("mime_type=image/png", true),
            ("mime_type=image/pnga", false),
            ("mime_type=text/", false),
            ("mime_type=&search=", true),
            ("search=photo&mime_type=image/&filter=size:gt:4&size=5", true),
            ("search=photo&filter=size:gt:5", false),
        ] {
            assert_eq!(
                filter(query).matches(&file("A photo.png", "image/png")),
                expected,
                "{query}"
            );
        }
        assert!(filter("mime_type=text/plain").matches(&file("x", "text/plain; charset=utf-8")));
        let newest = read_params("limit=3").expect("read").query;
        assert!(newest.sort[0].descending && newest.sort[0].field == file_field::ID && newest.limit == 3);
        let sorted = read_params("sort=name").expect("read").query;
        assert_eq!(sorted.sort[0].field, file_field::NAME);
        assert_eq!(
            read_params("backend=local").expect_err("hidden").code(),
            "INVALID_QUERY"
        );
    }

    #[test]
    fn ids_are_read_once_each() {
        let ids = |body: &str| read_ids(body.as_bytes());
        assert_eq!(ids(r#"{"ids":["b","a","b"]}"#).expect("read"), ["a", "b"]);
        for (body, code) in [
            ("[", "INVALID_JSON"),
            ("{}", "IDS_REQUIRED"),
            (r#"{"ids":[]}"#, "IDS_REQUIRED"),
        ] {
            assert_eq!(ids(body).expect_err(body).code(), code);
        }
        let many = format!(r#"{{"ids":["x"{}]}}"#, r#","x""#.repeat(MAX_BATCH));
        assert_eq!(ids(&many).expect_err("too many").code(), "TOO_MANY_IDS");
    }
}
