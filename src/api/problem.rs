//! Errors as answers: the one place that gives each kind its status and the OpenAI envelope.

use std::any::Any;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::domain::clip::{clipped, clipped_to};
use crate::domain::error::{Error, ErrorKind};

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An error on its way to the client.
pub(super) struct Problem(pub(super) Error);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The result of a handler.
pub(super) type Answer<T> = Result<T, Problem>;

/// The causes of an error, attached to its response for the log alone.
#[derive(Clone)]
pub(super) struct Causes(pub(super) String);

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::UnsupportedCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::TooSlow => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::RateLimited | ErrorKind::TooManyAtOnce | ErrorKind::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::OutOfStorage => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Damaged | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedCoding
        | ErrorKind::TooSlow => "invalid_request_error",
        ErrorKind::RateLimited | ErrorKind::TooManyAtOnce => "rate_limit_error",
        ErrorKind::QuotaExceeded => "insufficient_quota",
        ErrorKind::Unavailable | ErrorKind::OutOfStorage | ErrorKind::Damaged | ErrorKind::Internal => "server_error",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let mut response = envelope(status(error.kind), &error);
        let headers = response.headers_mut();
        match error.kind {
            // The SDKs retry these statuses unless told otherwise, and the same request would fail again.
            ErrorKind::Conflict | ErrorKind::OutOfStorage | ErrorKind::QuotaExceeded | ErrorKind::Damaged => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            ErrorKind::Invalid if error.code == Some("invalid_state") => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            // RFC 9110, section 12.5.3: what it may be sent in.
            ErrorKind::UnsupportedCoding => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            ErrorKind::TooManyAtOnce => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            ErrorKind::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response.extensions_mut().insert(Causes(error.chain()));
        response
    }
}

/// The longest message and the longest name of a parameter, in characters, whatever of the request they quote.
const MESSAGE: usize = 2000;
const PARAM: usize = 200;

fn envelope(status: StatusCode, error: &Error) -> Response {
    (status, Json(body(error))).into_response()
}

/// An error in OpenAI's envelope.
pub(super) fn body(error: &Error) -> Value {
    json!({"error": {
        "message": clipped_to(&error.message, MESSAGE),
        "type": error_type(error.kind),
        "param": error.param.as_deref().map(|param| clipped_to(param, PARAM)),
        "code": error.code,
    }})
}

/// The answer to a path that is none of ours.
pub(super) async fn no_such_route(method: Method, uri: Uri) -> Problem {
    let (method, path) = (clipped(method.as_str()), clipped_to(uri.path(), PARAM));
    Problem(Error::new(ErrorKind::NotFound, format!("Invalid URL ({method} {path})")).code("unknown_url"))
}

/// The answer to a path of ours with a method that it does not have.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let (method, path) = (clipped(method.as_str()), clipped_to(uri.path(), PARAM));
    let message = format!("Method {method} is not allowed for {path}.");
    let error = Error::new(ErrorKind::Invalid, message).code("method_not_allowed");
    envelope(StatusCode::METHOD_NOT_ALLOWED, &error)
}

/// The answer on a connection that is one too many.
pub(super) async fn too_many_connections() -> Problem {
    Problem(Error::new(ErrorKind::Unavailable, "There are too many connections. Please try again shortly."))
}

/// The answer of a handler that panicked; the log has the message.
#[expect(clippy::needless_pass_by_value, reason = "the signature that tower-http calls")]
pub(super) fn from_panic(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without message");
    Problem(Error::internal(format!("handler panicked: {text}"))).into_response()
}
