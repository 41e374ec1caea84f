//! Who may call what: one row for each RPC of each service.
//!
//! **Invariant:** a call without a row is never handed to a service. A test compares the rows with the services.

use alyx_core::Permission;

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever reaches the listener.
    Anyone,
    /// A role of the cluster.
    Role,
    /// An operator, or an API token that may do this.
    Operator(Permission<'static>),
    /// Whoever the listener is for.
    Either,
}

/// Every RPC, by its path.
const ROWS: &[(&str, Caller)] = &[
    ("/alyx.writer.v1.Writer/Write", Caller::Role),
    ("/alyx.gateway.v1.Gateway/Forward", Caller::Role),
    ("/alyx.functions.v1.Functions/Dispatch", Caller::Role),
    ("/alyx.realtime.v1.Realtime/Link", Caller::Role),
    ("/alyx.control.v1.Control/Register", Caller::Role),
    ("/alyx.control.v1.Control/Watch", Caller::Role),
    ("/alyx.control.v1.Control/FetchBundle", Caller::Role),
    ("/alyx.control.v1.Control/ReloadFunctions", Caller::Role),
    ("/alyx.control.v1.Control/ListNodes", Caller::Role),
    (
        "/alyx.admin.v1.Admin/GetStatus",
        Caller::Operator(Permission::Observe),
    ),
    (
        "/alyx.admin.v1.Admin/ListNodes",
        Caller::Operator(Permission::Observe),
    ),
    (
        "/alyx.admin.v1.Admin/DrainNode",
        Caller::Operator(Permission::Nodes),
    ),
    (
        "/alyx.admin.v1.Admin/UndrainNode",
        Caller::Operator(Permission::Nodes),
    ),
    (
        "/alyx.admin.v1.Admin/GetSchema",
        Caller::Operator(Permission::Observe),
    ),
    (
        "/alyx.admin.v1.Admin/PlanSchema",
        Caller::Operator(Permission::Observe),
    ),
    (
        "/alyx.admin.v1.Admin/ApplySchema",
        Caller::Operator(Permission::Deploy),
    ),
    (
        "/alyx.admin.v1.Admin/ListSchemaRevisions",
        Caller::Operator(Permission::Observe),
    ),
    (
        "/alyx.admin.v1.Admin/ListFunctions",
        Caller::Operator(Permission::Observe),
    ),
    (
        // It tells values of documents and of accounts.
        "/alyx.admin.v1.Admin/ExplainRules",
        Caller::Operator(Permission::Administer),
    ),
    (
        "/alyx.admin.v1.Admin/CreateOperator",
        Caller::Operator(Permission::Administer),
    ),
    (
        "/alyx.admin.v1.Admin/SetOperatorPassword",
        Caller::Operator(Permission::Administer),
    ),
    (
        "/alyx.admin.v1.Admin/CreateApiToken",
        Caller::Operator(Permission::Administer),
    ),
    (
        "/alyx.admin.v1.Admin/ListAccess",
        Caller::Operator(Permission::Administer),
    ),
    (
        "/alyx.admin.v1.Admin/RevokeAccess",
        Caller::Operator(Permission::Administer),
    ),
    // Tell nothing but whether the process serves.
    ("/grpc.health.v1.Health/Check", Caller::Anyone),
    ("/grpc.health.v1.Health/Watch", Caller::Anyone),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Caller::Either,
    ),
];

/// Who may call the RPC at `path`; `None` where there is none.
pub(crate) fn caller_of(path: &str) -> Option<Caller> {
    ROWS.iter()
        .find(|(row, _)| *row == path)
        .map(|(_, caller)| *caller)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn paths(descriptors: &[u8]) -> BTreeSet<String> {
        let set = FileDescriptorSet::decode(descriptors).expect("descriptors");
        let mut paths = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        paths
    }

    #[test]
    fn every_rpc_of_every_service_has_a_row_and_no_row_is_left_over() {
        let mut services = paths(alyx_proto::DESCRIPTORS);
        services.extend(paths(tonic_health::pb::FILE_DESCRIPTOR_SET));
        services.extend(paths(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET));
        let rows: BTreeSet<String> = ROWS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(rows.len(), ROWS.len(), "a row is there twice");
        assert_eq!(rows, services);
    }

    /// The table, written out: a call that is open to other scopes than before shows here.
    #[test]
    fn every_call_of_operators_says_what_scope_opens_it() {
        let with = |permission: Permission<'static>| -> Vec<&str> {
            let rows = ROWS
                .iter()
                .filter(|(_, row)| *row == Caller::Operator(permission));
            rows.filter_map(|(path, _)| path.rsplit('/').next()).collect()
        };
        let observe = [
            "GetStatus",
            "ListNodes",
            "GetSchema",
            "PlanSchema",
            "ListSchemaRevisions",
            "ListFunctions",
        ];
        assert_eq!(with(Permission::Observe), observe);
        assert_eq!(with(Permission::Nodes), ["DrainNode", "UndrainNode"]);
        assert_eq!(with(Permission::Deploy), ["ApplySchema"]);
        let administer = [
            "ExplainRules",
            "CreateOperator",
            "SetOperatorPassword",
            "CreateApiToken",
            "ListAccess",
            "RevokeAccess",
        ];
        assert_eq!(with(Permission::Administer), administer);
    }

    #[test]
    fn roles_and_operators_share_no_service_but_health_and_reflection() {
        for (path, caller) in ROWS {
            let fits = match path.split('/').nth(1) {
                Some("alyx.admin.v1.Admin") => matches!(caller, Caller::Operator(_)),
                Some("grpc.health.v1.Health") => *caller == Caller::Anyone,
                Some("grpc.reflection.v1.ServerReflection") => *caller == Caller::Either,
                _ => *caller == Caller::Role,
            };
            assert!(fits, "{path}: {caller:?}");
        }
    }
}
