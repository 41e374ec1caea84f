//! Answers a call as a part of the trace that its caller names.

use std::task::{Context, Poll};

use alyx_core::TraceContext;
use alyx_service::trace::{self, Scoped};
use futures_util::future::Either;
use http::{HeaderName, Request};
use tower::{Layer, Service};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Puts [`Traced`] in front of all services of a server.
#[derive(Debug, Clone)]
pub(crate) struct Tracing;

impl<S> Layer<S> for Tracing {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced(inner)
    }
}

/// A service whose handlers find their trace in [`trace::current`].
#[derive(Debug, Clone)]
pub(crate) struct Traced<S>(S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for Traced<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Scoped<S::Future>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let told = request.headers().get(TRACEPARENT);
        match told.and_then(|value| TraceContext::parse(value.as_bytes())) {
            Some(context) => Either::Left(trace::scoped(context, self.0.call(request))),
            None => Either::Right(self.0.call(request)),
        }
    }
}
