//! Query strings: each route says which parameters it has, and everything else is refused.

use std::collections::{BTreeMap, VecDeque};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::problem::Problem;
use crate::db::job_pages::{Filter, MetadataFilter};
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::example::ExampleOrder;
use crate::domain::job::JobStatus;

/// Parameters of every list that has pages, and those of lists of jobs. `metadata` stands for `metadata[KEY]`, too.
pub(super) const PAGE: &[&str] = &["after", "limit", "order"];
pub(super) const JOBS: &[&str] = &["after", "limit", "order", "status", "model", "metadata"];

type Pairs = VecDeque<(String, String)>;

fn pairs(uri: &Uri) -> Result<Pairs> {
    axum::extract::Query::try_from_uri(uri)
        .map(|axum::extract::Query(pairs)| pairs)
        .map_err(|_| Error::new(ErrorKind::Invalid, "The URL's query string is malformed."))
}

/// Middleware that refuses parameters which the route does not have, and those that are given twice.
pub(super) async fn check(State(known): State<&'static [&'static str]>, request: Request, next: Next) -> Response {
    match pairs(request.uri()).and_then(|pairs| check_pairs(known, &pairs)) {
        Ok(()) => next.run(request).await,
        Err(error) => Problem(error).into_response(),
    }
}

fn check_pairs(known: &[&str], pairs: &Pairs) -> Result<()> {
    for (i, (name, value)) in pairs.iter().enumerate() {
        let shown = clipped(name);
        let of_map = metadata_key(name).map(|_| "metadata");
        if !known.contains(&of_map.unwrap_or(name)) {
            let allowed = if known.is_empty() {
                "This route takes none.".to_owned()
            } else {
                format!("Allowed: {}.", known.join(", "))
            };
            let message = format!("Unrecognized query parameter: '{shown}'. {allowed}");
            return Err(Error::invalid(&*shown, message).code("unknown_parameter"));
        }
        if pairs.iter().take(i).any(|(other, _)| other == name) {
            return Err(Error::invalid(&*shown, format!("'{shown}' is given more than once.")));
        }
        // PostgreSQL's texts have none, so nothing that is asked for can match.
        if name.contains('\0') || value.contains('\0') {
            return Err(Error::invalid(&*shown, format!("Invalid value for '{shown}': it has a NUL character.")));
        }
    }
    Ok(())
}

/// The key of `metadata[KEY]`.
fn metadata_key(name: &str) -> Option<&str> {
    name.strip_prefix("metadata[")?.strip_suffix(']')
}

/// The query string, to take values from by name.
pub(super) struct Query(Pairs);

impl FromRequestParts<ApiState> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> std::result::Result<Self, Problem> {
        Ok(Self(pairs(&parts.uri)?))
    }
}

impl Query {
    /// The value of `name`, if it is given and not empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// What a list of training examples begins with; None where it is not said.
    ///
    /// # Errors
    /// The value is not allowed.
    pub(super) fn example_order(&self) -> Result<Option<ExampleOrder>> {
        let Some(word) = self.value("order") else { return Ok(None) };
        ExampleOrder::ALL.into_iter().find(|order| order.as_str() == word).map(Some).ok_or_else(|| {
            let (shown, allowed) = (clipped(word), ExampleOrder::ALL.map(ExampleOrder::as_str).join(", "));
            Error::invalid("order", format!("Invalid value for 'order': '{shown}'. Allowed: {allowed}."))
        })
    }

    /// Which jobs a list is to show.
    ///
    /// # Errors
    /// A value is not allowed.
    pub(super) fn jobs(&self) -> Result<Filter> {
        let status = match self.value("status") {
            None => None,
            Some(word) => Some(word.parse().map_err(|()| {
                let shown = clipped(word);
                let allowed = JobStatus::ALL.map(JobStatus::as_str).join(", ");
                Error::invalid("status", format!("Invalid value for 'status': '{shown}'. Allowed: {allowed}."))
            })?),
        };
        Ok(Filter { metadata: self.metadata()?, status, model: self.value("model").map(str::to_owned) })
    }

    /// `metadata[k]=v` for jobs with that pair, `metadata=null` for jobs without metadata.
    fn metadata(&self) -> Result<MetadataFilter> {
        let pairs: BTreeMap<String, String> =
            self.0.iter().filter_map(|(name, value)| Some((metadata_key(name)?.to_owned(), value.clone()))).collect();
        match (pairs.is_empty(), self.value("metadata")) {
            (false, None) => Ok(MetadataFilter::Has(pairs)),
            (true, Some("null")) => Ok(MetadataFilter::None),
            (true, None) => Ok(MetadataFilter::All),
            (_, Some(_)) => {
                let message = "Invalid value for 'metadata'. Allowed: metadata[KEY]=VALUE, or metadata=null alone.";
                Err(Error::invalid("metadata", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{JOBS, Query, check_pairs, pairs};

    fn checked(query: &str) -> Result<(), (Option<String>, String)> {
        let uri = format!("/v1/x?{query}").parse().unwrap();
        let pairs = pairs(&uri).unwrap();
        let known = check_pairs(JOBS, &pairs).and_then(|()| Query(pairs).jobs().map(drop));
        known.map_err(|error| (error.param, error.message))
    }

    #[test]
    fn what_a_route_does_not_have_is_refused_by_name() {
        for query in
            ["", "limit=", "metadata[a]=b&metadata[c]=", "metadata=null", "status=queued&model=a%2Fb&order=asc"]
        {
            assert_eq!(checked(query), Ok(()), "{query}");
        }
        for (query, param, what) in [
            ("before=1", "before", "Allowed: after, limit, order, status, model, metadata."),
            ("limit=1&limit=2", "limit", "more than once"),
            ("metadata[a]=1&metadata[a]=1", "metadata[a]", "more than once"),
            ("model=a%00", "model", "a NUL character"),
            ("metadata[a]=%00", "metadata[a]", "a NUL character"),
            ("metadatas[a]=1", "metadatas[a]", "Unrecognized"),
            ("metadata=all", "metadata", "metadata=null alone"),
            ("metadata=null&metadata[a]=b", "metadata", "metadata=null alone"),
            ("status=done", "status", "Allowed: validating_files, queued"),
        ] {
            let (at, message) = checked(query).unwrap_err();
            assert_eq!(at.as_deref(), Some(param), "{query}");
            assert!(message.contains(what), "{query}: {message}");
        }
        let long = checked(&"x".repeat(60_000)).unwrap_err();
        assert!(long.1.len() < 200);
    }
}
