//! `/v1/fine_tuning/alpha/graders`: trying graders out.

use std::time::Instant;

use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body;
use super::extract::{Caller, JsonBody};
use super::fields::{bounded, missing};
use super::grading::GraderBody;
use super::problem::Answer;
use super::route::{Route, post};
use crate::app::evaluations;
use crate::domain::error::{Error, Result};
use crate::domain::grading::Grader;

pub(super) fn routes() -> Vec<Route> {
    let validate = post("/v1/fine_tuning/alpha/graders/validate", "validate_grader", validate_grader);
    let run = post("/v1/fine_tuning/alpha/graders/run", "run_grader", run_grader);
    vec![validate.without_change(), run.without_change().with_body_limit(MOST_BYTES)]
}

/// The largest body, and the longest texts that are compared, in characters: some measures take as many steps as the product of
/// both texts' words.
const MOST_BYTES: usize = 128 << 10;
const MOST_CHARS: usize = 32_768;

/// Where the grader stands in a body.
const GRADER: &str = "grader";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidateBody {
    grader: Option<GraderBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunBody {
    grader: Option<GraderBody>,
    /// The example: what the templates call `item`.
    item: Option<Map<String, Value>>,
    model_sample: Option<String>,
}

#[derive(Serialize)]
struct Validated {
    grader: Grader,
}

/// What a grader gave, as OpenAI shows it.
#[derive(Serialize)]
struct Graded {
    reward: f64,
    metadata: Metadata,
    sub_rewards: Map<String, Value>,
    model_grader_token_usage_per_model: Map<String, Value>,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
    r#type: Value,
    errors: Faults,
    /// In seconds.
    execution_time: f64,
    scores: Map<String, Value>,
    token_usage: Option<u64>,
    sampled_model_name: Option<String>,
}

/// OpenAI's flags. Graders that ask models or run programs are not here, so most are never set.
#[derive(Default, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "OpenAI's object")]
struct Faults {
    formula_parse_error: bool,
    sample_parse_error: bool,
    truncated_observation_error: bool,
    unresponsive_reward_error: bool,
    invalid_variable_error: bool,
    other_error: bool,
    python_grader_server_error: bool,
    python_grader_server_error_type: Option<String>,
    python_grader_runtime_error: bool,
    python_grader_runtime_error_details: Option<String>,
    model_grader_server_error: bool,
    model_grader_refusal_error: bool,
    model_grader_parse_error: bool,
    model_grader_server_error_details: Option<String>,
}

fn read(grader: Option<GraderBody>) -> Result<Grader> {
    grader.ok_or_else(|| missing(GRADER))?.read(GRADER)
}

async fn validate_grader(_: Caller, body: JsonBody<ValidateBody>) -> Answer<Json<Validated>> {
    let grader = read(body.value.grader)?;
    evaluations::ready(&grader, GRADER)?;
    Ok(Json(Validated { grader }))
}

async fn run_grader(_: Caller, body: JsonBody<RunBody>) -> Answer<Json<Graded>> {
    let RunBody { grader, item, model_sample } = body.value;
    let grader = read(grader)?;
    let sample = bounded("model_sample", model_sample, MOST_CHARS)?.ok_or_else(|| missing("model_sample"))?;
    let item = Value::Object(item.unwrap_or_default());
    // A few texts of this size keep a processor busy for a while.
    Ok(Json(body::aside(usize::MAX, move || grade(grader, &item, &sample)).await??))
}

/// # Errors
/// A template of the grader cannot be used, or the texts to be compared are too long.
fn grade(grader: Grader, item: &Value, sample: &str) -> Result<Graded> {
    let started = Instant::now();
    let texts = evaluations::ready(&grader, GRADER)?.texts(item, sample);
    let (mut errors, mut reward) = (Faults::default(), 0.0);
    match texts {
        Err(_) => errors.invalid_variable_error = true,
        Ok((input, reference)) => {
            let longest = input.chars().count().max(reference.chars().count());
            if longest > MOST_CHARS {
                let message =
                    format!("The grader compares a text of {longest} characters; at most {MOST_CHARS} are allowed.");
                return Err(Error::invalid(GRADER, message));
            }
            reward = grader.check.score(&input, &reference);
        }
    }
    let r#type = serde_json::to_value(&grader).map_err(Error::internal)?["type"].take();
    Ok(Graded {
        reward,
        metadata: Metadata {
            scores: Map::from_iter([(grader.name.clone(), reward.into())]),
            name: grader.name,
            r#type,
            errors,
            execution_time: started.elapsed().as_secs_f64(),
            token_usage: None,
            sampled_model_name: None,
        },
        sub_rewards: Map::new(),
        model_grader_token_usage_per_model: Map::new(),
    })
}
