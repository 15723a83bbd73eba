//! The form that uploads a file. Its parts may come in any order, and the file never lies in memory.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, FromRequestParts, Multipart, Request};
use axum::http::{StatusCode, header};

use super::ApiState;
use super::extract::Caller;
use super::form_heads::{HeadRoom, HeadTooLong, LONGEST_HEAD};
use super::pace::{caused_by, too_slow};
use super::problem::Problem;
use crate::app::files::{self, NewFile, Spool};
use crate::app::quotas::Headroom;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::file::FilePurpose;
use crate::domain::id::ProjectId;

/// The parts that are no file.
const TEXTS: [&str; 3] = ["purpose", "expires_after[anchor]", "expires_after[seconds]"];

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
        let least = announced.unwrap_or(0).saturating_sub(FORM_OVERHEAD);
        let headroom = Some(files::check_room(&state.app, caller.0.id, least).await?);
        let (room, request) = HeadRoom::limit(request);
        let form = Multipart::from_request(request, state).await.map_err(|_| {
            let message = "The body must be a form: Content-Type multipart/form-data with a boundary.";
            Error::new(ErrorKind::Invalid, message).code("invalid_multipart")
        })?;
        Ok(Reader { form, room, headroom, state }.read(caller).await?)
    }
}

struct Reader<'a> {
    form: Multipart,
    room: HeadRoom,
    /// Until the file comes.
    headroom: Option<Headroom>,
    state: &'a ApiState,
}

impl Reader<'_> {
    async fn read(mut self, caller: Caller) -> Result<UploadForm> {
        let (mut file, mut texts) = (None, TEXTS.map(|_| None));
        loop {
            self.room.bounded();
            let Some(field) = self.form.next_field().await.map_err(malformed)? else { break };
            self.room.unbounded();
            let name = field.name().unwrap_or_default().to_owned();
            let twice = || Error::invalid(&*name, format!("'{name}' is given more than once."));
            if name == "file" {
                let headroom = self.headroom.take().ok_or_else(twice)?;
                file = Some(spool(field, self.state, caller.0.id, headroom).await?);
            } else if let Some(place) = TEXTS.iter().position(|text| *text == name) {
                if texts[place].is_some() {
                    return Err(twice());
                }
                texts[place] = Some(text(field, TEXTS[place]).await?);
            } else {
                let name = clipped(&name);
                let message = format!("Unrecognized request argument supplied: {name}");
                return Err(Error::invalid(&*name, message).code("unknown_parameter"));
            }
        }
        let [purpose, anchor, seconds] = texts;
        let (spool, filename) = file.ok_or_else(|| missing("file"))?;
        let purpose = parse_purpose(&purpose.ok_or_else(|| missing("purpose"))?)?;
        let expires_after = expiry(anchor.as_deref(), seconds.as_deref())?;
        Ok(UploadForm { caller, spool, new: NewFile { purpose, filename, expires_after } })
    }
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

async fn spool(
    mut field: Field<'_>,
    state: &ApiState,
    project: ProjectId,
    headroom: Headroom,
) -> Result<(Spool, String)> {
    let filename = field.file_name().unwrap_or("upload").to_owned();
    let mut spool = Spool::new(&state.app, project, headroom).await?;
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
    if caused_by::<HeadTooLong>(&error) {
        let message = format!("The form has more than {LONGEST_HEAD} bytes in front of a part, or in the head of one.");
        return Error::new(ErrorKind::Invalid, message).code("invalid_multipart");
    }
    let broken = || {
        let message = "The form is malformed or ended before its last boundary.";
        Error::new(ErrorKind::Invalid, message).code("invalid_multipart")
    };
    too_slow(&error).unwrap_or_else(broken).source(error)
}
