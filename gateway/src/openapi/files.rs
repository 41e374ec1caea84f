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
    vec![("File", file), ("FilePage", page), ("FilesDeleted", deleted)]
}

/// Adds a bucket's paths. What nobody may do is left out.
pub(super) fn add(bucket: &Bucket, paths: &mut Map<String, Json>, operations: &mut Operations) {
    let (name, access) = (&bucket.name, bucket.access);
    let path = format!("/api/files/{name}");
    let mut insert = |path: String, item: Json| {
        if item.as_object().is_some_and(|item| !item.is_empty()) {
            paths.insert(path, item);
        }
    };
    let mut many = json!({});
    if access.read {
        let mut list = made(operations, "listFilesOf", name, &format!("List files of {name}"));
        list["parameters"] = json!(list_parameters());
        list["responses"] = replies(
            "200",
            json_reply("A page of files.", &reference("FilePage")),
            &[400, 403, 404],
        );
        many["get"] = list;
    }
    if access.create {
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
    insert(path.clone(), many);
    if access.delete {
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
        insert(format!("{path}/batch"), json!({"delete": delete}));
    }
    let mut one = json!({});
    if access.read {
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
    if access.delete {
        let mut delete = made(
            operations,
            "deleteFileOf",
            name,
            &format!("Delete a file of {name}"),
        );
        delete["parameters"] = json!([id()]);
        delete["responses"] = replies(
            "204",
            json!({"description": "It is deleted."}),
            &[403, 404, 503, 504],
        );
        one["delete"] = delete;
    }
    insert(format!("{path}/{{id}}"), one);
    if bucket.download {
        for (verb, last, summary) in [
            ("downloadFrom", "download", format!("Download a file of {name}")),
            ("viewIn", "view", format!("Show a file of {name} in a browser")),
        ] {
            let mut get = made(operations, verb, name, &summary);
            get["parameters"] = json!([id(), range()]);
            get["responses"] = contents();
            insert(format!("{path}/{{id}}/{last}"), json!({"get": get}));
        }
    }
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
    replies.extend(failures(&[400, 403, 404, 412, 503, 504]));
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
