//! Refuses every call that does not carry the proof which its row in [`crate::access`] asks for.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use alyx_core::{Error, ErrorKind};
use futures_util::future::Either;
use http::{HeaderMap, Request, Response, header};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Server;
use tower::{Layer, Service};

use crate::access::{Caller, caller_of};
use crate::operator::OperatorSecurity;
use crate::security::Security;
use crate::status::to_status;

/// Who a listener is for.
#[derive(Debug, Clone)]
pub struct Gate(Door);

#[derive(Debug, Clone)]
enum Door {
    Roles {
        security: Security,
        /// Other control planes pass operators' calls on, which must carry the operator's proof too.
        operators: Option<OperatorSecurity>,
    },
    Operators(OperatorSecurity),
}

impl Gate {
    /// For other roles, and for calls of operators that roles pass on, see [`crate::pass_on`].
    pub fn with_operators(security: &Security, operators: Option<&OperatorSecurity>) -> Self {
        Self(Door::Roles {
            security: security.clone(),
            operators: operators.cloned(),
        })
    }

    pub(crate) fn secure_server(&self, server: Server) -> Result<Server, Error> {
        let invalid = |code, message: &str, error| {
            Error::new(ErrorKind::InvalidInput, code, message.to_owned()).with_source(error)
        };
        match &self.0 {
            Door::Roles { security, .. } => security
                .secure_server(server)
                .map_err(|error| invalid("CLUSTER_TLS_INVALID", "`cluster.tls` does not work", error)),
            Door::Operators(security) => security
                .secure_server(server)
                .map_err(|error| invalid("ADMIN_TLS_INVALID", "`admin.tls` does not work", error)),
        }
    }

    /// Whether the call at `path` may go on.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(), Status> {
        let row = caller_of(path);
        if row == Some(Caller::Anyone) {
            return Ok(());
        }
        let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let row_is_mine = match &self.0 {
            Door::Roles { security, .. } if !security.admits(authorization) => return Err(no_role()),
            Door::Operators(security) if !security.admits(authorization) => return Err(no_operator()),
            Door::Roles { operators, .. } if row == Some(Caller::Operator) => match operators {
                Some(operators) if operators.admits_forwarded(headers) => true,
                Some(_) => return Err(no_operator()),
                None => return Err(no_admin()),
            },
            Door::Roles { .. } => matches!(row, Some(Caller::Role | Caller::Either)),
            Door::Operators(_) => matches!(row, Some(Caller::Operator | Caller::Either)),
        };
        if row_is_mine {
            Ok(())
        } else {
            Err(Status::unimplemented("this listener has no such call"))
        }
    }
}

impl From<&Security> for Gate {
    /// For other roles alone.
    fn from(security: &Security) -> Self {
        Self::with_operators(security, None)
    }
}

impl From<&OperatorSecurity> for Gate {
    /// For operators alone.
    fn from(security: &OperatorSecurity) -> Self {
        Self(Door::Operators(security.clone()))
    }
}

impl From<&Gate> for Gate {
    fn from(gate: &Gate) -> Self {
        gate.clone()
    }
}

/// Puts [`Guarded`] in front of all services of a server.
#[derive(Debug, Clone)]
pub(crate) struct Guard(pub(crate) Gate);

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            gate: self.0.clone(),
        }
    }
}

/// A service behind its gate.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    gate: Gate,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.gate.admit(request.uri().path(), request.headers()) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => {
                tracing::debug!(
                    path = request.uri().path(),
                    "a call without the proof that it needs was refused"
                );
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}

fn no_role() -> Status {
    Status::unauthenticated("this cluster's token is needed; set the same `cluster.token` for every role")
}

fn no_operator() -> Status {
    to_status(&Error::new(
        ErrorKind::Unauthenticated,
        "ADMIN_UNAUTHENTICATED",
        "the operators' token is needed; send what `admin.token` of the control plane says, which must be the same for \
         every control plane",
    ))
}

fn no_admin() -> Status {
    to_status(&Error::new(
        ErrorKind::Unavailable,
        "ADMIN_DISABLED",
        "the control plane that leads has no `admin.token`; set the same for every control plane",
    ))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const ROLE: &str = "role-0123456789abcdef0123456789abcdef";
    const OPERATOR: &str = "operator-0123456789abcdef0123456789abcdef";
    const WRITE: &str = "/alyx.writer.v1.Writer/Write";
    const APPLY: &str = "/alyx.admin.v1.Admin/ApplySchema";
    const HEALTH: &str = "/grpc.health.v1.Health/Check";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const NONE: &str = "/alyx.writer.v1.Writer/Erase";

    fn answer(gate: &Gate, path: &str, bearer: Option<&str>, forwarded: Option<&str>) -> Code {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, token: Option<&str>| {
            if let Some(token) = token {
                let value = format!("Bearer {token}").parse().expect("a header");
                headers.insert(name, value);
            }
        };
        set("authorization", bearer);
        set("alyx-operator", forwarded);
        gate.admit(path, &headers)
            .err()
            .map_or(Code::Ok, |status| status.code())
    }

    #[test]
    fn each_token_opens_its_own_calls_and_no_others() {
        let roles = Security::new(Some(ROLE), None).expect("a token");
        let operators = OperatorSecurity::new(OPERATOR, None).expect("a token");
        let links = Gate::from(&roles);
        let control = Gate::with_operators(&roles, Some(&operators));
        let admin = Gate::from(&operators);
        let check = |gate: &Gate, path: &str, bearer: Option<&str>, forwarded: Option<&str>, code: Code| {
            assert_eq!(
                answer(gate, path, bearer, forwarded),
                code,
                "{gate:?} {path} {bearer:?} {forwarded:?}"
            );
        };
        for gate in [&links, &control, &admin] {
            check(gate, HEALTH, None, None, Code::Ok);
            for path in [WRITE, APPLY, REFLECTION, NONE] {
                check(gate, path, None, None, Code::Unauthenticated);
                check(gate, path, Some("guess"), None, Code::Unauthenticated);
                check(gate, path, None, Some(OPERATOR), Code::Unauthenticated);
            }
        }
        for gate in [&links, &control] {
            check(gate, WRITE, Some(ROLE), None, Code::Ok);
            check(gate, REFLECTION, Some(ROLE), None, Code::Ok);
            check(gate, NONE, Some(ROLE), None, Code::Unimplemented);
            for path in [WRITE, APPLY, REFLECTION] {
                check(gate, path, Some(OPERATOR), None, Code::Unauthenticated);
            }
        }
        check(&control, APPLY, Some(ROLE), None, Code::Unauthenticated);
        check(&control, APPLY, Some(ROLE), Some(ROLE), Code::Unauthenticated);
        check(&control, APPLY, Some(ROLE), Some(OPERATOR), Code::Ok);
        check(&links, APPLY, Some(ROLE), Some(OPERATOR), Code::Unavailable);
        check(&admin, APPLY, Some(OPERATOR), None, Code::Ok);
        check(&admin, REFLECTION, Some(OPERATOR), None, Code::Ok);
        check(&admin, WRITE, Some(OPERATOR), None, Code::Unimplemented);
        for path in [WRITE, APPLY, REFLECTION] {
            check(&admin, path, Some(ROLE), None, Code::Unauthenticated);
        }
    }
}
