//! The keys of a server whose roles are processes of their own: how they find and trust each other.

use std::path::PathBuf;

use super::Key;
use super::live::{live, optional};
use crate::model::{AdminTls, ClusterTls, Config, Secret};
use crate::value::Kind;

/// Text that is empty means that it was not set, as files with `${VAR:-}` have it.
pub(super) fn secret(text: String) -> Option<Secret> {
    given(text).map(Secret::new)
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.trim().is_empty())
}

fn tls(config: &mut Config) -> &mut ClusterTls {
    config.cluster.tls.get_or_insert_with(|| ClusterTls {
        ca: PathBuf::new(),
        cert: PathBuf::new(),
        key: PathBuf::new(),
        server_name: None,
    })
}

fn admin_tls(config: &mut Config) -> &mut AdminTls {
    config.admin.tls.get_or_insert_with(|| AdminTls {
        cert: PathBuf::new(),
        key: PathBuf::new(),
    })
}

/// In the order of the documentation.
pub(super) static KEYS: &[Key] = &[
    live(
        "cluster.name",
        "alyx",
        Kind::Text(|c, _, v| c.cluster.name = v),
        "Name of the cluster: letters, digits, `-` and `_`. Clusters that share a NATS server need different ones.",
    ),
    optional(
        "cluster.token",
        Kind::Secret(|c, _, v| c.cluster.token = secret(v)),
        "Proof that all roles share, 32 characters or more. A role of its own does not start without it or \
         `cluster.tls`.",
    ),
    optional(
        "cluster.tls.ca",
        Kind::Path(|c, _, v| tls(c).ca = v),
        "Mutual TLS between roles: certificates of the authority (PEM).",
    ),
    optional(
        "cluster.tls.cert",
        Kind::Path(|c, _, v| tls(c).cert = v),
        "This role's certificate (PEM), good for both ends of a connection.",
    ),
    optional(
        "cluster.tls.key",
        Kind::Path(|c, _, v| tls(c).key = v),
        "The key of `cluster.tls.cert` (PEM).",
    ),
    optional(
        "cluster.tls.server_name",
        Kind::Text(|c, _, v| tls(c).server_name = Some(v)),
        "Name that every role's certificate carries; otherwise each carries the host name it is reached by.",
    ),
    live(
        "cluster.listen",
        "0.0.0.0:8190",
        Kind::Text(|c, _, v| c.cluster.listen = v),
        "Where a role of its own listens for the others; port `0` takes a free one.",
    ),
    optional(
        "cluster.advertise",
        Kind::AnyText(|c, _, v| c.cluster.advertise = given(v)),
        "`host:port` at which the others reach this role, where that is not its listen address.",
    ),
    optional(
        "cluster.control_plane",
        Kind::List(|c, _, v| c.cluster.control_plane = v),
        "`host:port` of each control plane.",
    ),
    optional(
        "cluster.nats",
        Kind::Secret(|c, _, v| c.cluster.nats = secret(v)),
        "The NATS server that carries changes between roles, such as `nats://host:4222`.",
    ),
    optional(
        "cluster.node_id",
        Kind::AnyText(|c, _, v| c.cluster.node_id = given(v)),
        "Name of this process in the directory; otherwise role, host and a random part.",
    ),
    optional(
        "metrics.listen",
        Kind::AnyText(|c, _, v| c.metrics.listen = given(v)),
        "A listener of its own for `/health` and `/metrics`; the public one has no `/metrics` then. A role of its own always has one, by default on a free port of this machine alone.",
    ),
    optional(
        "admin.token",
        Kind::Secret(|c, _, v| c.admin.token = secret(v)),
        "Proof of operators, 32 characters or more, another one than `cluster.token`; the same for every control plane. \
         The admin API is served only where it is set. `alyx --server …` sends it.",
    ),
    live(
        "admin.listen",
        "127.0.0.1:8192",
        Kind::Text(|c, _, v| c.admin.listen = v),
        "Where a control plane, `alyx serve` and `alyx dev` listen for operators once `admin.token` is set; port `0` takes \
         a free one.",
    ),
    optional(
        "admin.tls.cert",
        Kind::Path(|c, _, v| admin_tls(c).cert = v),
        "TLS for operators: the certificate of `admin.listen` (PEM), with its chain.",
    ),
    optional(
        "admin.tls.key",
        Kind::Path(|c, _, v| admin_tls(c).key = v),
        "The key of `admin.tls.cert` (PEM).",
    ),
];
