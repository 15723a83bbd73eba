//! `/v1/files`.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::ApiState;
use super::context::Made;
use super::extract::{Caller, Path};
use super::list::{Item, Limit, List, page};
use super::multipart::UploadForm;
use super::problem::Answer;
use super::query::Query;
use super::route::{Route, delete, get, post};
use super::stream::{self, Download};
use crate::app::files;
use crate::app::objects::Object;
use crate::domain::error::Error;
use crate::domain::file::File;
use crate::domain::page::Order;
use crate::domain::report::FileReport;

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/files", "create_file", create_file).without_body_limit(),
        get("/v1/files", "list_files", list_files).with_query(&["after", "limit", "order", "purpose"]),
        get("/v1/files/{file_id}", "retrieve_file", retrieve_file),
        delete("/v1/files/{file_id}", "delete_file", delete_file),
        get("/v1/files/{file_id}/content", "download_file", download_file).with_patience(),
    ]
}

/// A file as OpenAI shows it, and `validation`, which is ours.
#[derive(Serialize)]
pub(super) struct FileView {
    id: String,
    object: &'static str,
    bytes: u64,
    created_at: i64,
    expires_at: Option<i64>,
    filename: String,
    purpose: &'static str,
    status: &'static str,
    status_details: Option<String>,
    validation: Option<FileReport>,
}

impl From<File> for FileView {
    fn from(file: File) -> Self {
        let readable = file.is_readable();
        let told = |report: &FileReport| if readable { report.why_useless() } else { Some(report.faults.summary()) };
        let details = file.report.as_ref().and_then(told);
        Self {
            id: file.id.to_string(),
            object: "file",
            bytes: file.bytes,
            created_at: file.created_at.unix_timestamp(),
            expires_at: file.expires_at.map(time::OffsetDateTime::unix_timestamp),
            filename: file.filename,
            purpose: file.purpose.as_str(),
            status: if readable { "processed" } else { "error" },
            status_details: details,
            validation: file.report,
        }
    }
}

impl FileView {
    /// In a list: without its report, which may be as large as a page.
    fn listed(file: File) -> Self {
        Self { validation: None, ..Self::from(file) }
    }
}

impl Item for FileView {
    fn id(&self) -> &str {
        &self.id
    }
}

async fn create_file(State(state): State<ApiState>, form: UploadForm) -> Answer<Made<FileView>> {
    let file = files::create(&state.app, form.caller.0.id, form.spool, form.new).await?;
    Ok(Made(file.into()))
}

async fn list_files(caller: Caller, State(state): State<ApiState>, query: Query) -> Answer<Json<List<FileView>>> {
    let page = page(&query, &Limit { default: 10_000, max: 10_000 }, Order::Descending)?;
    let purpose = query.value("purpose").map(str::parse).transpose();
    let purpose = purpose.map_err(|()| Error::invalid("purpose", "Invalid value for 'purpose'."))?;
    let found = files::list(&state.app, caller.0.id, purpose, page).await?;
    Ok(Json(found.map(FileView::listed).into()))
}

async fn retrieve_file(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Answer<Json<FileView>> {
    Ok(Json(files::get(&state.app, caller.0.id, &id).await?.into()))
}

async fn delete_file(caller: Caller, State(state): State<ApiState>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let id = files::delete(&state.app, caller.0.id, &id).await?;
    Ok(Json(json!({"id": id, "object": "file", "deleted": true})))
}

async fn download_file(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let file = files::get(&state.app, caller.0.id, &id).await?;
    let download =
        Download { object: Object::of_file(&file), filename: &file.filename, content_type: "application/octet-stream" };
    stream::send(&state, download, &headers).await
}
