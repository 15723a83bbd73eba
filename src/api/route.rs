//! Routes as data, so that a test can compare them with `openapi.yaml`.

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
    pub(super) handler: MethodRouter<ApiState>,
}

impl Route {
    /// For a handler that takes a body of any size and bounds it itself.
    pub(super) fn without_body_limit(self) -> Self {
        Self { handler: self.handler.layer(DefaultBodyLimit::disable()), ..self }
    }
}

fn route<H, T>(method: Method, filter: MethodFilter, path: &'static str, operation: &'static str, handler: H) -> Route
where
    H: Handler<T, ApiState>,
    T: 'static,
{
    Route { method, path, operation, handler: on(filter, handler) }
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
