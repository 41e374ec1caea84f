//! The keys of file storage.

use std::time::Duration;

use super::Key;
use super::live::{live, optional};
use crate::model::{Config, StorageBackend, StorageKind};
use crate::value::Kind;

const MINUTE: Duration = Duration::from_secs(60);

fn backend<'a>(config: &'a mut Config, name: &str) -> &'a mut StorageBackend {
    config.storage.backends.entry(name.to_owned()).or_default()
}

/// In the order of the documentation.
pub(super) static KEYS: &[Key] = &[
    live(
        "storage.path",
        "files",
        Kind::Path(|c, _, v| c.storage.path = v),
        "The folder of the storage `local`, which is there unless `storage.backends.local` says something else. It is made \
         with the first file. Gateways of a cluster share it.",
    ),
    live(
        "storage.max_file_size",
        "5gb",
        Kind::Size {
            min: 1,
            set: |c, _, v| c.storage.max_file_size = v,
        },
        "Largest file that any bucket takes, whatever it says itself.",
    ),
    live(
        "storage.sweep_interval",
        "1h",
        Kind::Duration {
            min: Duration::from_secs(1),
            or_zero: false,
            set: |c, _, v| c.storage.sweep_interval = v,
        },
        "How often folders are searched for what broken uploads left behind, beside once at start.",
    ),
    live(
        "storage.orphan_age",
        "1h",
        Kind::Duration {
            min: MINUTE,
            or_zero: false,
            set: |c, _, v| c.storage.orphan_age = v,
        },
        "How long such a thing must have lain untouched before it is removed.",
    ),
    optional(
        "storage.backends.{name}.type",
        Kind::Choice {
            words: &["filesystem", "s3"],
            set: |c, name, v| {
                backend(c, name).kind = if v == "s3" {
                    StorageKind::S3
                } else {
                    StorageKind::Filesystem
                };
            },
        },
        "A storage that buckets name as their `backend`: `filesystem`, a folder. `s3` is not available in this version, and \
         an error.",
    ),
    optional(
        "storage.backends.{name}.filesystem.path",
        Kind::Path(|c, name, v| backend(c, name).path = Some(v)),
        "Its folder. Gateways of a cluster share it.",
    )
    .or(&["storage.backends.{name}.path"]),
    optional(
        "storage.backends.{name}.filesystem.base_path",
        Kind::AnyText(|c, name, v| backend(c, name).base_path = v),
        "What the names of the buckets' folders in it begin with.",
    )
    .or(&["storage.backends.{name}.base_path"]),
];
