//! Refuses every call that does not carry the cluster's token, but for gRPC health checks, which tell nothing but
//! whether the role serves.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{HeaderMap, Request, Response, header};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::security::Security;

/// Paths that anyone may call.
const OPEN: &str = "/grpc.health.v1.Health/";

/// Puts [`Guarded`] in front of all services of a server.
#[derive(Debug, Clone)]
pub(crate) struct Guard(pub(crate) Security);

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            security: self.0.clone(),
        }
    }
}

/// A service behind the token.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    security: Security,
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
        if request.uri().path().starts_with(OPEN) || self.security.admits(authorization(request.headers())) {
            return Either::Left(self.inner.call(request));
        }
        tracing::debug!(
            path = request.uri().path(),
            "a call without the cluster's token was refused"
        );
        let status = Status::unauthenticated(
            "this cluster's token is needed; set the same `cluster.token` for every role",
        );
        Either::Right(ready(Ok(status.into_http())))
    }
}

fn authorization(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::AUTHORIZATION).map(|value| value.as_bytes())
}
