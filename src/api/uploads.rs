//! `/v1/uploads`: files that come in parts.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::context::Made;
use super::extract::{Caller, JsonBody, Path};
use super::fields::{bounded, filled, missing, required};
use super::files::FileView;
use super::list::{Item, Limit, List, page};
use super::multipart::{PartForm, parse_purpose};
use super::problem::Answer;
use super::query::{self, Query};
use super::route::{Route, get, post};
use crate::app::files::NewFile;
use crate::app::uploads::{self, Completion, NewUpload};
use crate::domain::error::{Error, Result};
use crate::domain::file::MAX_FILENAME;
use crate::domain::hex::hex;
use crate::domain::page::Order;
use crate::domain::upload::{MAX_PARTS, Part, Upload};

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/uploads", "create_upload", create_upload),
        get("/v1/uploads/{upload_id}", "retrieve_upload", retrieve_upload),
        post("/v1/uploads/{upload_id}/parts", "create_upload_part", create_upload_part).without_body_limit(),
        get("/v1/uploads/{upload_id}/parts", "list_upload_parts", list_upload_parts).with_query(query::PAGE),
        post("/v1/uploads/{upload_id}/complete", "complete_upload", complete_upload).with_patience(),
        post("/v1/uploads/{upload_id}/cancel", "cancel_upload", cancel_upload),
    ]
}

/// The longest `mime_type`, in characters: RFC 6838 has at most 127 on each side of the slash.
const LONGEST_TYPE: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateUploadBody {
    filename: Option<String>,
    purpose: Option<String>,
    bytes: Option<u64>,
    mime_type: Option<String>,
    expires_after: Option<ExpiresAfter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpiresAfter {
    anchor: Anchor,
    seconds: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Anchor {
    CreatedAt,
}

impl CreateUploadBody {
    fn into_request(self) -> Result<NewUpload> {
        let expires_after = self.expires_after.map(|ExpiresAfter { anchor: Anchor::CreatedAt, seconds }| seconds);
        let file = NewFile {
            filename: filled("filename", self.filename, MAX_FILENAME)?,
            purpose: parse_purpose(&required("purpose", self.purpose)?)?,
            expires_after,
        };
        let mime_type = bounded("mime_type", self.mime_type, LONGEST_TYPE)?;
        let mime_type = mime_type.ok_or_else(|| missing("mime_type"))?;
        Ok(NewUpload { file, mime_type, bytes: self.bytes.ok_or_else(|| missing("bytes"))? })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompleteUploadBody {
    part_ids: Option<Vec<String>>,
    md5: Option<String>,
}

impl CompleteUploadBody {
    fn into_request(self) -> Result<Completion> {
        let ids = self.part_ids.ok_or_else(|| missing("part_ids"))?;
        if ids.is_empty() || ids.len() as u64 > MAX_PARTS {
            return Err(Error::invalid("part_ids", format!("'part_ids' must name 1 to {MAX_PARTS} parts.")));
        }
        let parse = |(place, id): (usize, &String)| {
            let param = format!("part_ids[{place}]");
            id.parse().map_err(|_| Error::invalid(&*param, format!("'{param}' is no id of a part.")))
        };
        let parts = ids.iter().enumerate().map(parse).collect::<Result<_>>()?;
        let md5 = self.md5.filter(|text| !text.is_empty()).map(|text| parse_md5(&text)).transpose()?;
        Ok(Completion { parts, md5 })
    }
}

/// From hexadecimal digits, as `md5sum` prints them.
fn parse_md5(text: &str) -> Result<[u8; 16]> {
    let is_hash = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let hash = u128::from_str_radix(text, 16).ok().filter(|_| is_hash);
    hash.map(u128::to_be_bytes).ok_or_else(|| {
        Error::invalid("md5", "Invalid value for 'md5': it must be 32 hexadecimal digits, as md5sum prints them.")
    })
}

/// An upload as OpenAI shows it.
#[derive(Serialize)]
struct UploadView {
    id: String,
    object: &'static str,
    bytes: u64,
    created_at: i64,
    filename: String,
    purpose: &'static str,
    status: &'static str,
    expires_at: i64,
    file: Option<FileView>,
}

impl From<Upload> for UploadView {
    fn from(upload: Upload) -> Self {
        Self {
            id: upload.id.to_string(),
            object: "upload",
            bytes: upload.bytes,
            created_at: upload.created_at.unix_timestamp(),
            filename: upload.filename,
            purpose: upload.purpose.as_str(),
            status: upload.status.as_str(),
            expires_at: upload.expires_at.unix_timestamp(),
            file: upload.file.map(FileView::from),
        }
    }
}

impl Item for UploadView {
    fn id(&self) -> &str {
        &self.id
    }
}

/// A part as OpenAI shows it, and its size and hash, by which a client knows it again.
#[derive(Serialize)]
struct PartView {
    id: String,
    object: &'static str,
    created_at: i64,
    upload_id: String,
    bytes: u64,
    sha256: String,
}

impl From<Part> for PartView {
    fn from(part: Part) -> Self {
        Self {
            id: part.id.to_string(),
            object: "upload.part",
            created_at: part.created_at.unix_timestamp(),
            upload_id: part.upload.to_string(),
            bytes: part.bytes,
            sha256: hex(&part.sha256),
        }
    }
}

impl Item for PartView {
    fn id(&self) -> &str {
        &self.id
    }
}

async fn create_upload(
    caller: Caller,
    State(state): State<ApiState>,
    body: JsonBody<CreateUploadBody>,
) -> Answer<Made<UploadView>> {
    let upload = uploads::create(&state.app, caller.0.id, body.value.into_request()?).await?;
    Ok(Made(upload.into()))
}

async fn retrieve_upload(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Answer<Json<UploadView>> {
    Ok(Json(uploads::get(&state.app, caller.0.id, &id).await?.into()))
}

async fn create_upload_part(State(state): State<ApiState>, form: PartForm) -> Answer<Made<PartView>> {
    Ok(Made(uploads::add_part(&state.app, &form.upload, form.spool).await?.into()))
}

async fn list_upload_parts(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<List<PartView>>> {
    let page = page(&query, &Limit { default: 100, max: 1000 }, Order::Ascending)?;
    let found = uploads::list_parts(&state.app, caller.0.id, &id, page).await?;
    Ok(Json(found.map(PartView::from).into()))
}

async fn complete_upload(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<CompleteUploadBody>,
) -> Answer<Json<UploadView>> {
    let upload = uploads::complete(&state.app, caller.0.id, &id, body.value.into_request()?).await?;
    Ok(Json(upload.into()))
}

async fn cancel_upload(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Answer<Json<UploadView>> {
    Ok(Json(uploads::cancel(&state.app, caller.0.id, &id).await?.into()))
}
