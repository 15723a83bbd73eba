//! `/v1/models`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::ApiState;
use super::archive;
use super::extract::{Caller, Path};
use super::list::{Item, List};
use super::problem::Answer;
use super::route::{Route, delete, get};
use super::stream::{self, Download};
use crate::app::models;
use crate::app::objects::Object;
use crate::domain::hex::hex;
use crate::domain::method::ProblemType;
use crate::domain::model::{Model, ModelFile, root_of};
use crate::domain::project::Project;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/v1/models", "list_models", list_models),
        get("/v1/models/{model}", "retrieve_model", retrieve_model),
        delete("/v1/models/{model}", "delete_model", delete_model),
        get("/v1/models/{model}/files", "list_model_files", list_model_files),
        get("/v1/models/{model}/files/{*path}", "download_model_file", download_model_file).with_patience(),
        get("/v1/models/{model}/archive", "download_model_archive", download_model_archive),
    ]
}

/// A model as OpenAI shows it, and `kind`, `family`, `root`, `fine_tuning_job_id` and `notes`, which are ours.
#[derive(Serialize)]
struct ModelView {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
    shutdown_date: Option<i64>,
    kind: &'static str,
    family: String,
    root: String,
    fine_tuning_job_id: Option<String>,
    notes: Vec<String>,
}

/// One model, with what its head predicts.
#[derive(Serialize)]
struct OneModelView {
    #[serde(flatten)]
    model: ModelView,
    /// None of models that are no classifiers.
    problem_type: Option<&'static str>,
    /// In the order of their classes; None where there are none, as of a regression.
    labels: Option<Vec<String>>,
}

impl ModelView {
    fn new(model: Model, project: &Project) -> Self {
        Self {
            object: "model",
            created: model.created_at.unix_timestamp(),
            owned_by: if model.project.is_some() { project.name.clone() } else { "system".to_owned() },
            shutdown_date: None,
            kind: model.kind.as_str(),
            family: model.family,
            notes: model.facts.notes,
            root: root_of(&model.name).to_owned(),
            fine_tuning_job_id: model.job.map(|id| id.to_string()),
            id: model.name,
        }
    }
}

impl Item for ModelView {
    fn id(&self) -> &str {
        &self.id
    }
}

/// A file of a model; its id is its path.
#[derive(Serialize)]
struct ModelFileView {
    id: String,
    object: &'static str,
    path: String,
    bytes: u64,
    sha256: String,
}

impl From<ModelFile> for ModelFileView {
    fn from(file: ModelFile) -> Self {
        let sha256 = hex(&file.sha256);
        Self { id: file.path.clone(), object: "model.file", path: file.path, bytes: file.bytes, sha256 }
    }
}

impl Item for ModelFileView {
    fn id(&self) -> &str {
        &self.id
    }
}

async fn list_models(caller: Caller, State(state): State<ApiState>) -> Answer<Json<List<ModelView>>> {
    let found = models::list(&state.app, caller.0.id).await?;
    let views: Vec<ModelView> = found.into_iter().map(|model| ModelView::new(model, &caller.0)).collect();
    Ok(Json(views.into()))
}

async fn retrieve_model(
    caller: Caller,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Answer<Json<OneModelView>> {
    let model = models::get(&state.app, caller.0.id, &name).await?;
    let head = models::head(&state.app, &model).await?.ok();
    let problem_type = head.as_ref().map(|head| head.problem.as_str());
    let labels = head.filter(|head| head.problem != ProblemType::Regression).map(|head| head.labels);
    Ok(Json(OneModelView { model: ModelView::new(model, &caller.0), problem_type, labels }))
}

async fn delete_model(caller: Caller, State(state): State<ApiState>, Path(name): Path<String>) -> Answer<Json<Value>> {
    let model = models::delete(&state.app, caller.0.id, caller.1, &name).await?;
    Ok(Json(json!({"id": model.name, "object": "model", "deleted": true})))
}

async fn list_model_files(
    caller: Caller,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Answer<Json<List<ModelFileView>>> {
    let (_, files) = models::files(&state.app, caller.0.id, &name).await?;
    let views: Vec<ModelFileView> = files.into_iter().map(ModelFileView::from).collect();
    Ok(Json(views.into()))
}

async fn download_model_file(
    caller: Caller,
    State(state): State<ApiState>,
    Path((name, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let (model, file) = models::file(&state.app, caller.0.id, &name, &path).await?;
    let download = Download {
        object: Object::of_model(&model, &file),
        filename: path.rsplit('/').next().unwrap_or(&path),
        content_type: content_type(&path),
    };
    stream::send(&state, download, &headers).await
}

async fn download_model_archive(
    caller: Caller,
    State(state): State<ApiState>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    stream::check_match(&headers, None)?;
    let (model, files) = models::files(&state.app, caller.0.id, &name).await?;
    models::check_sizes(&state.app, &model, &files).await?;
    let folder = folder_name(&name);
    let created = model.created_at.unix_timestamp().unsigned_abs();
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_LENGTH, archive::size(&files).to_string()),
        (header::CONTENT_DISPOSITION, stream::attachment(&format!("{folder}.tar"))),
    ];
    let body = Body::from_stream(archive::tar(state.app.clone(), folder, created, model, files));
    Ok((headers, body).into_response())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "json" => "application/json",
        "md" | "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// A model's name as the name of a folder: it must fit a tar header with the files below it.
fn folder_name(name: &str) -> String {
    const LONGEST: usize = 80;
    let safe = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' });
    let name: Vec<char> = safe.collect();
    name[name.len().saturating_sub(LONGEST)..].iter().collect::<String>().trim_start_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::folder_name;

    #[test]
    fn a_folder_is_named_after_the_model() {
        assert_eq!(folder_name("ft:org/m:acme::7p4lURel"), "ft-org-m-acme--7p4lURel");
        assert_eq!(folder_name("../.."), "");
        assert!(folder_name(&"x".repeat(200)).len() <= 80);
    }
}
