//! `/v1/fine_tuning/preview`: what a model would read of a job's examples.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use super::ApiState;
use super::extract::{Caller, JsonBody};
use super::job_body::CreateJobBody;
use super::job_view::method_view;
use super::list::{Limit, count};
use super::problem::Answer;
use super::query::Query;
use super::route::{Route, post};
use super::stream;
use crate::app::jobs::{self, JobPreview};
use crate::app::tally::Share;
use crate::domain::preview::{MOST_EXAMPLES, Preview, Sequence, Token, USUAL_EXAMPLES};

pub(super) fn routes() -> Vec<Route> {
    let create = post("/v1/fine_tuning/preview", "create_preview", create_preview);
    vec![create.with_query(&["limit"]).with_patience().without_change()]
}

#[derive(Serialize)]
struct PreviewView {
    object: &'static str,
    model: String,
    method: Value,
    max_sequence_length: u32,
    data: Vec<ExampleView>,
}

#[derive(Serialize)]
struct ExampleView {
    object: &'static str,
    line: u64,
    /// Why it is not learned from, or fails the job.
    problem: Option<String>,
    sequences: Vec<SequenceView>,
}

#[derive(Serialize)]
struct SequenceView {
    name: String,
    token_count: usize,
    trained_tokens: usize,
    cut_tokens: usize,
    tokens: Vec<Token>,
}

impl PreviewView {
    /// The view, and what counts as under way until it is sent.
    fn of(JobPreview { spec, hyperparameters, examples, counted }: JobPreview) -> (Self, Share) {
        let (method, _) = method_view(&spec, Some(&hyperparameters));
        let view = Self {
            object: "fine_tuning.preview",
            model: spec.model,
            method,
            max_sequence_length: hyperparameters.course.max_sequence_length,
            data: examples.into_iter().map(ExampleView::from).collect(),
        };
        (view, counted)
    }
}

impl From<Preview> for ExampleView {
    fn from(Preview { line, sequences, problem }: Preview) -> Self {
        let sequences = sequences.into_iter().map(SequenceView::from).collect();
        Self { object: "fine_tuning.preview.example", line, problem, sequences }
    }
}

impl From<Sequence> for SequenceView {
    fn from(Sequence { name, tokens }: Sequence) -> Self {
        let count = |which: fn(&Token) -> bool| tokens.iter().filter(|token| which(token)).count();
        Self {
            name,
            token_count: tokens.len(),
            trained_tokens: count(|token| token.trained),
            cut_tokens: count(|token| token.cut),
            tokens,
        }
    }
}

async fn create_preview(
    caller: Caller,
    State(state): State<ApiState>,
    query: Query,
    body: JsonBody<CreateJobBody>,
) -> Answer<Response> {
    let count = count(&query, &Limit { default: USUAL_EXAMPLES, max: MOST_EXAMPLES })?;
    let preview = jobs::preview(&state.app, caller.0.id, body.value.into_request()?, count as usize).await?;
    let (view, counted) = PreviewView::of(preview);
    Ok(stream::send_json(&view, counted)?)
}
