//! Between the wire's types and those of the seams.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control as wire;
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::state::{Function, Runtime};

/// The role, if it is one that this version knows.
pub fn role_from_wire(role: wire::Role) -> Option<Role> {
    match role {
        wire::Role::Unspecified => None,
        wire::Role::ControlPlane => Some(Role::ControlPlane),
        wire::Role::Gateway => Some(Role::Gateway),
        wire::Role::RealtimeNode => Some(Role::RealtimeNode),
        wire::Role::FunctionWorker => Some(Role::FunctionWorker),
    }
}

/// The role on the wire.
pub fn role_to_wire(role: Role) -> wire::Role {
    match role {
        Role::ControlPlane => wire::Role::ControlPlane,
        Role::Gateway => wire::Role::Gateway,
        Role::RealtimeNode => wire::Role::RealtimeNode,
        Role::FunctionWorker => wire::Role::FunctionWorker,
    }
}

/// The node, if its role is one that this version knows.
pub fn node_from_wire(node: &wire::Node) -> Option<ClusterNode> {
    Some(ClusterNode {
        id: node.id.clone(),
        role: role_from_wire(node.role())?,
        address: node.address.clone(),
        draining: node.state() == wire::NodeState::Draining,
    })
}

/// A function on its way to a node; `secrets` are for workers only.
pub fn function_to_wire(function: &Function, secrets: bool) -> wire::Function {
    wire::Function {
        name: function.name.clone(),
        runtime: function.runtime.name().to_owned(),
        version: function.version.clone(),
        entrypoint: function.entrypoint.to_string_lossy().into_owned(),
        description: function.description.clone(),
        sample_input: function.sample_input.as_ref().map(ToString::to_string),
        timeout_millis: u64::try_from(function.timeout.as_millis()).unwrap_or(u64::MAX),
        memory_mib: function.memory_mib,
        env: if secrets {
            function
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        } else {
            std::collections::HashMap::new()
        },
        invoke_rule: function.invoke_rule.as_deref().map(str::to_owned),
    }
}

/// The functions of a snapshot, with their code in the folder that `root_of` names for its version.
pub(crate) fn functions_from_wire(
    functions: &wire::Functions,
    root_of: impl Fn(&str) -> PathBuf,
) -> Result<BTreeMap<String, Arc<Function>>> {
    functions
        .functions
        .iter()
        .map(|function| {
            Ok((
                function.name.clone(),
                Arc::new(function_from_wire(function, &root_of)?),
            ))
        })
        .collect()
}

fn function_from_wire(function: &wire::Function, root_of: impl Fn(&str) -> PathBuf) -> Result<Function> {
    let unreadable = |what: &str| {
        Error::new(
            ErrorKind::Internal,
            "SNAPSHOT_UNREADABLE",
            format!(
                "the control plane names {what} for function `{}`, which this version cannot read; bring all roles to \
                 the same version",
                function.name
            ),
        )
    };
    let runtime = Runtime::ALL
        .into_iter()
        .find(|runtime| runtime.name() == function.runtime)
        .ok_or_else(|| unreadable("a runtime"))?;
    let entrypoint = PathBuf::from(&function.entrypoint);
    if !crate::bundle::is_inside(&entrypoint) {
        return Err(unreadable("an entrypoint outside its code"));
    }
    let sample_input = match &function.sample_input {
        Some(text) => Some(serde_json::from_str(text).map_err(|_| unreadable("a sample input"))?),
        None => None,
    };
    let root = if function.version.is_empty() {
        Path::new("").to_owned()
    } else {
        root_of(&function.version)
    };
    Ok(Function {
        name: function.name.clone(),
        runtime,
        version: function.version.clone(),
        root,
        entrypoint,
        description: function.description.clone(),
        sample_input,
        timeout: Duration::from_millis(function.timeout_millis),
        memory_mib: function.memory_mib,
        env: Arc::new(
            function
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        ),
        invoke_rule: function.invoke_rule.as_deref().map(Arc::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> Function {
        Function {
            name: "send".to_owned(),
            runtime: Runtime::Node,
            version: "v1".to_owned(),
            root: PathBuf::from("/bundles/v1"),
            entrypoint: PathBuf::from("send.js"),
            description: "Sends.".to_owned(),
            sample_input: Some(serde_json::json!({"n": 1})),
            timeout: Duration::from_millis(1500),
            memory_mib: 128,
            env: Arc::new(BTreeMap::from([("KEY".to_owned(), "s3cr3t".to_owned())])),
            invoke_rule: Some("auth != null".into()),
        }
    }

    fn back(function: wire::Function) -> Result<BTreeMap<String, Arc<Function>>> {
        let functions = wire::Functions {
            functions: vec![function],
        };
        functions_from_wire(&functions, |version| Path::new("/bundles").join(version))
    }

    #[test]
    fn a_function_arrives_as_it_left() {
        let told = back(function_to_wire(&function(), true)).expect("readable");
        assert_eq!(format!("{:?}", told["send"]), format!("{:?}", function()));
    }

    #[test]
    fn secrets_go_to_workers_only() {
        let told = back(function_to_wire(&function(), false)).expect("readable");
        assert!(told["send"].env.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let check = |change: fn(&mut wire::Function), word: &str| {
            let mut function = function_to_wire(&function(), false);
            change(&mut function);
            let error = back(function).expect_err(word);
            assert!(error.message().contains(word), "{error}");
        };
        check(|f| f.runtime = "cobol".to_owned(), "a runtime");
        check(|f| f.entrypoint = "../x.js".to_owned(), "an entrypoint");
        check(|f| f.entrypoint = "/x.js".to_owned(), "an entrypoint");
        check(|f| f.sample_input = Some("{".to_owned()), "a sample input");
    }

    #[test]
    fn roles_survive_the_wire() {
        for role in [
            Role::ControlPlane,
            Role::Gateway,
            Role::RealtimeNode,
            Role::FunctionWorker,
        ] {
            assert_eq!(role_from_wire(role_to_wire(role)), Some(role));
        }
        assert_eq!(role_from_wire(wire::Role::Unspecified), None);
    }
}
