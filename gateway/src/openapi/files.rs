//! The paths of buckets.

use alyx_schema::Bucket;
use serde_json::{Map, Value as Json, json};

use super::document::{Operations, failures, json_body, json_reply};
use super::names::capitalized;
use super::schemas::reference;

/// Schemas of this module, by name.
pub(super) fn shared() -> Vec<(&'static str, Json)> {
    let file = json!({
        "type": "object",
        "required": ["id", "bucket", "name", "mime_type", "size", "checksum", "created_at", "updated_at"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "bucket": {"type": "string"},
            "name": {"type": "string"},
            "mime_type": {"type": "string", "examples": ["image/png", "text/plain; charset=utf-8"]},
            "size": {"type": "integer", "description": "Bytes."},
            "checksum": {"type": "string", "description": "SHA-256, hexadecimal."},
            "uploader_id": {"type": ["string", "null"], "description": "The account that uploaded it."},
            "metadata": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "string"},
                "description": "What its uploader says of it."
            },
            "created_at": {"type": "string", "format": "date-time"},
            "updated_at": {"type": "string", "format": "date-time"}
        }
    });
    let page = json!({
        "type": "object",
        "required": ["files", "limit", "offset"],
        "properties": {
            "files": {"type": "array", "items": reference("File")},
            "total": {"type": "integer"},
            "limit": {"type": "integer"},
            "offset": {"type": "integer"},
            "next": {"type": "string", "description": "`after` of the next page, where there may be one."}
        }
    });
    let deleted = json!({
        "type": "object",
        "required": ["deleted", "failed"],
        "properties": {
            "deleted": {"type": "integer"},
            "failed": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "error"],
                    "properties": {"id": {"type": "string"}, "error": {"type": "string"}}
                }
            }
        }
    });
    let link = json!({
        "type": "object",
        "required": ["url", "token", "expires_at"],
        "properties": {
            "url": {"type": "string", "format": "uri"},
            "token": {"type": "string"},
            "expires_at": {"type": "string", "format": "date-time"}
        }
    });
    vec![
        ("FileLink", link),
        ("File", file),
        ("FilePage", page),
        ("FilesDeleted", deleted),
    ]
}

/// Adds a bucket's paths. What nobody may do is left out.
pub(super) fn add(bucket: &Bucket, paths: &mut Map<String, Json>, operations: &mut Operations) {
    let path = format!("/api/files/{}", bucket.name);
    let mut insert = |path: String, item: Json| {
        if item.as_object().is_some_and(|item| !item.is_empty()) {
            paths.insert(path, item);
        }
    };
    insert(path.clone(), many(bucket, operations));
    insert(format!("{path}/batch"), batch(bucket, operations));
    insert(format!("{path}/{{id}}"), one(bucket, operations));
    if bucket.download {
        for (verb, last, summary) in [
            ("downloadFrom", "download", "Download a file of"),
            ("viewIn", "view", "Show in a browser a file of"),
        ] {
            let get = content((verb, summary), &bucket.name, operations);
            insert(format!("{path}/{{id}}/{last}"), get);
        }
        insert(format!("{path}/{{id}}/sign"), link(&bucket.name, operations));
    }
}

fn many(bucket: &Bucket, operations: &mut Operations) -> Json {
    let name = &bucket.name;
    let mut many = json!({});
    if bucket.access.read {
        let mut list = made(operations, "listFilesOf", name, &format!("List files of {name}"));
        list["parameters"] = json!(list_parameters());
        list["responses"] = replies(
            "200",
            json_reply("A page of files.", &reference("FilePage")),
            &[400, 403, 404],
        );
        many["get"] = list;
    }
    if bucket.access.create {
        let mut upload = made(operations, "uploadTo", name, &format!("Upload a file to {name}"));
        upload["requestBody"] = form();
        let errors = [400, 403, 404, 413, 415, 503, 504];
        upload["responses"] = replies(
            "201",
            json_reply("The file is stored.", &reference("File")),
            &errors,
        );
        many["post"] = upload;
    }
    many
}

fn batch(bucket: &Bucket, operations: &mut Operations) -> Json {
    if !bucket.access.delete {
        return json!({});
    }
    let name = &bucket.name;
    let mut delete = made(
        operations,
        "deleteFilesOf",
        name,
        &format!("Delete several files of {name}"),
    );
    let ids = json!({
        "type": "object",
        "required": ["ids"],
        "properties": {"ids": {"type": "array", "minItems": 1, "maxItems": 1000, "items": {"type": "string"}}}
    });
    delete["requestBody"] = json_body(&ids, true);
    let done = json_reply("Those that could be are deleted.", &reference("FilesDeleted"));
    delete["responses"] = replies("200", done, &[400, 403, 404, 413, 503, 504]);
    json!({"delete": delete})
}

fn one(bucket: &Bucket, operations: &mut Operations) -> Json {
    let name = &bucket.name;
    let mut one = json!({});
    if bucket.access.read {
        let mut get = made(
            operations,
            "getFileOf",
            name,
            &format!("What is known of a file of {name}"),
        );
        get["parameters"] = json!([id()]);
        get["responses"] = replies("200", json_reply("The file.", &reference("File")), &[403, 404]);
        one["get"] = get;
    }
    if bucket.access.delete {
        let mut delete = made(
            operations,
            "deleteFileOf",
            name,
            &format!("Delete a file of {name}"),
        );
        delete["parameters"] = json!([id()]);
        let done = json!({"description": "It is deleted."});
        delete["responses"] = replies("204", done, &[403, 404, 503, 504]);
        one["delete"] = delete;
    }
    one
}

fn content((verb, summary): (&str, &str), bucket: &str, operations: &mut Operations) -> Json {
    let mut get = made(operations, verb, bucket, &format!("{summary} {bucket}"));
    let token = json!({
        "name": "token",
        "in": "query",
        "description": "Of a link, in place of the right to download.",
        "schema": {"type": "string"}
    });
    get["parameters"] = json!([id(), range(), token]);
    get["responses"] = contents();
    json!({"get": get})
}

fn link(bucket: &str, operations: &mut Operations) -> Json {
    let summary = format!("A link that opens a file of {bucket}");
    let mut sign = made(operations, "signFileOf", bucket, &summary);
    let texts = [
        (
            "expiry",
            "How long it opens it: `15m` where nothing is said, at most `7d`.",
        ),
        ("operation", "`download`, or `view`."),
    ];
    let mut parameters = vec![id()];
    parameters.extend(texts.map(|(name, description)| {
        json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}})
    }));
    sign["parameters"] = json!(parameters);
    let reply = json_reply("The link.", &reference("FileLink"));
    sign["responses"] = replies("200", reply, &[400, 403, 404, 503]);
    json!({"get": sign})
}

fn made(operations: &mut Operations, verb: &str, bucket: &str, summary: &str) -> Json {
    let mut operation = operations.make(verb, &capitalized(bucket), summary);
    operation["tags"] = json!(["files"]);
    operation
}

fn replies(status: &str, reply: Json, errors: &[u16]) -> Json {
    let mut replies = Map::from_iter([(status.to_owned(), reply)]);
    replies.extend(failures(errors));
    Json::Object(replies)
}

fn contents() -> Json {
    let bytes = |description: &str| {
        let schema = json!({"type": "string", "format": "binary"});
        json!({"description": description, "content": {"*/*": {"schema": schema}}})
    };
    let mut replies = Map::from_iter([
        ("200".to_owned(), bytes("All of it.")),
        ("206".to_owned(), bytes("The range that was asked for.")),
        (
            "304".to_owned(),
            json!({"description": "It is what the caller has."}),
        ),
        (
            "416".to_owned(),
            json!({"description": "The range is beyond its end."}),
        ),
    ]);
    replies.extend(failures(&[400, 401, 403, 404, 412, 503, 504]));
    Json::Object(replies)
}

fn form() -> Json {
    let schema = json!({
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "metadata": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Texts about it: parts named `metadata[name]`."
            }
        }
    });
    json!({"required": true, "content": {"multipart/form-data": {"schema": schema}}})
}

fn id() -> Json {
    json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}})
}

fn range() -> Json {
    json!({
        "name": "Range",
        "in": "header",
        "description": "One range of bytes, such as `bytes=0-1023`.",
        "schema": {"type": "string"}
    })
}

fn list_parameters() -> Vec<Json> {
    let text = |name: &str, description: &str| json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}});
    let number = |name: &str, description: &str| json!({"name": name, "in": "query", "description": description, "schema": {"type": "integer", "minimum": 0}});
    vec![
        text("search", "A part of the name, in either case."),
        text("mime_type", "What the media type begins with, such as `image/`."),
        text(
            "filter",
            "A condition, as for documents: `size:gt:1000`. May be repeated.",
        ),
        text("sort", "As for documents; newest first where nothing is said."),
        number(
            "limit",
            "Most files of a page; 100 where nothing is said, at most 1000.",
        ),
        number("offset", "Files to leave out first."),
        text("after", "The `next` of the page before."),
    ]
}
