//! The layers of the workspace: a crate may depend on its own layer and those below, a role on no other role, and
//! a pure crate on no runtime, no HTTP and no SQL driver.

use cargo_metadata::{DependencyKind, Package};

/// A layer, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// Libraries that do no I/O.
    Pure,
    /// What joins the pure libraries to the world.
    Adapter,
    /// The parts of the running system.
    Role,
    /// Binaries and tests.
    Root,
}

/// The layer of every crate; one that is missing here fails the check.
const LAYERS: &[(&str, Layer)] = &[
    ("alyx-core", Layer::Pure),
    ("alyx-yaml", Layer::Pure),
    ("alyx-config", Layer::Pure),
    ("alyx-schema", Layer::Pure),
    ("alyx-query", Layer::Pure),
    ("alyx-rules", Layer::Pure),
    ("alyx-auth", Layer::Pure),
    ("alyx-proto", Layer::Pure),
    ("alyx-typescript", Layer::Pure),
    ("alyx-store", Layer::Adapter),
    ("alyx-storage", Layer::Adapter),
    ("alyx-operators", Layer::Adapter),
    ("alyx-bus", Layer::Adapter),
    ("alyx-sandbox", Layer::Adapter),
    ("alyx-service", Layer::Adapter),
    ("alyx-rpc", Layer::Adapter),
    ("alyx-cluster", Layer::Adapter),
    ("alyx-gateway", Layer::Role),
    ("alyx-realtime-node", Layer::Role),
    ("alyx-function-worker", Layer::Role),
    ("alyx-control-plane", Layer::Role),
    ("alyx", Layer::Root),
    ("alyx-tests", Layer::Root),
    ("alyx-benches", Layer::Root),
    ("xtask", Layer::Root),
];

/// What a pure crate may not depend on; its tests may.
const NOT_PURE: &[&str] = &[
    "axum",
    "hyper",
    "libsql",
    "tokio",
    "tokio-util",
    "tower-http",
    "tracing-subscriber",
];

/// Everything in these packages that breaks the layers, one line each.
pub(crate) fn problems(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let Some(layer) = layer(name) else {
            problems.push(format!("{name} has no layer; give it one in xtask/src/layers.rs"));
            continue;
        };
        for dependency in &package.dependencies {
            let target = dependency.name.as_str();
            let shipped = dependency.kind != DependencyKind::Development;
            if layer == Layer::Pure && shipped && NOT_PURE.contains(&target) {
                problems.push(format!("{name} is pure and may not depend on {target}"));
            }
            let Some(below) = self::layer(target) else {
                continue;
            };
            if below > layer {
                problems.push(format!(
                    "{name} ({layer:?}) depends on {target} ({below:?}), which is above it"
                ));
            } else if layer == Layer::Role && below == Layer::Role {
                problems.push(format!(
                    "{name} depends on {target}: no role may depend on another, join them by a trait of alyx-service"
                ));
            }
        }
    }
    problems
}

fn layer(name: &str) -> Option<Layer> {
    LAYERS
        .iter()
        .find(|(listed, _)| *listed == name)
        .map(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A package as `cargo metadata` prints it, with dependencies as (name, kind).
    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| {
                json!({
                    "name": name, "source": null, "req": "*", "kind": kind, "rename": null, "optional": false,
                    "uses_default_features": true, "features": [], "target": null, "registry": null
                })
            })
            .collect();
        serde_json::from_value(json!({
            "name": name, "version": "0.1.0", "id": name, "source": null, "dependencies": dependencies,
            "targets": [], "features": {}, "manifest_path": "/made-up/Cargo.toml", "edition": "2024"
        }))
        .expect("the shape of cargo metadata")
    }

    fn check(name: &str, dependency: &str, kind: Option<&str>, expected: Option<&str>) {
        let found = problems(&[package(name, &[(dependency, kind)])]);
        match expected {
            None => assert!(found.is_empty(), "{found:?}"),
            Some(word) => {
                assert_eq!(found.len(), 1, "{name} → {dependency}: {found:?}");
                assert!(found[0].contains(word), "{found:?}");
            }
        }
    }

    #[test]
    fn arrows_that_point_down_or_sideways_pass() {
        check("alyx", "alyx-gateway", None, None);
        check("alyx-gateway", "alyx-store", None, None);
        check("alyx-bus", "alyx-store", None, None);
        check("alyx-query", "alyx-schema", None, None);
        check("alyx-gateway", "axum", None, None);
        check("alyx-core", "tokio", Some("dev"), None);
    }

    #[test]
    fn arrows_that_point_up_fail() {
        check("alyx-core", "alyx-store", None, Some("above it"));
        check("alyx-store", "alyx-gateway", None, Some("above it"));
        check("alyx-store", "alyx-gateway", Some("dev"), Some("above it"));
        check("alyx-gateway", "alyx", Some("build"), Some("above it"));
    }

    #[test]
    fn roles_that_know_each_other_fail() {
        check("alyx-gateway", "alyx-realtime-node", None, Some("no role"));
        check(
            "alyx-function-worker",
            "alyx-control-plane",
            Some("dev"),
            Some("no role"),
        );
    }

    #[test]
    fn pure_crates_with_a_runtime_fail() {
        for library in NOT_PURE {
            check("alyx-query", library, None, Some("is pure"));
        }
    }

    #[test]
    fn a_crate_without_a_layer_fails() {
        check("alyx-new", "serde", None, Some("has no layer"));
    }

    #[test]
    fn every_member_of_this_workspace_has_a_layer() {
        let metadata = cargo_metadata::MetadataCommand::new()
            .no_deps()
            .exec()
            .expect("cargo metadata");
        for package in &metadata.packages {
            assert!(layer(package.name.as_str()).is_some(), "{}", package.name);
        }
    }
}
