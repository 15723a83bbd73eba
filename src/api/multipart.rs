//! The form that uploads a file. Its parts may come in any order, and the file never lies in memory.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, FromRequestParts, Multipart, Request};
use axum::http::{StatusCode, header};

use super::ApiState;
use super::extract::Caller;
use super::pace::too_slow;
use super::problem::Problem;
use crate::app::files::{self, NewFile, Spool};
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::file::FilePurpose;

/// The longest value of a part that is no file, in bytes.
const LONGEST_TEXT: usize = 1024;

/// What a form may have besides the file's own bytes.
const FORM_OVERHEAD: u64 = 1 << 20;

/// A complete upload form.
pub(super) struct UploadForm {
    /// Who sends it.
    pub(super) caller: Caller,
    pub(super) spool: Spool,
    pub(super) new: NewFile,
}

impl FromRequest<ApiState> for UploadForm {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> std::result::Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, state).await?;
        let request = Request::from_parts(parts, body);
        let limit = state.app.config.max_file_bytes;
        let announced =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|bytes: u64| bytes > limit.saturating_add(FORM_OVERHEAD)) {
            let message = format!("The file is larger than the allowed {limit} bytes.");
            return Err(Error::new(ErrorKind::TooLarge, message).param("file").code("file_too_large").into());
        }
        files::check_room(&state.app, caller.0.id, announced.unwrap_or(0).saturating_sub(FORM_OVERHEAD)).await?;
        let form = Multipart::from_request(request, state).await.map_err(|_| {
            let message = "The body must be a form: Content-Type multipart/form-data with a boundary.";
            Error::new(ErrorKind::Invalid, message).code("invalid_multipart")
        })?;
        Ok(read(form, caller, state).await?)
    }
}

async fn read(mut form: Multipart, caller: Caller, state: &ApiState) -> Result<UploadForm> {
    let (mut file, mut purpose, mut anchor, mut seconds) = (None, None, None, None);
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        match field.name().unwrap_or_default() {
            "file" if file.is_some() => return Err(Error::invalid("file", "'file' is given more than once.")),
            "file" => file = Some(spool(field, state).await?),
            "purpose" => purpose = Some(text(field, "purpose").await?),
            "expires_after[anchor]" => anchor = Some(text(field, "expires_after[anchor]").await?),
            "expires_after[seconds]" => seconds = Some(text(field, "expires_after[seconds]").await?),
            name => {
                let name = clipped(name);
                let message = format!("Unrecognized request argument supplied: {name}");
                return Err(Error::invalid(name.into_owned(), message).code("unknown_parameter"));
            }
        }
    }
    let (spool, filename) = file.ok_or_else(|| missing("file"))?;
    let purpose = parse_purpose(&purpose.ok_or_else(|| missing("purpose"))?)?;
    Ok(UploadForm {
        caller,
        spool,
        new: NewFile { purpose, filename, expires_after: expiry(anchor.as_deref(), seconds.as_deref())? },
    })
}

fn missing(name: &str) -> Error {
    Error::invalid(name, format!("Missing required parameter: '{name}'.")).code("missing_required_parameter")
}

fn parse_purpose(word: &str) -> Result<FilePurpose> {
    let purpose = word.parse().ok().filter(|purpose| FilePurpose::UPLOADABLE.contains(purpose));
    purpose.ok_or_else(|| {
        let allowed = FilePurpose::UPLOADABLE.map(FilePurpose::as_str).join(", ");
        let word = clipped(word);
        Error::invalid("purpose", format!("Invalid value for 'purpose': '{word}'. Allowed: {allowed}."))
    })
}

fn expiry(anchor: Option<&str>, seconds: Option<&str>) -> Result<Option<i64>> {
    match (anchor, seconds) {
        (None, None) => Ok(None),
        (Some("created_at"), Some(seconds)) => seconds.parse().map(Some).map_err(|_| {
            let message = "Invalid value for 'expires_after[seconds]': it must be an integer.";
            Error::invalid("expires_after[seconds]", message)
        }),
        (Some("created_at"), None) => Err(missing("expires_after[seconds]")),
        (None, Some(_)) => Err(missing("expires_after[anchor]")),
        (Some(_), _) => {
            let message = "Invalid value for 'expires_after[anchor]'. Allowed: created_at.";
            Err(Error::invalid("expires_after[anchor]", message))
        }
    }
}

async fn spool(mut field: Field<'_>, state: &ApiState) -> Result<(Spool, String)> {
    let filename = field.file_name().unwrap_or("upload").to_owned();
    let mut spool = Spool::new(&state.app).await?;
    while let Some(chunk) = field.chunk().await.map_err(malformed)? {
        spool.write(&chunk).await?;
    }
    Ok((spool, filename))
}

async fn text(mut field: Field<'_>, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(malformed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST_TEXT {
            return Err(Error::invalid(name, format!("'{name}' is longer than {LONGEST_TEXT} bytes.")));
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid(name, format!("'{name}' is not valid UTF-8.")))
}

fn malformed(error: MultipartError) -> Error {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Error::new(ErrorKind::TooLarge, "The form is larger than allowed.").code("body_too_large");
    }
    let broken = || {
        let message = "The form is malformed or ended before its last boundary.";
        Error::new(ErrorKind::Invalid, message).code("invalid_multipart")
    };
    too_slow(&error).unwrap_or_else(broken).source(error)
}
