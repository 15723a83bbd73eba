//! Routes as data, so that a test can compare them with `openapi.yaml`.

use std::time::Duration;

use axum::Extension;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::ApiState;

/// One operation.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    /// The operation's id in `openapi.yaml`, and the handler's name.
    pub operation: &'static str,
    /// Whether it changes anything.
    pub(super) is_change: bool,
    /// The names of its query parameters; None if it does not look at them.
    pub query: Option<&'static [&'static str]>,
    pub(super) handler: MethodRouter<ApiState>,
    /// How long the head of the answer may take.
    pub(super) time_limit: Option<Duration>,
}

/// What a handler may take that reads a few rows; and one that reads files.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const LONG_TIME_LIMIT: Duration = Duration::from_mins(10);

/// A route's own limit of its bodies, in bytes.
#[derive(Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

impl Route {
    /// For a handler that takes a body of any size and bounds it itself. Its time is bounded by the body's pace.
    pub(super) fn without_body_limit(self) -> Self {
        Self { handler: self.handler.layer(DefaultBodyLimit::disable()), time_limit: None, ..self }
    }

    /// For a handler that takes bodies of up to so many bytes, more than others.
    pub(super) fn with_body_limit(self, bytes: usize) -> Self {
        Self { handler: self.handler.layer(Extension(BodyLimit(bytes))), ..self }
    }

    /// For a handler that reads these query parameters.
    pub(super) fn with_query(self, names: &'static [&'static str]) -> Self {
        Self { query: Some(names), ..self }
    }

    /// For a handler that is asked by machines, which may add parameters of their own.
    pub(super) fn with_any_query(self) -> Self {
        Self { query: None, ..self }
    }

    /// For a handler that is asked something with a body, and changes nothing.
    pub(super) fn without_change(self) -> Self {
        Self { is_change: false, ..self }
    }

    /// For a handler that may read large files before it answers.
    pub(super) fn with_patience(self) -> Self {
        Self { time_limit: Some(LONG_TIME_LIMIT), ..self }
    }
}

fn route<H, T>(method: Method, filter: MethodFilter, path: &'static str, operation: &'static str, handler: H) -> Route
where
    H: Handler<T, ApiState>,
    T: 'static,
{
    let is_change = method != Method::GET;
    let time_limit = Some(TIME_LIMIT);
    Route { method, path, operation, is_change, query: Some(&[]), handler: on(filter, handler), time_limit }
}

pub(super) fn get<H: Handler<T, ApiState>, T: 'static>(
    path: &'static str,
    operation: &'static str,
    handler: H,
) -> Route {
    route(Method::GET, MethodFilter::GET, path, operation, handler)
}

pub(super) fn post<H: Handler<T, ApiState>, T: 'static>(
    path: &'static str,
    operation: &'static str,
    handler: H,
) -> Route {
    route(Method::POST, MethodFilter::POST, path, operation, handler)
}

pub(super) fn delete<H: Handler<T, ApiState>, T: 'static>(
    path: &'static str,
    operation: &'static str,
    handler: H,
) -> Route {
    route(Method::DELETE, MethodFilter::DELETE, path, operation, handler)
}
