//! `/v1/evaluations`: any model on a file.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ApiState;
use super::context::Made;
use super::dataset_body::DatasetBody;
use super::evaluation_view::EvaluationView;
use super::extract::{Caller, JsonBody, Path};
use super::fields::{bounded, required};
use super::grading::{GraderBody, SamplingParamsBody, grading};
use super::job_body::method;
use super::job_view::EventView;
use super::jobs::identity;
use super::list::{Limit, List, page};
use super::problem::Answer;
use super::query::{self, Query};
use super::route::{Route, get, post};
use crate::app::evaluations::{self, CreateEvaluation};
use crate::app::jobs;
use crate::domain::error::Result;
use crate::domain::id::{EvaluationId, JobId};
use crate::domain::job::{DatasetOptions, JobKind};
use crate::domain::model::MODEL_NAME_CHARS;
use crate::domain::page::Order;

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/evaluations", "create_evaluation", create_evaluation),
        get("/v1/evaluations", "list_evaluations", list_evaluations).with_query(query::JOBS),
        get("/v1/evaluations/{evaluation_id}", "retrieve_evaluation", retrieve_evaluation),
        post("/v1/evaluations/{evaluation_id}/cancel", "cancel_evaluation", cancel_evaluation),
        get("/v1/evaluations/{evaluation_id}/events", "list_evaluation_events", list_evaluation_events)
            .with_query(query::PAGE),
    ]
}

/// As sent. Any field may be null, which is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateEvaluationBody {
    model: Option<String>,
    test_file: Option<String>,
    method: Option<Map<String, Value>>,
    dataset: Option<DatasetBody>,
    seed: Option<i64>,
    metadata: Option<BTreeMap<String, String>>,
    graders: Option<Vec<GraderBody>>,
    sampling_params: Option<SamplingParamsBody>,
    baseline: Option<String>,
}

impl CreateEvaluationBody {
    fn into_request(self) -> Result<CreateEvaluation> {
        let (method, hyperparameters, hyperparameters_path) = method(self.method, None)?;
        let read = self.dataset.map(DatasetBody::read_only).transpose()?.unwrap_or_default();
        Ok(CreateEvaluation {
            model: required("model", self.model)?,
            test_file: required("test_file", self.test_file)?,
            method,
            hyperparameters,
            hyperparameters_path,
            dataset: DatasetOptions { read, ..DatasetOptions::default() },
            seed: self.seed,
            metadata: self.metadata,
            grading: grading(self.graders, self.sampling_params)?,
            baseline: bounded("baseline", self.baseline, MODEL_NAME_CHARS)?,
        })
    }
}

async fn create_evaluation(
    caller: Caller,
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: JsonBody<CreateEvaluationBody>,
) -> Answer<Made<EvaluationView>> {
    let identity = identity(&headers, &body.bytes)?;
    let job = evaluations::create(&state.app, caller.0.id, body.value.into_request()?, identity).await?;
    Ok(Made(EvaluationView::from(job)))
}

async fn list_evaluations(
    caller: Caller,
    State(state): State<ApiState>,
    query: Query,
) -> Answer<Json<List<EvaluationView>>> {
    let page = page(&query, &Limit { default: 20, max: 100 }, Order::Descending)?.map(|id: EvaluationId| JobId(id.0));
    let found = jobs::list(&state.app, caller.0.id, JobKind::Evaluation, &query.jobs()?, page).await?;
    Ok(Json(found.map(EvaluationView::listed).into()))
}

async fn retrieve_evaluation(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Answer<Json<EvaluationView>> {
    let job = jobs::get(&state.app, caller.0.id, JobKind::Evaluation, &id).await?;
    let report = evaluations::report(&state.app, &job).await?;
    Ok(Json(EvaluationView::from(job).with_report(report)))
}

async fn cancel_evaluation(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Answer<Json<EvaluationView>> {
    Ok(Json(jobs::cancel(&state.app, caller.0.id, JobKind::Evaluation, &id).await?.into()))
}

async fn list_evaluation_events(
    caller: Caller,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<List<EventView>>> {
    let page = page(&query, &Limit { default: 20, max: 1000 }, Order::Descending)?;
    let found = jobs::list_events(&state.app, caller.0.id, JobKind::Evaluation, &id, page).await?;
    Ok(Json(found.map(EventView::from).into()))
}
