//! Refuses every call that does not carry the proof which its row in [`crate::access`] asks for.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use alyx_core::{Error, ErrorKind, Permission};
use futures_util::future::Either;
use http::{HeaderMap, Request, Response, header};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Server;
use tower::{Layer, Service};

use crate::access::{Caller, caller_of};
use crate::operator::{ApiTokens, Judgement, OperatorSecurity};
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
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Admission, Status> {
        let row = caller_of(path);
        if row == Some(Caller::Anyone) {
            return Ok(Admission::Granted);
        }
        let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let (security, forwarded, permission) = match (&self.0, row) {
            (Door::Roles { security, .. }, _) if !security.admits(authorization) => return Err(no_role()),
            (Door::Roles { .. }, Some(Caller::Role | Caller::Either | Caller::Anyone)) => {
                return Ok(Admission::Granted);
            }
            (Door::Roles { .. }, None) => return Err(no_call()),
            (Door::Roles { operators, .. }, Some(Caller::Operator(permission))) => {
                (operators.as_ref().ok_or_else(no_admin)?, true, permission)
            }
            (Door::Operators(security), Some(Caller::Operator(permission))) => (security, false, permission),
            (Door::Operators(security), _) => (security, false, Permission::Observe),
        };
        let is_here = matches!(row, Some(Caller::Operator(_) | Caller::Either));
        match security.judge(headers, forwarded, permission) {
            Judgement::Refused => Err(no_operator()),
            Judgement::Admitted if is_here => Ok(Admission::Granted),
            Judgement::Ask(tokens, token, permission) if is_here => Ok(Admission::Asked(Question {
                tokens,
                token,
                permission,
            })),
            Judgement::Admitted => Err(no_call()),
            // Whether there is such a call is told to who has a proof alone.
            Judgement::Ask(..) => Err(no_operator()),
        }
    }
}

/// How a call goes on.
enum Admission {
    Granted,
    /// As soon as this was answered.
    Asked(Question),
}

/// Whether an API token may do something.
struct Question {
    tokens: Arc<dyn ApiTokens>,
    token: String,
    permission: Permission<'static>,
}

impl Question {
    async fn answer(&self) -> Result<(), Status> {
        let scopes = self.tokens.scopes(&self.token).await;
        match scopes.map_err(|error| to_status(&error))? {
            Some(scopes) if scopes.allow(self.permission) => Ok(()),
            Some(_) => {
                let message = format!(
                    "this token may not do that: it would need the scope `{}`",
                    self.permission
                );
                let error = Error::new(ErrorKind::Forbidden, "SCOPE_MISSING", message);
                Err(to_status(&error))
            }
            None => Err(no_operator()),
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
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Later>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.gate.admit(request.uri().path(), request.headers()) {
            Ok(Admission::Granted) => Either::Left(self.inner.call(request)),
            Ok(Admission::Asked(question)) => {
                // The one that was polled to be ready is called.
                let next = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, next);
                Either::Right(Box::pin(async move {
                    match question.answer().await {
                        Ok(()) => inner.call(request).await,
                        Err(status) => Ok(refused(request.uri().path(), status)),
                    }
                }))
            }
            Err(status) => {
                let reply = refused(request.uri().path(), status);
                Either::Right(Box::pin(std::future::ready(Ok(reply))))
            }
        }
    }
}

/// A reply that is not there yet.
type Later = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

fn refused(path: &str, status: Status) -> Response<Body> {
    tracing::debug!(path, "a call without the proof that it needs was refused");
    status.into_http()
}

fn no_call() -> Status {
    Status::unimplemented("this listener has no such call")
}

fn no_role() -> Status {
    Status::unauthenticated("this cluster's token is needed; set the same `cluster.token` for every role")
}

fn no_operator() -> Status {
    to_status(&Error::new(
        ErrorKind::Unauthenticated,
        "ADMIN_UNAUTHENTICATED",
        "the operators' token is needed: send what `admin.token` of the control plane says, which must be the same for \
         every control plane, or an API token that is good",
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
    use alyx_core::Scopes;
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
        match gate.admit(path, &headers) {
            Ok(Admission::Granted) => Code::Ok,
            Ok(Admission::Asked(question)) => {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let answer = runtime.expect("a runtime").block_on(question.answer());
                answer.err().map_or(Code::Ok, |status| status.code())
            }
            Err(status) => status.code(),
        }
    }

    /// Knows one token for each scope, of the scope's name.
    struct Named;

    #[async_trait::async_trait]
    impl ApiTokens for Named {
        async fn scopes(&self, token: &str) -> alyx_core::Result<Option<Scopes>> {
            Ok(Scopes::parse([token]).ok())
        }
    }

    #[test]
    fn an_api_token_opens_the_calls_of_its_scope_at_operators_doors_alone() {
        let roles = Security::new(Some(ROLE), None).expect("a token");
        let operators = OperatorSecurity::new(OPERATOR, None).expect("a token");
        let control = Gate::with_operators(&roles, Some(&operators));
        let admin = Gate::from(&operators);
        operators.accept(Arc::new(Named));
        let status = "/alyx.admin.v1.Admin/GetStatus";
        let drain = "/alyx.admin.v1.Admin/DrainNode";
        let create = "/alyx.admin.v1.Admin/CreateApiToken";
        for (scope, opens) in [
            ("read:*", &[][..]),
            ("write:*", &[]),
            ("functions:*", &[]),
            ("admin:read", &[status, REFLECTION]),
            ("admin:nodes", &[status, REFLECTION, drain]),
            ("deploy", &[status, REFLECTION, APPLY]),
            ("admin", &[status, REFLECTION, drain, APPLY, create]),
        ] {
            for path in [status, REFLECTION, drain, APPLY, create] {
                let expected = if opens.contains(&path) {
                    Code::Ok
                } else {
                    Code::PermissionDenied
                };
                assert_eq!(
                    answer(&admin, path, Some(scope), None),
                    expected,
                    "{scope} {path}"
                );
                let alone = answer(&control, path, Some(scope), None);
                assert_eq!(alone, Code::Unauthenticated, "{scope} {path}");
                if path != REFLECTION {
                    let passed_on = answer(&control, path, Some(ROLE), Some(scope));
                    assert_eq!(passed_on, expected, "{scope} {path}");
                }
            }
            for path in [WRITE, NONE] {
                let refused = answer(&admin, path, Some(scope), None);
                assert_eq!(refused, Code::Unauthenticated, "{scope} {path}");
            }
        }
        assert_eq!(answer(&admin, status, Some("gone"), None), Code::Unauthenticated);
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
