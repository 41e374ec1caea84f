//! `file`: which files a field of type file takes.

use alyx_core::nearest;
use alyx_yaml::Place;

use super::bucket::{media_types, size};
use super::collection::Draft;
use super::field::either;
use super::reference::on_delete;
use super::walk::{Options, Walk, join};
use crate::model::{Bucket, FieldType, FileRule, OnDelete};

/// Options under `file`.
pub(crate) const FILE_OPTIONS: [&str; 5] = ["bucket", "max_size", "allowed_types", "onDelete", "on_delete"];
const EXAMPLE: &str = "write `file: {bucket: images}`";

/// Reads the block. The place is that of the bucket's name, for [`check`].
pub(super) fn read(
    walk: &mut Walk,
    options: &Options<'_>,
    kind: FieldType,
    nullable: bool,
    path: &str,
) -> Option<(FileRule, Place)> {
    let at = join(path, "file");
    let entry = options.entry("file");
    if kind != FieldType::File {
        if let Some((key, _)) = entry {
            let message = format!("`file` does not fit a field of type {}", kind.name());
            walk.problem(key.place, at, message, "take it off, or use `type: file`");
        }
        return None;
    }
    let Some((_, node)) = entry else {
        let place = options.get("type")?.place;
        walk.problem(place, at, "is missing: a file is in a bucket", EXAMPLE);
        return None;
    };
    let inner = walk.options(node, &at, "`file`", &FILE_OPTIONS, &[])?;
    let rule = FileRule {
        bucket: walk.text(&inner, "bucket", &at).unwrap_or_default().to_owned(),
        max_size: size(walk, &inner, "max_size", &at),
        allowed_types: media_types(walk, &inner, "allowed_types", &at),
        on_delete: match either(walk, &inner, ["onDelete", "on_delete"], &at) {
            Some((at, node)) => on_delete(walk, node, &at, nullable),
            None => OnDelete::default(),
        },
    };
    let Some(bucket) = inner.get("bucket") else {
        let message = "is missing: a file is in a bucket";
        walk.problem(node.place, join(&at, "bucket"), message, EXAMPLE);
        return None;
    };
    bucket.text()?;
    Some((rule, bucket.place))
}

/// Looks the buckets of all fields of type file up.
pub(super) fn check(walk: &mut Walk, drafts: &[Draft], buckets: &[Bucket]) {
    for draft in drafts.iter().flat_map(|draft| &draft.fields) {
        let (Some(rule), Some(place)) = (&draft.field.file, draft.bucket) else {
            continue;
        };
        let path = &draft.path;
        let Some(bucket) = buckets.iter().find(|bucket| bucket.name == rule.bucket) else {
            let hint = match nearest(&rule.bucket, buckets.iter().map(|bucket| bucket.name.as_str())) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "declare it: `buckets: {images: {backend: local}}`".to_owned(),
            };
            let message = format!("there is no bucket `{}`", rule.bucket);
            walk.problem(place, join(path, "file.bucket"), message, hint);
            continue;
        };
        if let (Some(own), Some(most)) = (rule.max_size, bucket.max_file_size)
            && own > most
        {
            walk.warnings.push(format!(
                "{path}: `max_size` is above the `max_file_size` of the bucket `{}`, which holds",
                bucket.name
            ));
        }
        walk.warnings.push(format!(
            "{path}: the field keeps an id, and this version does not look the file up"
        ));
    }
}
