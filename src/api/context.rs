//! What surrounds every request: its id, the headers that OpenAI's answers have, one log line, and counters.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Causes;
use super::rate_limit::Allowance;
use crate::domain::id::RequestId;
use crate::telemetry;

/// What extractors learn about a request and the answer's headers tell.
#[derive(Clone, Default)]
pub(super) struct Context(Arc<Inner>);

#[derive(Default)]
struct Inner {
    project: OnceLock<String>,
    allowance: OnceLock<Allowance>,
}

impl Context {
    pub(super) fn set_project(&self, name: &str) {
        let _ = self.0.project.set(name.to_owned());
    }

    /// The name of the project that the request acts for, once its key is known.
    pub(super) fn project(&self) -> Option<&str> {
        self.0.project.get().map(String::as_str)
    }

    pub(super) fn set_allowance(&self, allowance: Allowance) {
        let _ = self.0.allowance.set(allowance);
    }
}

/// Middleware around all routes.
pub(super) async fn track(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::new();
    let context = Context::default();
    request.extensions_mut().insert(context.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched".to_owned(), |path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    let elapsed = started.elapsed();
    set_headers(response.headers_mut(), id, &context, elapsed.as_millis());
    let status = response.status();
    let labels = [("method", method.to_string()), ("route", route), ("status", status.as_u16().to_string())];
    metrics::counter!(telemetry::HTTP_REQUESTS, &labels).increment(1);
    metrics::histogram!(telemetry::HTTP_SECONDS).record(elapsed.as_secs_f64());
    let causes = response.extensions().get::<Causes>().map(|Causes(text)| text.as_str());
    let duration_ms = elapsed.as_micros() as f64 / 1e3;
    let status = status.as_u16();
    if status >= 500 {
        tracing::error!(request.id = %id, %method, path, status, duration_ms, error = causes, "request failed");
    } else {
        tracing::info!(request.id = %id, %method, path, status, duration_ms, error = causes, "request");
    }
    response
}

fn set_headers(headers: &mut HeaderMap, id: RequestId, context: &Context, milliseconds: u128) {
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-request-id", id.to_string());
    set("openai-version", "2020-10-01".to_owned());
    set("openai-processing-ms", milliseconds.to_string());
    if let Some(project) = context.0.project.get() {
        set("openai-organization", project.clone());
    }
    if let Some(allowance) = context.0.allowance.get() {
        set("x-ratelimit-limit-requests", allowance.limit.to_string());
        set("x-ratelimit-remaining-requests", allowance.remaining.to_string());
        set("x-ratelimit-reset-requests", allowance.reset_text());
        if let Some(wait) = allowance.retry_after {
            set("retry-after-ms", wait.as_millis().max(1).to_string());
            set("retry-after", wait.as_secs_f64().ceil().max(1.0).to_string());
        }
    }
}
