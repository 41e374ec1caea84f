//! `buckets`: places for files.

use alyx_core::{nearest, parse_size};
use alyx_yaml::Node;

use super::access;
use super::walk::{Named, Options, Walk, join};
use crate::model::{Access, Bucket};

/// Options of a bucket; `name` in the list form only.
pub(crate) const BUCKET_OPTIONS: [&str; 8] = [
    "name",
    "description",
    "backend",
    "max_file_size",
    "max_total_size",
    "allowed_types",
    "compression",
    "rules",
];
const EXAMPLE: &str = "write `buckets: {images: {backend: local}}`";

/// Reads all buckets of the file.
pub(super) fn read_all(walk: &mut Walk, node: &Node, fallback: Access) -> Vec<Bucket> {
    let named = walk.named(node, "buckets", "bucket").unwrap_or_default();
    named
        .iter()
        .filter_map(|named| read(walk, named, fallback))
        .collect()
}

fn read(walk: &mut Walk, named: &Named<'_>, fallback: Access) -> Option<Bucket> {
    let path = &named.path;
    let options = walk.options(named.node, path, "a bucket", &BUCKET_OPTIONS, &[])?;
    let description = walk.text(&options, "description", path).map(str::to_owned);
    if options.get("backend").is_none() {
        walk.problem(
            named.place,
            join(path, "backend"),
            "is missing: a bucket is held by a storage",
            EXAMPLE,
        );
    }
    let backend = walk
        .text(&options, "backend", path)
        .unwrap_or_default()
        .to_owned();
    let compression = walk.flag(&options, "compression", path).unwrap_or(false);
    if compression {
        walk.warnings.push(format!(
            "{path}: `compression` has no effect in this version: files are kept as they are"
        ));
    }
    let (access, download, rules) = access::of_bucket(walk, path, &options, fallback);
    Some(Bucket {
        name: named.name.clone(),
        description,
        backend,
        max_file_size: size(walk, &options, "max_file_size", path),
        max_total_size: size(walk, &options, "max_total_size", path),
        allowed_types: media_types(walk, &options, "allowed_types", path),
        compression,
        access,
        download,
        rules,
    })
}

/// A size in bytes; 0 is no limit.
pub(super) fn size(walk: &mut Walk, options: &Options<'_>, name: &str, path: &str) -> Option<u64> {
    let node = options.get(name)?;
    let size = node.text().map(parse_size);
    if let Some(Ok(size)) = size {
        return (size > 0).then_some(size);
    }
    walk.problem(
        node.place,
        join(path, name),
        "must be a size in bytes, 0 for no limit",
        format!("write `{name}: 10mb`"),
    );
    None
}

/// Media types (RFC 9110, 8.3.1) without parameters, each once; `type/*` is any of its kind and `*/*` any at all.
pub(super) fn media_types(walk: &mut Walk, options: &Options<'_>, name: &str, path: &str) -> Vec<String> {
    let Some(node) = options.get(name) else {
        return Vec::new();
    };
    let at = join(path, name);
    let mut types: Vec<String> = Vec::new();
    for (text, place) in walk.texts(node, &at) {
        let kind = text.to_ascii_lowercase();
        if !is_media_type(&kind) {
            let known = [
                "image/png",
                "image/jpeg",
                "image/*",
                "application/pdf",
                "text/plain",
                "video/mp4",
            ];
            let hint = match nearest(&kind, known) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("write `{name}: [image/*, application/pdf]`"),
            };
            walk.problem(place, &at, format!("`{text}` is no media type"), hint);
        } else if types.contains(&kind) {
            walk.problem(place, &at, format!("`{text}` is listed twice"), "keep it once");
        } else {
            types.push(kind);
        }
    }
    types
}

fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match text.split_once('/') {
        Some(("*", "*")) => true,
        Some((kind, "*")) => is_token(kind),
        Some((kind, subtype)) => is_token(kind) && is_token(subtype),
        None => false,
    }
}
