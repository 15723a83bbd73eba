//! Our own extractors: axum's, with every rejection in our envelope.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::{self, Held};
use super::context::Context;
use super::problem::Problem;
use super::route::BodyLimit;
use super::{ApiState, MAX_JSON_BYTES};
use crate::app::keys;
use crate::auth;
use crate::dataset::json;
use crate::db::keys::Opened;
use crate::domain::clip::{clipped, clipped_to};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::project::{Project, Role, Secret};
use crate::domain::told::told;

/// Who sends the request: the project that its key acts for, and what the key may do. A handler that takes it needs a key.
pub(super) struct Caller(pub(super) Project, pub(super) Role);

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let context = parts.extensions.get::<Context>().cloned().unwrap_or_default();
        let wait = context.strangers_wait();
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(secret) = header.and_then(auth::bearer) else {
            let message = "You didn't provide an API key. You need to provide your API key in an Authorization header \
                           using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).";
            return Err(refusal(&context, wait, Error::new(ErrorKind::Unauthenticated, message)));
        };
        let Some(Opened { key, project, role, .. }) = authenticate(state, &secret, wait.is_some()).await? else {
            let error = Error::new(ErrorKind::Unauthenticated, "Incorrect API key provided.").code("invalid_api_key");
            return Err(refusal(&context, wait, error));
        };
        check_project(&parts.headers, &project)?;
        context.set_caller(&project.name, key);
        if let Some(allowance) = state.rate_limit.take(key) {
            context.set_allowance(allowance);
            if allowance.retry_after.is_some() {
                let message = format!("Rate limit reached: {} requests per minute.", allowance.limit);
                return Err(Error::new(ErrorKind::RateLimited, message).code("rate_limit_exceeded").into());
            }
        }
        if !context.engage() {
            return Err(Error::unavailable("the connection was closed to make room for others").into());
        }
        Ok(Self(project, role))
    }
}

/// Whether the request means the project of its key, where it names one, by its id or its name.
fn check_project(headers: &HeaderMap, own: &Project) -> Result<()> {
    let Some(named) = headers.get("openai-project").filter(|named| !named.is_empty()) else { return Ok(()) };
    if *named == own.name.as_str() || *named == own.id.to_string().as_str() {
        return Ok(());
    }
    let message = format!(
        "OpenAI-Project header should match project for API key: leave the header (the SDKs' `project`, OPENAI_PROJECT_ID) out, or \
         send {}.",
        own.id
    );
    Err(Error::new(ErrorKind::Unauthenticated, message).param("openai-project").code("mismatched_project"))
}

/// Who has this key. From an address with too many strangers, keys that were never seen to be valid are looked up one
/// after the other.
async fn authenticate(state: &ApiState, secret: &Secret, are_too_many: bool) -> Result<Option<Opened>> {
    let hash = secret.hash();
    let _turn = if are_too_many { state.rate_limit.turn(&hash).await } else { None };
    let found = keys::open(&state.app, hash).await?;
    state.rate_limit.note(hash, found.is_some());
    Ok(found)
}

/// What a stranger is told: what is wrong, and once too many came from its address, to come back later.
fn refusal(context: &Context, wait: Option<Duration>, error: Error) -> Problem {
    let Some(wait) = wait else { return error.into() };
    context.set_retry_after(wait);
    let message = format!("{} Too many requests without a valid API key came from your address.", error.message);
    Error::new(ErrorKind::RateLimited, message).code("rate_limit_exceeded").into()
}

/// A segment (or the rest) of the path, decoded.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Error::new(ErrorKind::Invalid, "The URL's path is not valid UTF-8.").into()),
        }
    }
}

/// The most values that a body may have, lists and objects counted: far more than any request needs.
const MAX_VALUES: usize = 10_000;

/// A JSON body with the bytes it came as, whatever content type the client says it has.
pub(super) struct JsonBody<T> {
    pub(super) value: T,
    pub(super) bytes: Vec<u8>,
    /// Its room in memory; to be kept for as long as what it was made into.
    pub(super) held: Held,
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let limit = request.extensions().get::<BodyLimit>().map_or(MAX_JSON_BYTES, |limit| limit.0);
        let (bytes, held) = body::read(request, limit, &state.bodies).await?;
        let (value, bytes) = body::aside(bytes.len(), move || parse(&bytes).map(|value| (value, bytes))).await??;
        Ok(Self { value, bytes, held })
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // serde would take a list for an object whose fields come in order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::new(ErrorKind::Invalid, "The body must be a JSON object, not a list."));
    }
    if let Err(error) = json::check(bytes, MAX_VALUES)
        && error.is_data()
    {
        let message = format!("The body has {}.", clipped_to(&error.to_string(), PATH));
        return Err(Error::new(ErrorKind::Invalid, message).code("invalid_json"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| json_error("", &error))?;
    deserializer.end().map_err(|_| {
        Error::new(ErrorKind::Invalid, "The body has something behind its JSON value.").code("invalid_json")
    })?;
    Ok(value)
}

/// What a message shows of a path into a body, in characters.
const PATH: usize = 150;

/// What a value that stands at `at` in a body holds.
///
/// # Errors
/// Something in it is not as it must be; the error names its place.
pub(super) fn read_value<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| json_error(at, &error))
}

/// `at` is where the value stands that was read, empty of the body itself.
fn json_error(at: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let path = match (at, error.path().to_string()) {
        ("", path) => path,
        (at, path) if path == "." => at.to_owned(),
        (at, path) => format!("{at}.{path}"),
    };
    let inner = error.inner();
    if !inner.is_data() {
        let message = format!("The body is not valid JSON (line {}, column {}).", inner.line(), inner.column());
        return Error::new(ErrorKind::Invalid, message).code("invalid_json");
    }
    let text = inner.to_string();
    let what = told(text.split(" at line ").next().unwrap_or(&text));
    if let Some(name) = what.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        // In a list the name alone does not tell which.
        let name = if path.contains('[') { clipped_to(&path, PATH) } else { clipped(name) };
        let error = Error::invalid(&*name, format!("Unrecognized request argument supplied: {name}"));
        return error.code("unknown_parameter");
    }
    if path == "." {
        let message = format!("The body must be a JSON object: {}.", clipped_to(&what, PATH));
        return Error::new(ErrorKind::Invalid, message);
    }
    let path = clipped_to(&path, PATH);
    Error::invalid(&*path, format!("Invalid value for '{path}': {}.", clipped_to(&what, 4 * PATH)))
}
