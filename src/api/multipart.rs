//! The forms that upload a file, and a part of one. Their parts may come in any order, and no file ever lies in memory.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, FromRequestParts, Multipart, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use super::ApiState;
use super::extract::{Caller, Path};
use super::fields::missing;
use super::form_heads::{HeadRoom, HeadTooLong, LONGEST_HEAD};
use super::pace::{caused_by, too_slow};
use super::problem::Problem;
use crate::app::files::{self, Limit, NewFile, Spool};
use crate::app::uploads;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::file::FilePurpose;
use crate::domain::upload::Upload;

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
        let limit = Limit::of_files(&state.app);
        let least = announced(&parts, limit)?;
        let mut headroom = Some(files::check_room(&state.app, caller.0.id, least).await?);
        let mut form = Form::open(Request::from_parts(parts, body), state).await?;
        let (mut file, mut texts) = (None, TEXTS.map(|_| None));
        while let Some((name, field)) = form.next().await? {
            if name == limit.param {
                let headroom = headroom.take().ok_or_else(|| twice(&name))?;
                let filename = field.file_name().ok_or_else(no_file)?.to_owned();
                let empty = Spool::new(&state.app, caller.0.id, limit, headroom).await?;
                file = Some((spool(field, empty).await?, filename));
            } else if let Some(place) = TEXTS.iter().position(|text| *text == name) {
                if texts[place].is_some() {
                    return Err(twice(&name).into());
                }
                texts[place] = Some(text(field, TEXTS[place]).await?);
            } else {
                return Err(unknown(&name).into());
            }
        }
        let [purpose, anchor, seconds] = texts;
        let (spool, filename) = file.ok_or_else(|| missing(limit.param))?;
        let purpose = parse_purpose(&purpose.ok_or_else(|| missing("purpose"))?)?;
        let expires_after = expiry(anchor.as_deref(), seconds.as_deref())?;
        Ok(Self { caller, spool, new: NewFile { purpose, filename, expires_after } })
    }
}

/// A complete form with a part of an upload.
pub(super) struct PartForm {
    /// What it is a part of.
    pub(super) upload: Upload,
    pub(super) spool: Spool,
}

impl FromRequest<ApiState> for PartForm {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> std::result::Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, state).await?;
        let Path(id) = Path::<String>::from_request_parts(&mut parts, state).await?;
        let limit = uploads::PART_LIMIT;
        let least = announced(&parts, limit)?;
        let (upload, headroom) = uploads::open(&state.app, caller.0.id, &id, least).await?;
        let mut headroom = Some(headroom);
        let mut form = Form::open(Request::from_parts(parts, body), state).await?;
        let mut data = None;
        while let Some((name, field)) = form.next().await? {
            if name != limit.param {
                return Err(unknown(&name).into());
            }
            let headroom = headroom.take().ok_or_else(|| twice(&name))?;
            data = Some(spool(field, Spool::new(&state.app, caller.0.id, limit, headroom).await?).await?);
        }
        Ok(Self { upload, spool: data.ok_or_else(|| missing(limit.param))? })
    }
}

/// The least bytes that a file has, as the form's length says.
///
/// # Errors
/// They are more than it may have.
fn announced(parts: &Parts, limit: Limit) -> Result<u64> {
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let least = length.unwrap_or(0_u64).saturating_sub(FORM_OVERHEAD);
    if least > limit.bytes { Err(limit.error()) } else { Ok(least) }
}

/// A form as it comes in.
struct Form {
    form: Multipart,
    room: HeadRoom,
}

impl Form {
    async fn open(request: Request, state: &ApiState) -> Result<Self> {
        let (room, request) = HeadRoom::limit(request);
        let form = Multipart::from_request(request, state).await.map_err(|_| {
            let message = "The body must be a form: Content-Type multipart/form-data with a boundary.";
            Error::new(ErrorKind::Invalid, message).code("invalid_multipart")
        })?;
        Ok(Self { form, room })
    }

    /// The next part, and its name.
    async fn next(&mut self) -> Result<Option<(String, Field<'_>)>> {
        self.room.bounded();
        let field = self.form.next_field().await.map_err(malformed)?;
        self.room.unbounded();
        Ok(field.map(|field| (field.name().unwrap_or_default().to_owned(), field)))
    }
}

/// What is said of a text in the place of a file, whose bytes would be those of a path.
fn no_file() -> Error {
    let message = "'file' is a text without a file name. Send it as a file, as curl does with -F file=@data.csv.";
    Error::invalid("file", message)
}

fn twice(name: &str) -> Error {
    Error::invalid(name, format!("'{name}' is given more than once."))
}

fn unknown(name: &str) -> Error {
    let name = clipped(name);
    let message = format!("Unrecognized request argument supplied: {name}");
    Error::invalid(&*name, message).code("unknown_parameter")
}

/// A purpose that a client may name.
///
/// # Errors
/// It is none; the error says which there are.
pub(super) fn parse_purpose(word: &str) -> Result<FilePurpose> {
    let purpose = word.parse().ok().filter(|purpose| FilePurpose::UPLOADABLE.contains(purpose));
    purpose.ok_or_else(|| {
        let allowed = FilePurpose::UPLOADABLE.map(FilePurpose::as_str).join(", ");
        let word = clipped(word);
        Error::invalid("purpose", format!("Invalid value for 'purpose': '{word}'. Allowed: {allowed}."))
    })
}

pub(super) fn expiry(anchor: Option<&str>, seconds: Option<&str>) -> Result<Option<i64>> {
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

/// Takes the bytes of a field in.
async fn spool(mut field: Field<'_>, mut spool: Spool) -> Result<Spool> {
    while let Some(chunk) = field.chunk().await.map_err(malformed)? {
        spool.write(&chunk).await?;
    }
    Ok(spool)
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
