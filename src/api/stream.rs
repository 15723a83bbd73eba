//! Objects as answers.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::ApiState;
use super::problem::{Answer, Problem};
use crate::app::objects::Object;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::hex::hex;
use crate::store::Stored;

/// An object to send.
pub(super) struct Download<'a> {
    pub(super) object: Object<'a>,
    /// What the client may call it.
    pub(super) filename: &'a str,
    pub(super) content_type: &'static str,
}

/// How much of a long answer is handed on at once, in bytes.
const PIECE: usize = 64 << 10;

/// A value as JSON, handed on in pieces as its reader takes them; `held` is dropped with the last one.
///
/// # Errors
/// It cannot be written.
pub(super) fn send_json(value: &impl Serialize, held: impl Send + 'static) -> Result<Response> {
    let text = Bytes::from(serde_json::to_vec(value).map_err(Error::internal)?);
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, text.len().to_string())];
    let pieces = futures_util::stream::unfold((text, held), |(mut text, held)| async move {
        let piece = text.split_to(text.len().min(PIECE));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (text, held)))
    });
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// The whole object, or the part that a Range header asks for (RFC 9110, one range), or word that it has not changed.
/// What is damaged is an error if that is known before the first byte is sent, and else cuts the connection before the
/// last one.
pub(super) async fn send(state: &ApiState, download: Download<'_>, request: &HeaderMap) -> Answer<Response> {
    let Stored { bytes, sha256 } = download.object.stored();
    let etag = format!("\"{}\"", hex(&sha256));
    let asked = |name| request.get(name).and_then(|value| value.to_str().ok());
    check_match(request, Some(&etag))?;
    let unchanged = values(request, header::IF_NONE_MATCH).any(|tags| {
        tags.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == etag)
    });
    if unchanged {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let still_same = asked(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let range = asked(header::RANGE).filter(|_| still_same).and_then(|text| ByteRange::parse(text, bytes));
    let (status, part, length) = match range {
        None => (StatusCode::OK, None, bytes),
        Some(ByteRange::Part { start, length }) => (StatusCode::PARTIAL_CONTENT, Some((start, length)), length),
        Some(ByteRange::Beyond) => {
            let error = Error::new(ErrorKind::Invalid, "The requested range is beyond the end of the file.");
            let content_range = [(header::CONTENT_RANGE, format!("bytes */{bytes}"))];
            return Ok(
                (StatusCode::RANGE_NOT_SATISFIABLE, content_range, Problem(error.param("range"))).into_response()
            );
        }
    };
    let stream = download.object.stream(&state.app, part).await?;
    let mut response = (status, Body::from_stream(stream)).into_response();
    let headers = response.headers_mut();
    let mut set = |name, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, download.content_type.to_owned());
    set(header::CONTENT_LENGTH, length.to_string());
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::ETAG, etag);
    set(header::CONTENT_DISPOSITION, attachment(download.filename));
    if let Some((start, length)) = part {
        set(header::CONTENT_RANGE, format!("bytes {start}-{}/{bytes}", start + length - 1));
    }
    Ok(response)
}

fn values(request: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    request.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// Refuses a request whose `If-Match` names none of what is there (RFC 9110, 13.1.1): the comparison is strong, and
/// without a tag only `*` matches. `If-Unmodified-Since` does not apply, as nothing here has a date of modification.
pub(super) fn check_match(request: &HeaderMap, etag: Option<&str>) -> Answer<()> {
    let matches = |tag: &str| tag == "*" || Some(tag) == etag;
    let holds = !request.contains_key(header::IF_MATCH)
        || values(request, header::IF_MATCH).any(|tags| tags.split(',').any(|tag| matches(tag.trim())));
    if holds {
        return Ok(());
    }
    let message = "The If-Match header names none of the versions that exist; see the ETag of the answer without it.";
    Err(Error::new(ErrorKind::PreconditionFailed, message).param("if-match").code("precondition_failed").into())
}

/// A Content-Disposition that browsers save under this name; anything but plain ASCII goes in RFC 8187's form.
pub(super) fn attachment(filename: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let ascii: String = filename.chars().map(|c| if c.is_ascii() && plain(c as u8) { c } else { '_' }).collect();
    let encoded: String = filename
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    Part { start: u64, length: u64 },
    Beyond,
}

impl ByteRange {
    /// None means the whole: for what is malformed or asks for several parts, as the RFC allows.
    fn parse(text: &str, size: u64) -> Option<Self> {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let (start, end) = match (first.trim(), last.trim()) {
            ("", last) => (size.saturating_sub(last.parse().ok()?), size),
            (first, "") => (first.parse().ok()?, size),
            (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1).min(size)),
        };
        if start >= size {
            return Some(Self::Beyond);
        }
        (start < end).then(|| Self::Part { start, length: end - start })
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, attachment};

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let part = |start, length| Some(ByteRange::Part { start, length });
        assert_eq!(ByteRange::parse("bytes=0-3", 10), part(0, 4));
        assert_eq!(ByteRange::parse("bytes=4-", 10), part(4, 6));
        assert_eq!(ByteRange::parse("bytes=-3", 10), part(7, 3));
        assert_eq!(ByteRange::parse("bytes=8-99", 10), part(8, 2));
        assert_eq!(ByteRange::parse("bytes=-99", 10), part(0, 10));
        assert_eq!(ByteRange::parse("bytes=10-", 10), Some(ByteRange::Beyond));
        for whole in ["bytes=5-2", "bytes=0-1,3-4", "items=0-1", "bytes=a-b", "bytes"] {
            assert_eq!(ByteRange::parse(whole, 10), None, "{whole}");
        }
    }

    #[test]
    fn filenames_cannot_break_out_of_the_header() {
        assert_eq!(attachment("a\"b\r\n.csv"), "attachment; filename=\"a_b__.csv\"; filename*=UTF-8''a%22b%0D%0A.csv");
    }
}
