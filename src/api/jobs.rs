//! `/v1/fine_tuning/jobs`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::ApiState;
use super::context::Made;
use super::dry_run;
use super::example_view::ExampleView;
use super::extract::{Caller, JsonBody, Path};
use super::job_body::CreateJobBody;
use super::job_view::{CheckpointView, EvaluationsView, EventView, JobView, MetricsView};
use super::list::{Limit, List, page, window};
use super::problem::Answer;
use super::query::{self, Query};
use super::route::{Route, get, post};
use crate::app::jobs::{ExamplesRequest, RequestIdentity};
use crate::app::{App, ROWS, checkpoints, jobs};
use crate::db::jobs::JobKey;
use crate::domain::error::{Error, Result};
use crate::domain::job::JobKind;
use crate::domain::page::Order;
use crate::gather::Gather;

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/fine_tuning/jobs", "create_job", create_job).with_patience(),
        get("/v1/fine_tuning/jobs", "list_jobs", list_jobs).with_query(query::JOBS),
        get("/v1/fine_tuning/jobs/{job_id}", "retrieve_job", retrieve_job),
        post("/v1/fine_tuning/jobs/{job_id}/cancel", "cancel_job", cancel_job),
        post("/v1/fine_tuning/jobs/{job_id}/pause", "pause_job", pause_job),
        post("/v1/fine_tuning/jobs/{job_id}/resume", "resume_job", resume_job),
        get("/v1/fine_tuning/jobs/{job_id}/events", "list_job_events", list_job_events).with_query(query::PAGE),
        get("/v1/fine_tuning/jobs/{job_id}/checkpoints", "list_job_checkpoints", list_job_checkpoints)
            .with_query(query::PAGE),
        get("/v1/fine_tuning/jobs/{job_id}/metrics", "list_job_metrics", list_job_metrics).with_query(query::PAGE),
        get("/v1/fine_tuning/jobs/{job_id}/examples", "list_job_examples", list_job_examples).with_query(query::PAGE),
        get("/v1/fine_tuning/jobs/{job_id}/evaluation", "retrieve_job_evaluation", retrieve_job_evaluation),
    ]
}

async fn create_job(
    caller: Caller,
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: JsonBody<CreateJobBody>,
) -> Answer<Response> {
    let identity = identity(&headers, &body.bytes)?;
    if body.value.dry_run == Some(true) {
        let made = jobs::dry_run(&state.app, caller.0.id, body.value.into_request()?).await?;
        return dry_run::answer(made);
    }
    let job = jobs::create(&state.app, caller.0.id, body.value.into_request()?, identity).await?;
    Ok(Made(JobView::from(job)).into_response())
}

/// The longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 255;

pub(super) fn identity(headers: &HeaderMap, body: &[u8]) -> Result<RequestIdentity> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str());
    let key = match text("idempotency-key") {
        None => None,
        Some(Ok(key)) if (1..=LONGEST_KEY).contains(&key.len()) => Some(key.to_owned()),
        Some(_) => {
            let message = format!("The header Idempotency-Key must have 1 to {LONGEST_KEY} visible characters.");
            return Err(Error::invalid("idempotency-key", message));
        }
    };
    let retries = text("x-stainless-retry-count").and_then(|count| count.ok()?.parse::<u32>().ok()).unwrap_or(0);
    Ok(RequestIdentity { hash: Sha256::digest(body).into(), key, is_retry: retries > 0 })
}

async fn list_jobs(caller: Caller, State(state): State<ApiState>, query: Query) -> Answer<Json<List<JobView>>> {
    let page = page(&query, &Limit { default: 20, max: 100 }, Order::Descending)?;
    let found = jobs::list(&state.app, caller.0.id, JobKind::Training, &query.jobs()?, page).await?;
    Ok(Json(found.map(JobView::listed).into()))
}

/// Jobs as they are shown, by whose they are: who asks for one at the same time as others has the same bytes.
pub(super) type Shown = Gather<JobKey, Bytes>;

pub(super) fn shown(app: &App) -> Shown {
    let app = app.clone();
    Gather::new(ROWS, move |keys| {
        let app = app.clone();
        async move {
            let jobs = jobs::get_all(&app, &keys).await?.into_iter();
            let written = |job| serde_json::to_vec(&JobView::from(job)).map(Bytes::from).map_err(Error::internal);
            jobs.map(|(key, job)| Ok((key, written(job)?))).collect()
        }
    })
}

async fn retrieve_job(caller: Caller, State(state): State<ApiState>, Path(id): Path<String>) -> Answer<Response> {
    let kind = JobKind::Training;
    let found = state.shown_jobs.find((caller.0.id, kind, kind.job(&id)?)).await?;
    let job = found.ok_or_else(|| kind.not_found(&id))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], job).into_response())
}

async fn cancel_job(caller: Caller, State(state): State<ApiState>, Path(id): Path<String>) -> Answer<Json<JobView>> {
    Ok(Json(jobs::cancel(&state.app, caller.0.id, JobKind::Training, &id).await?.into()))
}

async fn pause_job(caller: Caller, State(state): State<ApiState>, Path(id): Path<String>) -> Answer<Json<JobView>> {
    Ok(Json(Box::pin(jobs::pause(&state.app, caller.0.id, JobKind::Training, &id)).await?.into()))
}

async fn resume_job(caller: Caller, State(state): State<ApiState>, Path(id): Path<String>) -> Answer<Json<JobView>> {
    Ok(Json(jobs::resume(&state.app, caller.0.id, JobKind::Training, &id).await?.into()))
}

async fn list_job_events(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<List<EventView>>> {
    let page = page(&query, &Limit { default: 20, max: 1000 }, Order::Descending)?;
    let found = jobs::list_events(&state.app, caller.0.id, JobKind::Training, &id, page).await?;
    Ok(Json(found.map(EventView::from).into()))
}

async fn list_job_checkpoints(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<List<CheckpointView>>> {
    let page = page(&query, &Limit { default: 10, max: 100 }, Order::Descending)?;
    let found = checkpoints::list(&state.app, caller.0.id, &id, page).await?;
    Ok(Json(found.map(CheckpointView::from).into()))
}

async fn list_job_metrics(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<List<MetricsView>>> {
    let page = page(&query, &Limit { default: 1000, max: 10_000 }, Order::Ascending)?;
    let found = jobs::list_metrics(&state.app, caller.0.id, &id, page).await?;
    Ok(Json(found.map(MetricsView::from).into()))
}

async fn list_job_examples(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<List<ExampleView>>> {
    let (after, limit) = window(&query, &Limit { default: 20, max: 1000 })?;
    let request = ExamplesRequest { after, limit, order: query.example_order()? };
    let found = jobs::examples(&state.app, caller.0.id, &id, request).await?;
    Ok(Json(found.map(ExampleView::from).into()))
}

async fn retrieve_job_evaluation(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Answer<Json<EvaluationsView>> {
    Ok(Json(jobs::evaluation(&state.app, caller.0.id, &id).await?.into()))
}
