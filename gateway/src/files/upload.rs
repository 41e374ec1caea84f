//! One file on its way in.

use std::time::{Duration, Instant};

use alyx_core::{Caller, Error, ErrorKind, Result, Row, Statement, Value, new_uuid_v7};
use alyx_query::{Filter, insert};
use alyx_rules::FileAction;
use alyx_schema::{Bucket, file_field, files};
use alyx_storage::{FileId, Received};
use alyx_store::{Expect, ReadCost, Write, WriteStep};
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use serde_json::{Map, Value as Json};

use super::form::{Form, Part, Patience, invalid};
use super::{Files, described, forbidden, kind, must_pass, uploader, within};
use crate::authority::Authority;
use crate::body;
use std::sync::atomic::Ordering;

/// Most bytes of a form beside its file.
const MAX_OVERHEAD: u64 = 64 * 1024;
/// Longest name of a file in bytes.
const MAX_NAME: usize = 255;
/// Most texts that an uploader may say of a file, and the longest name and text in bytes.
const MAX_METADATA: usize = 32;
const MAX_METADATA_NAME: usize = 64;
const MAX_METADATA_TEXT: usize = 1024;
/// Longest time that one upload may take.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A request to upload a file.
pub(crate) struct Upload<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) caller: &'a Caller,
    pub(crate) bucket: &'a Bucket,
    pub(crate) headers: &'a HeaderMap,
    /// Longest pause between two parts of the body.
    pub(crate) pause: Duration,
    /// Longest wait for the row.
    pub(crate) write_within: Duration,
}

/// What a form holds.
struct Content {
    received: Received,
    name: String,
    mime_type: String,
    metadata: Value,
}

impl Files {
    /// Stores the file of a form, and returns what is known of it. When this returns, the disk has both.
    ///
    /// Errors: `FORBIDDEN` before the body is read where the caller may upload nothing, else after it; `INVALID_FORM`,
    /// `FILE_REQUIRED`, `INVALID_FILE_NAME`, `FILE_TOO_LARGE`, `FILE_TYPE_NOT_ALLOWED`, `BUCKET_FULL`, `BODY_INCOMPLETE`,
    /// `BODY_TIMEOUT`, `STORAGE_FULL`, `STORAGE_UNAVAILABLE`, `STORAGE_UNKNOWN`, and what the store says.
    pub(crate) async fn upload(&self, upload: &Upload<'_>, body: Body) -> Result<Bytes> {
        let rule = match self.admit(upload).await {
            Ok(rule) => rule,
            Err(error) => {
                body::discard(upload.headers, body).await;
                return Err(error);
            }
        };
        let patience = Patience {
            pause: if upload.pause.is_zero() {
                LONGEST
            } else {
                upload.pause
            },
            until: Instant::now() + LONGEST,
        };
        let mut form = Form::new(upload.headers, body, patience)?;
        let content = match self.receive(upload, &mut form).await {
            Ok(content) => content,
            Err(error) => {
                body::discard(upload.headers, form.into_body()).await;
                return Err(error);
            }
        };
        self.store_file(upload, &rule, content).await
    }

    /// What can be decided before the body is read. The filter is what the file must be like.
    async fn admit(&self, upload: &Upload<'_>) -> Result<Filter> {
        let bucket = upload.bucket;
        let rule = upload.authority.files(bucket, FileAction::Create)?;
        self.folder(&bucket.backend)?;
        let length = upload
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
        let least = length.saturating_sub(MAX_OVERHEAD);
        if least > self.most(bucket) {
            return Err(self.too_large(bucket));
        }
        if let Some(total) = bucket.max_total_size {
            let used = self.total(bucket).await?;
            if used.saturating_add(least) > total {
                return Err(full(bucket, total));
            }
        }
        Ok(rule)
    }

    /// Bytes in the bucket.
    async fn total(&self, bucket: &Bucket) -> Result<u64> {
        let sql = "SELECT bytes FROM _alyx_file_totals WHERE bucket = ?1";
        let statement = Statement::new(sql, vec![Value::text(bucket.name.as_str())]);
        let deadline = Instant::now() + Duration::from_secs(5);
        let rows = self.read(statement, ReadCost::Point, deadline).await?;
        let bytes = rows
            .rows
            .first()
            .and_then(|row| row.first())
            .and_then(Value::as_int);
        Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
    }

    /// Largest file of the bucket.
    fn most(&self, bucket: &Bucket) -> u64 {
        let own = bucket.max_file_size.unwrap_or(u64::MAX);
        own.min(self.settings.max_file_size)
    }

    fn too_large(&self, bucket: &Bucket) -> Error {
        let most = self.most(bucket);
        let message = format!("files of the bucket `{}` have at most {most} bytes", bucket.name);
        Error::new(ErrorKind::PayloadTooLarge, "FILE_TOO_LARGE", message)
    }

    /// Reads the form, and writes its file to the disk as it comes.
    async fn receive(&self, upload: &Upload<'_>, form: &mut Form) -> Result<Content> {
        let mut file = None;
        let mut metadata = Map::new();
        while let Some(part) = form.part().await? {
            if part.name == "file" {
                if file.is_some() {
                    return Err(invalid(
                        "a form uploads one file, and this one has two parts named `file`",
                    ));
                }
                let name = name_of(&part)?;
                file = Some((self.receive_file(upload.bucket, form).await?, name, part.kind));
            } else if let Some(key) = part
                .name
                .strip_prefix("metadata[")
                .and_then(|key| key.strip_suffix(']'))
            {
                let text = read_text(key, form).await?;
                metadata.insert(key.to_owned(), Json::String(text));
                if metadata.len() > MAX_METADATA {
                    return Err(invalid(format!(
                        "a file has at most {MAX_METADATA} `metadata[…]`"
                    )));
                }
            } else {
                let name: String = part.name.chars().take(64).collect();
                return Err(invalid(format!(
                    "the form has a part `{name}`; there are `file`, and `metadata[name]` for texts about it"
                )));
            }
        }
        let Some((received, name, declared)) = file else {
            let message = "the form has no part named `file`";
            return Err(Error::new(ErrorKind::InvalidInput, "FILE_REQUIRED", message).with_field("file"));
        };
        let mime_type = kind::media_type(&received.head, &name, declared.as_deref());
        if !upload.bucket.takes(&mime_type) {
            return Err(not_allowed(upload.bucket, &mime_type));
        }
        let metadata = (!metadata.is_empty()).then(|| Value::from(Json::Object(metadata).to_string()));
        Ok(Content {
            received,
            name,
            mime_type,
            metadata: metadata.unwrap_or(Value::Null),
        })
    }

    async fn receive_file(&self, bucket: &Bucket, form: &mut Form) -> Result<Received> {
        let most = self.most(bucket);
        let mut incoming = self.folder(&bucket.backend)?.receive().await?;
        while let Some(chunk) = form.chunk().await? {
            if incoming.size() + chunk.len() as u64 > most {
                return Err(self.too_large(bucket));
            }
            incoming.write(&chunk).await?;
        }
        incoming.finish().await
    }

    /// Gives the file its place, and then its row.
    async fn store_file(&self, upload: &Upload<'_>, rule: &Filter, content: Content) -> Result<Bytes> {
        let bucket = upload.bucket;
        let id = new_uuid_v7();
        let row = self.describe(upload, &id, &content);
        if rule.is_local() && !rule.matches(&row) {
            return Err(forbidden(bucket, FileAction::Create));
        }
        let id = FileId::parse(&id).ok_or_else(|| Error::internal("a new id has another form"))?;
        let mut steps = vec![WriteStep {
            statement: insert(files(), row.clone()),
            expect: Expect::Row,
        }];
        let quota = bucket.max_total_size.map(|total| (steps.len(), total));
        steps.extend(quota.map(|(_, total)| must_fit(bucket, total)));
        let ruled = (!rule.is_local()).then_some(steps.len());
        steps.extend(ruled.map(|_| must_pass(id, &within(bucket, rule.clone()))));

        self.prepare().await?;
        let folder = self.folder(&bucket.backend)?;
        let size = content.received.size;
        folder.keep(content.received, &bucket.name, id).await?;
        let deadline = Instant::now() + self.write_within(upload.write_within);
        let Err(error) = self.store.write(Write { steps, deadline }).await else {
            self.counters.uploads.fetch_add(1, Ordering::Relaxed);
            self.counters.bytes.fetch_add(size, Ordering::Relaxed);
            return Ok(described(&row));
        };
        // Where nobody knows whether the row is there, the bytes stay for the sweep to decide.
        if !matches!(error.code(), "WRITE_OUTCOME_UNKNOWN" | "WRITE_REPLY_LOST") {
            let _ = folder.remove(&bucket.name, id).await;
        }
        let step = error.step();
        Err(match quota {
            Some((at, total)) if step == Some(at) => full(bucket, total),
            _ if ruled.is_some() && step == ruled => forbidden(bucket, FileAction::Create),
            _ => error.without_step(),
        })
    }

    /// A row must be there long before its bytes could be taken for forgotten.
    fn write_within(&self, wanted: Duration) -> Duration {
        let most = self.settings.orphan_age / 2;
        if wanted.is_zero() { most } else { wanted.min(most) }
    }

    fn describe(&self, upload: &Upload<'_>, id: &str, content: &Content) -> Row {
        let now = Value::from(self.clock.timestamp());
        let mut row = vec![Value::Null; files().fields.len()];
        row[file_field::ID] = Value::text(id);
        row[file_field::BUCKET] = Value::text(upload.bucket.name.as_str());
        row[file_field::NAME] = Value::text(content.name.as_str());
        row[file_field::MIME_TYPE] = Value::text(content.mime_type.as_str());
        row[file_field::SIZE] = Value::Int(i64::try_from(content.received.size).unwrap_or(i64::MAX));
        row[file_field::CHECKSUM] = Value::text(content.received.checksum.as_str());
        row[file_field::UPLOADER_ID] = uploader(upload.caller);
        row[file_field::METADATA] = content.metadata.clone();
        row[file_field::CREATED_AT] = now.clone();
        row[file_field::UPDATED_AT] = now;
        row[file_field::BACKEND] = Value::text(upload.bucket.backend.as_str());
        row
    }
}

/// Whether the bucket holds what it may, with the new file in it.
fn must_fit(bucket: &Bucket, total: u64) -> WriteStep {
    let most = Value::Int(i64::try_from(total).unwrap_or(i64::MAX));
    let sql = "SELECT 1 FROM _alyx_file_totals WHERE bucket = ?1 AND bytes <= ?2";
    WriteStep {
        statement: Statement::new(sql, vec![Value::text(bucket.name.as_str()), most]),
        expect: Expect::Row,
    }
}

/// The name of an uploaded file. It is shown and never used as a path; one that looks like a path is refused all the same, since
/// whoever downloads it may use it as one.
fn name_of(part: &Part) -> Result<String> {
    let name = part.filename.as_deref().unwrap_or("file").trim();
    let refused = |problem: &str| {
        let message =
            format!("the name of the file {problem}; send its last part alone, such as `photo.png`");
        Err(Error::new(ErrorKind::InvalidInput, "INVALID_FILE_NAME", message).with_field("file"))
    };
    if name.is_empty() || name == "." || name == ".." {
        return refused("is empty");
    }
    if name.len() > MAX_NAME {
        return refused("has more than 255 bytes");
    }
    if name.contains(['/', '\\']) {
        return refused("holds a `/` or `\\`");
    }
    if name.chars().any(char::is_control) {
        return refused("holds control characters");
    }
    let drive = name.len() >= 2 && name.as_bytes()[1] == b':' && name.as_bytes()[0].is_ascii_alphabetic();
    if drive {
        return refused("begins with a drive");
    }
    Ok(name.to_owned())
}

async fn read_text(name: &str, form: &mut Form) -> Result<String> {
    let mut text = Vec::new();
    while let Some(chunk) = form.chunk().await? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_METADATA_TEXT {
            return Err(invalid(format!(
                "a `metadata[…]` has at most {MAX_METADATA_TEXT} bytes"
            )));
        }
    }
    if name.is_empty() || name.len() > MAX_METADATA_NAME {
        return Err(invalid(format!(
            "the name in `metadata[…]` has 1 to {MAX_METADATA_NAME} bytes"
        )));
    }
    String::from_utf8(text).map_err(|_| invalid("a `metadata[…]` is not UTF-8"))
}

fn not_allowed(bucket: &Bucket, mime_type: &str) -> Error {
    let allowed = bucket.allowed_types.join(", ");
    let message = format!(
        "this is `{mime_type}`, and the bucket `{}` takes {allowed}",
        bucket.name
    );
    Error::new(ErrorKind::UnsupportedMediaType, "FILE_TYPE_NOT_ALLOWED", message).with_field("file")
}

fn full(bucket: &Bucket, total: u64) -> Error {
    let message = format!(
        "the bucket `{}` holds at most {total} bytes: delete files first",
        bucket.name
    );
    Error::new(ErrorKind::PayloadTooLarge, "BUCKET_FULL", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(filename: Option<&str>) -> Result<String> {
        name_of(&Part {
            name: "file".to_owned(),
            filename: filename.map(str::to_owned),
            kind: None,
        })
    }

    #[test]
    fn names_that_look_like_paths_are_refused() {
        for refused in [
            "",
            " ",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "C:x",
            "c:\\x",
            "a\0b",
            "a\nb",
        ] {
            let error = name(Some(refused)).expect_err(refused);
            assert_eq!(error.code(), "INVALID_FILE_NAME", "{refused}");
        }
        assert!(name(Some(&"x".repeat(256))).is_err());
        for taken in ["photo.png", ".env", "a..b", "ä €.txt", "ab: c"] {
            assert_eq!(name(Some(taken)).expect(taken), taken);
        }
        assert_eq!(name(None).expect("a name"), "file");
    }
}
