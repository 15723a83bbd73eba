//! What surrounds every request: its id, the headers that OpenAI's answers have, counters, one line in the log, and one
//! more for every change.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::SharedString;
use serde::Serialize;

use super::connections::Admission;
use super::list::Item;
use super::problem::Causes;
use super::rate_limit::Allowance;
use crate::domain::clip::clipped_to;
use crate::domain::id::{KeyId, RequestId};
use crate::telemetry;

/// What a line of the log holds of a path or an id, and of the causes of an error, in characters.
const LOGGED_PATH: usize = 120;
const LOGGED_CAUSES: usize = 600;

/// The status of a request whose client went away before it was answered, as nginx has it. Nobody is sent it.
const CLIENT_GONE: u16 = 499;

/// Routes that are asked every few seconds, and say nothing by being asked.
const QUIET: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// What extractors learn about a request and the answer's headers and the log tell.
#[derive(Clone, Default)]
pub(super) struct Context(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// The project's name, and the key.
    caller: OnceLock<(String, KeyId)>,
    allowance: OnceLock<Allowance>,
    /// When a caller without a valid key may come back.
    retry_after: OnceLock<Duration>,
    /// Its connection's admission.
    admission: Option<Arc<Admission>>,
    operation: OnceLock<Operation>,
    /// The first parameter of the path: the id of what the request is about.
    resource: OnceLock<String>,
}

/// What a route does.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// Its id in `openapi.yaml`.
    pub(super) id: &'static str,
    /// Its path.
    pub(super) route: &'static str,
    /// Whether it changes anything.
    pub(super) is_change: bool,
}

/// What a request made, for the log.
#[derive(Clone)]
struct Resource(String);

/// An answer that shows what the request made.
pub(super) struct Made<T>(pub(super) T);

impl<T: Item + Serialize> IntoResponse for Made<T> {
    fn into_response(self) -> Response {
        let made = Resource(self.0.id().to_owned());
        let mut response = Json(self.0).into_response();
        response.extensions_mut().insert(made);
        response
    }
}

impl Context {
    fn of(request: &Request) -> Self {
        Self(Arc::new(Inner { admission: request.extensions().get().cloned(), ..Inner::default() }))
    }

    pub(super) fn set_caller(&self, project: &str, key: KeyId) {
        let _ = self.0.caller.set((project.to_owned(), key));
    }

    pub(super) fn set_allowance(&self, allowance: Allowance) {
        let _ = self.0.allowance.set(allowance);
    }

    pub(super) fn set_retry_after(&self, wait: Duration) {
        let _ = self.0.retry_after.set(wait);
    }

    /// How long until the request's address may send another one without a valid key; None if it may now.
    pub(super) fn strangers_wait(&self) -> Option<Duration> {
        self.0.admission.as_ref().and_then(|admission| admission.strangers_wait())
    }

    /// Keeps the connection open until the request is answered; false if it is closed already.
    pub(super) fn engage(&self) -> bool {
        self.0.admission.as_ref().is_none_or(|admission| admission.engage())
    }

    /// Whether the log tells of the request: of strangers, of as many as cannot fill its disk. The metrics count all.
    fn is_told(&self) -> bool {
        self.project().is_some() || self.0.admission.as_ref().is_none_or(|admission| admission.take_stranger())
    }

    /// The name of the project that the request acts for, once its key is known.
    pub(super) fn project(&self) -> Option<&str> {
        self.0.caller.get().map(|(project, _)| project.as_str())
    }
}

/// Middleware of each route: notes what it does, and to what.
pub(super) async fn name(
    State(operation): State<Operation>,
    parameters: Result<RawPathParams, <RawPathParams as axum::extract::FromRequestParts<()>>::Rejection>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(Context(inner)) = request.extensions().get() {
        let _ = inner.operation.set(operation);
        if let Some((_, value)) = parameters.iter().flatten().next() {
            let _ = inner.resource.set(clipped_to(value, LOGGED_PATH).into_owned());
        }
    }
    next.run(request).await
}

/// Middleware around all routes.
pub(super) async fn track(mut request: Request, next: Next) -> Response {
    let mut line = Line::new(&request);
    request.extensions_mut().insert(line.context.clone());
    let mut response = next.run(request).await;
    set_headers(response.headers_mut(), line.id, &line.context, line.started.elapsed().as_millis());
    line.answered(&response);
    response
}

/// The line that a request leaves in the log, written when it is dropped: of a request whose client went away as well.
struct Line {
    started: Instant,
    id: RequestId,
    context: Context,
    method: &'static str,
    route: Option<MatchedPath>,
    path: String,
    status: u16,
    made: Option<String>,
    error: Option<String>,
}

impl Line {
    fn new(request: &Request) -> Self {
        Self {
            started: Instant::now(),
            id: RequestId::new(),
            context: Context::of(request),
            method: known_method(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
            path: clipped_to(request.uri().path(), LOGGED_PATH).into_owned(),
            status: CLIENT_GONE,
            made: None,
            error: None,
        }
    }

    fn answered(&mut self, response: &Response) {
        self.status = response.status().as_u16();
        self.made = response.extensions().get().map(|Resource(id)| id.clone());
        self.error = response.extensions().get().map(|Causes(text)| clipped_to(text, LOGGED_CAUSES).into_owned());
    }

    /// A change that succeeded without making anything was none: a dry run.
    fn audit(&self, resource: Option<&str>) {
        let inner = &self.context.0;
        let (Some((project, key)), Some(operation)) = (inner.caller.get(), inner.operation.get()) else { return };
        let outcome = match self.status {
            200..400 if resource.is_none() => return,
            200..400 => "done",
            CLIENT_GONE => "client_gone",
            400..500 => "refused",
            _ => "failed",
        };
        if operation.is_change {
            let (request, action, status) = (self.id, operation.id, self.status);
            tracing::info!(
                target: telemetry::AUDIT,
                { request.id = %request, action, project, %key, resource, outcome, status },
                "audit"
            );
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        let inner = &self.context.0;
        // Of all but requests that came to no route's handler the label is a constant.
        let known = inner.operation.get().map(|operation| operation.route);
        let label = known.map_or_else(|| SharedString::from(route.to_owned()), SharedString::const_str);
        let (method, status) = (self.method, self.status.to_string());
        metrics::counter!(
            telemetry::HTTP_REQUESTS, "method" => method, "route" => label.clone(), "status" => status
        )
        .increment(1);
        metrics::histogram!(telemetry::HTTP_SECONDS, "route" => label).record(elapsed.as_secs_f64());
        let resource = self.made.as_deref().or(inner.resource.get().map(String::as_str));
        let (project, key) = (self.context.project(), inner.caller.get().map(|(_, key)| tracing::field::display(key)));
        let (id, method, path, status) = (self.id, self.method, self.path.as_str(), self.status);
        let duration_ms = elapsed.as_micros() as f64 / 1e3;
        let error = self.error.as_deref();
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    request.id = %id, method, route, path, status, duration_ms, project, key, resource, error, $message
                )
            };
        }
        match status {
            ..400 if QUIET.contains(&route) => line!(debug, "request"),
            _ if !self.context.is_told() => line!(debug, "request"),
            500.. => line!(error, "request failed"),
            _ => line!(info, "request"),
        }
        self.audit(resource);
    }
}

/// The method if it is one that HTTP knows: a label of the metrics is never a word that a client made up.
fn known_method(method: &Method) -> &'static str {
    // RFC 9110, section 9.3, and RFC 5789.
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or("other")
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
    if let Some(project) = context.project() {
        set("openai-organization", project.to_owned());
    }
    if let Some(allowance) = context.0.allowance.get() {
        set("x-ratelimit-limit-requests", allowance.limit.to_string());
        set("x-ratelimit-remaining-requests", allowance.remaining.to_string());
        set("x-ratelimit-reset-requests", allowance.reset_text());
    }
    let of_key = context.0.allowance.get().and_then(|allowance| allowance.retry_after);
    if let Some(wait) = of_key.or(context.0.retry_after.get().copied()) {
        set("retry-after-ms", wait.as_millis().max(1).to_string());
        set("retry-after", wait.as_secs_f64().ceil().max(1.0).to_string());
    }
}
